// Contacts, blocking, reports, profiles, accounts, and logins on other devices.

import assert from "node:assert/strict";
import test from "node:test";
import { choose, message, open, PASSWORD, said, say, story } from "./world.mjs";

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

story(test, "a logout that the server does not hear is none", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection|ERR_INTERNET_DISCONNECTED/);
  const alice = await world.person("alice", "Alice");
  await alice.getByRole("link", { name: /settings/ }).click();
  // Offline, the list of devices would say the same.
  await alice.getByText("(this one)").waitFor();
  await alice.context().setOffline(true);
  await alice.getByRole("button", { name: "Log out on this device" }).click();
  await alice.getByText(/could not be reached/).waitFor();
  await alice.context().setOffline(false);
  await alice.getByRole("button", { name: "Log out on this device" }).click();
  await alice.getByRole("button", { name: "Log in" }).waitFor();
});

story(test, "a logout ends the login whose check at the start failed", async (world) => {
  world.expected.push(/Failed to load resource/);
  await world.register("alice", "Alice");
  const alice = await world.window();
  await alice.route("**/auth/verify", (route) => route.abort(), { times: 1 });
  await world.logIn(alice, "alice");
  await alice.getByRole("link", { name: /settings/ }).click();
  await alice.getByRole("button", { name: "Log out on this device" }).click();
  await alice.getByRole("button", { name: "Log in" }).waitFor();
  assert.equal(await alice.evaluate(async () => (await fetch("/auth/verify")).status), 401);
});

story(test, "a logout leaves no text in any tab", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection/);
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  await alice.context().grantPermissions(["notifications"], { origin: world.url });
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], name: "Secret plans" });
  const other = await world.tab(alice.context());
  await other.goto(`/#/c/${id}`);
  await other.getByRole("heading", { name: "Secret plans" }).waitFor();
  await bob.ask("send_message", { conversation_id: id, content: "a secret" });
  await other.locator("[aria-live=polite].unseen", { hasText: "a secret" }).waitFor({ state: "attached" });
  await alice.evaluate(async () => (await navigator.serviceWorker.ready).showNotification("Bob", { body: "a secret" }));
  await alice.getByRole("link", { name: /settings/ }).click();
  await alice.getByRole("button", { name: "Log out on this device" }).click();
  for (const page of [alice, other]) {
    await page.getByRole("button", { name: "Log in" }).waitFor();
    await page.waitForFunction(() => document.title === "Chat" && !/secret/i.test(document.documentElement.outerHTML));
  }
  await alice.waitForFunction(async () => (await (await navigator.serviceWorker.ready).getNotifications()).length === 0);
});

story(test, "a dialog and a menu of one user are not the next one's", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection/);
  const alice = await world.person("alice", "Alice");
  await world.register("bob", "Bob");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  const dialog = await world.tab(alice.context());
  const menu = await world.tab(alice.context());
  for (const page of [dialog, menu]) {
    await page.goto(`/#/c/${id}`);
    await message(page).waitFor();
  }
  await say(dialog, "a secret");
  await choose(dialog, "a secret", "Delete");
  await dialog.getByRole("dialog", { name: /Delete/ }).waitFor();
  const row = said(menu, "a secret").last();
  await row.hover();
  await row.getByRole("button", { name: "More" }).click();
  await menu.getByRole("menu").waitFor();
  await alice.getByRole("link", { name: /settings/ }).click();
  await alice.getByRole("button", { name: "Log out on this device" }).click();
  for (const page of [alice, dialog, menu]) {
    await page.getByRole("button", { name: "Log in" }).waitFor();
    await page.waitForFunction(() => document.querySelector("dialog, [role=menu]") === null && !/secret/i.test(document.documentElement.outerHTML));
  }
});

story(test, "what one user has begun to write is not the next one's", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection/);
  const desk = await world.person("alice", "Alice");
  await world.register("carol", "Carol");
  const program = await world.program("alice");
  await program.ask("create_conversation", { members: ["carol"], name: "Both" });
  const shared = await world.logIn(await world.window(), "alice");
  await open(shared, "Both");
  await message(shared).fill("a secret");
  await desk.getByRole("link", { name: /settings/ }).click();
  await desk.getByRole("region", { name: "Devices" }).getByRole("button", { name: /^Log out Chrome/ }).click();
  await shared.getByText("Your login has ended.").waitFor();
  await world.logIn(shared, "carol");
  await open(shared, "Both");
  assert.equal(await message(shared).inputValue(), "");
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
  for (const told of [/logged out everywhere/, /messages stay, under the name “Deleted account”/, /restores a backup .* your account comes back/]) {
    await dialog.getByText(told).waitFor();
  }
  await dialog.getByLabel("Password").fill("wrong");
  await dialog.getByRole("button", { name: "Delete account" }).click();
  await dialog.getByRole("alert").waitFor();
  await dialog.getByLabel("Password").fill("a password");
  await dialog.getByRole("button", { name: "Delete account" }).click();
  await alice.getByRole("heading", { name: "Log in" }).waitFor();
});

