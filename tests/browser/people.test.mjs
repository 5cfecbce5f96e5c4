// Contacts, blocking, profiles, and logins on other devices.

import test from "node:test";
import { message, open, said, say, story } from "./world.mjs";

story(test, "a contact comes and goes, and is blocked", async (world) => {
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  await alice.getByRole("button", { name: "People" }).click();
  await alice.getByText("No contacts yet").waitFor();
  await alice.getByLabel("Find people").fill("Bo");
  await alice.getByRole("list", { name: "People found" }).getByRole("button", { name: /Bob/ }).click();
  await alice.getByRole("link", { name: /Bob.*Last seen/ }).waitFor();
  const bob = await world.logIn(await world.window(), "bob");
  await alice.getByRole("link", { name: /Bob.*Online/ }).click();
  await alice.getByRole("button", { name: "Write a message" }).click();
  await say(alice, "hello");
  await open(bob, /Alice/);
  await said(bob, "hello").waitFor();

  world.expected.push(/Failed to load resource/);
  await alice.getByRole("button", { name: "Details" }).click();
  await alice.getByRole("button", { name: "Block" }).click();
  await alice.getByRole("dialog").getByRole("button", { name: "Block" }).click();
  await alice.getByText("You have blocked this person.").waitFor();
  await alice.getByRole("button", { name: "Back" }).click();
  await alice.getByRole("button", { name: "Unblock" }).waitFor();
  await say(bob, "are you there?");
  await said(bob, "are you there?").getByText(/Not sent/).waitFor();
  await said(bob, "are you there?").getByRole("button", { name: "Discard" }).waitFor();
  await alice.getByRole("button", { name: "Unblock" }).click();
  await message(alice).waitFor();
  await said(bob, "are you there?").getByRole("button", { name: "Try again" }).click();
  await said(alice, "are you there?").waitFor();
});

story(test, "a profile is changed, and everyone sees it", async (world) => {
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  const program = await world.program("alice");
  await program.ask("add_contact", { contact_username: "bob" });
  await program.ask("create_conversation", { members: ["bob"], direct: true });
  const bob = await world.logIn(await world.window(), "bob");
  await open(bob, "Alice");
  await alice.getByRole("link", { name: /settings/ }).click();
  await alice.getByLabel("Full name").fill("Alice of the Lake");
  await alice.getByRole("button", { name: "Save" }).click();
  await bob.getByRole("heading", { name: "Alice of the Lake" }).waitFor();
});

story(test, "a login on another device is ended", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection/);
  const desk = await world.person("alice", "Alice");
  const other = await world.logIn(await world.window(), "alice");
  await desk.getByRole("link", { name: /settings/ }).click();
  const devices = desk.getByRole("region", { name: "Devices" });
  await devices.getByRole("button", { name: /^Log out Chrome/ }).click();
  await other.getByText("Your login has ended.").waitFor();
  await other.getByLabel("Password").waitFor();
  await desk.getByText("(this one)").waitFor();
});

story(test, "an account is exported and deleted", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection/);
  const alice = await world.person("alice", "Alice");
  await alice.getByRole("link", { name: /settings/ }).click();
  const download = alice.waitForEvent("download");
  await alice.getByRole("button", { name: "Export my data" }).click();
  await download;
  await alice.getByRole("button", { name: "Delete my account" }).click();
  const dialog = alice.getByRole("dialog");
  await dialog.getByLabel("Password").fill("wrong");
  await dialog.getByRole("button", { name: "Delete account" }).click();
  await dialog.getByRole("alert").waitFor();
  await dialog.getByLabel("Password").fill("a password");
  await dialog.getByRole("button", { name: "Delete account" }).click();
  await alice.getByRole("heading", { name: "Log in" }).waitFor();
});
