// A group: its name, its members, and who may do what.

import assert from "node:assert/strict";
import test from "node:test";
import { message, open, said, say, story } from "./world.mjs";

story(test, "a group with roles", async (world) => {
  for (const name of ["bob", "carol"]) await world.register(name, name === "bob" ? "Bob" : "Carol");
  const alice = await world.person("alice", "Alice");
  const bob = await world.logIn(await world.window(), "bob");
  const carol = await world.logIn(await world.window(), "carol");
  await alice.getByRole("button", { name: "New conversation" }).click();
  for (const name of ["bob", "carol"]) {
    await alice.getByLabel(/Find people|Add more people/).fill(name);
    await alice.getByRole("list", { name: "People found" }).getByRole("button", { name: new RegExp(name, "i") }).first().click();
  }
  await alice.getByLabel("Group name").fill("Lunch");
  await alice.getByRole("button", { name: "Create group" }).click();
  await alice.getByRole("heading", { name: "Lunch" }).waitFor();

  // A mention is completed, and counted for whom it mentions.
  await message(alice).pressSequentially("pizza, @bo");
  await alice.getByRole("option", { name: /bob/i }).waitFor();
  await message(alice).press("Enter");
  assert.equal(await message(alice).inputValue(), "pizza, @bob ");
  await message(alice).press("Enter");
  const inList = bob.getByRole("navigation", { name: "Conversations" }).getByRole("link", { name: /Lunch/ });
  await inList.getByText("1 mention").waitFor();
  await bob.waitForFunction(() => document.title.startsWith("(1)"));
  await open(bob, /Lunch/);
  await said(bob, "pizza, @bob").waitFor();
  await inList.getByText("1 mention").waitFor({ state: "detached" });
  await bob.waitForFunction(() => !document.title.startsWith("("));

  // Bob may not rename it, until he is an admin.
  await bob.getByRole("button", { name: "Details" }).click();
  await bob.getByRole("heading", { name: "Members" }).waitFor();
  assert.equal(await bob.getByRole("button", { name: "Rename" }).count(), 0);
  await alice.getByRole("button", { name: "Details" }).click();
  await alice.getByRole("button", { name: "More about Bob" }).click();
  await alice.getByRole("menuitem", { name: "Make admin" }).click();
  await bob.getByLabel("Group name").fill("Dinner");
  await bob.getByRole("button", { name: "Rename" }).click();
  await carol.getByRole("link", { name: /Dinner/ }).waitFor();

  // Carol is removed, and sees nothing of it any more.
  await open(carol, /Dinner/);
  await bob.getByRole("button", { name: "More about Carol" }).click();
  await bob.getByRole("menuitem", { name: "Remove from group" }).click();
  await bob.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await carol.getByText("This conversation is not here").waitFor();
  await carol.getByRole("link", { name: /Dinner/ }).waitFor({ state: "detached" });

  // The owner leaves; the admin is owner then.
  await alice.getByRole("button", { name: "Leave conversation" }).click();
  await alice.getByRole("dialog").getByRole("button", { name: "Leave" }).click();
  await alice.getByText("Nobody here yet").waitFor();
  await bob.getByRole("main").getByText("Owner").waitFor();
  await bob.getByRole("button", { name: "Back" }).click();
  await say(bob, "alone");
  await said(bob, "alone").waitFor();
});

story(test, "a member with the name of a property of every object", async (world) => {
  await world.register("alice", "Alice");
  const member = await world.person("constructor", "Connie");
  const program = await world.program("alice");
  const { id } = await program.ask("create_conversation", { members: ["constructor"], name: "Lunch" });
  await member.goto(`/#/c/${id}/details`);
  await member.getByRole("button", { name: "More about Connie" }).waitFor();
  for (const name of ["Rename", "Add people"]) assert.equal(await member.getByRole("button", { name }).count(), 0);
});