story(test, "a message is reported, and the operator reads it", async (world) => {
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  const program = await world.program("bob");
  const { id } = await program.ask("create_conversation", { members: ["alice"], direct: true });
  await program.ask("send_message", { conversation_id: id, content: "send me your password" });
  await open(alice, /Bob/);
  await choose(alice, "send me your password", "Report");
  const dialog = alice.getByRole("dialog", { name: "Report this message?" });
  await dialog.getByLabel("Reason").fill("he wants passwords");
  await dialog.getByRole("button", { name: "Report" }).click();
  await alice.getByText("Thank you. The message was reported.").waitFor();
  const list = await world.command("report", "list");
  for (const part of ["bob", "alice", "he wants passwords"]) assert.ok(list.includes(part), list);
  // One's own messages cannot be reported.
  await say(alice, "no");
  await said(alice, "no").hover();
  await said(alice, "no").getByRole("button", { name: "More" }).click();
  await alice.getByRole("menuitem", { name: "Edit" }).waitFor();
  assert.equal(await alice.getByRole("menuitem", { name: "Report" }).count(), 0);
});

story(test, "a password is changed, and all other devices are logged out", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection/);
  const desk = await world.person("alice", "Alice");
  const other = await world.logIn(await world.window(), "alice");
  await desk.getByRole("link", { name: /settings/ }).click();
  const section = desk.getByRole("region", { name: "Password" });
  const change = async (old, next) => {
    await section.getByLabel("Current password").fill(old);
    await section.getByLabel("New password").fill(next);
    await section.getByRole("button", { name: "Change password" }).click();
  };
  await change("not it", "another password");
  await section.getByRole("alert").getByText("wrong password").waitFor();
  await change(PASSWORD, "another password");
  await desk.getByText("The password is changed. All other devices are logged out.").waitFor();
  await other.getByText("Your login has ended. Log in again to go on as alice.").waitFor();
  // Only the new one lets the other device in again; the desk has stayed logged in.
  await other.getByLabel("Username").fill("alice");
  await other.getByLabel("Password").fill(PASSWORD);
  await other.getByRole("button", { name: "Log in" }).click();
  await other.getByRole("alert").getByText("mismatch username and password").waitFor();
  await other.getByLabel("Password").fill("another password");
  await other.getByRole("button", { name: "Log in" }).click();
  await other.getByRole("navigation", { name: "Conversations" }).waitFor();
  await desk.reload();
  await desk.getByRole("heading", { name: "Password" }).waitFor();
});

story(test, "whoever takes contacts only is not reached by others", async (world) => {
  world.expected.push(/Failed to load resource/);
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  await alice.getByRole("link", { name: /settings/ }).click();
  await alice.getByLabel("Who can start a conversation with you").selectOption("Contacts only");
  await alice.getByRole("button", { name: "Save" }).click();
  await alice.getByText("Saved.").waitFor();
  await alice.reload();
  await alice.getByRole("heading", { name: "Profile" }).waitFor();
  assert.equal(await alice.getByLabel("Who can start a conversation with you").inputValue(), "contacts");

  const bob = await world.logIn(await world.window(), "bob");
  const start = async () => {
    await bob.getByRole("button", { name: "New conversation" }).click();
    await bob.getByLabel("Find people").fill("alice");
    await bob.getByRole("list", { name: "People found" }).getByRole("button", { name: /Alice/ }).click();
    await bob.getByRole("button", { name: "Start chat" }).click();
  };
  await start();
  await bob.getByRole("alert").getByText("'alice' does not allow this").waitFor();
  // In a group neither.
  // The box goes away with it.
  await bob.getByLabel("Make it a group").click();
  await bob.getByRole("button", { name: "Create group" }).click();
  await bob.getByRole("alert").getByText("'alice' does not allow this").waitFor();
  // Nor as a contact, from the profile.
  await bob.goto("/#/u/alice");
  await bob.getByRole("button", { name: "Add contact" }).click();
  await bob.getByText("'alice' does not allow this").last().waitFor();

  // Alice adds Bob: so he is a contact.
  await alice.goto("/#/u/bob");
  await alice.getByRole("button", { name: "Add contact" }).click();
  await alice.getByRole("button", { name: "Remove contact" }).waitFor();
  await bob.getByRole("button", { name: "Remove contact" }).waitFor();
  await start();
  await say(bob, "may I?");
  await open(alice, /Bob/);
  await said(alice, "may I?").waitFor();
});

story(test, "whoever deletes the account is shown as deleted", async (world) => {
  world.expected.push(/Failed to load resource|WebSocket connection/);
  await world.register("carol", "Carol");
  const alice = await world.person("alice", "Alice");
  const bob = await world.person("bob", "Bob");
  const program = await world.program("bob");
  const { id: group } = await program.ask("create_conversation", { members: ["alice", "carol"], name: "Lunch" });
  await program.ask("send_message", { conversation_id: group, content: "pizza?" });
  const { id } = await program.ask("create_conversation", { members: ["alice"], direct: true });
  await program.ask("send_message", { conversation_id: id, content: "my last words" });
  await open(alice, "Lunch");
  await said(alice, "pizza?").getByText("Bob").waitFor();
  await bob.getByRole("link", { name: /settings/ }).click();
  await bob.getByRole("button", { name: "Delete my account" }).click();
  await bob.getByRole("dialog").getByLabel("Password").fill(PASSWORD);
  await bob.getByRole("dialog").getByRole("button", { name: "Delete account" }).click();
  await said(alice, "pizza?").getByText("Deleted account").waitFor();
  await alice.getByRole("heading", { name: "Lunch" }).waitFor();
  await alice.getByText("2 members").waitFor();
  await open(alice, /^Deleted account/);
  await said(alice, "my last words").waitFor();
  await alice.getByText("This person has deleted the account.").waitFor();
  assert.equal(await message(alice).count(), 0);
});
