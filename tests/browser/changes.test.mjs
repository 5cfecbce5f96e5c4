// Messages that are edited, deleted, reacted to and answered, in several tabs.

import test from "node:test";
import { choose, message, open, said, say, story } from "./world.mjs";

story(test, "changes show in every tab", async (world) => {
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  const a = await world.program("alice");
  await a.ask("create_conversation", { members: ["bob"], direct: true });
  const bob = await world.logIn(await world.window(), "bob");
  await open(alice, /Bob/);
  await open(bob, /Alice/);
  await say(alice, "frist");
  await say(alice, "second");
  await said(bob, "second").waitFor();

  await choose(alice, "frist", "Edit");
  await message(alice).fill("first");
  await alice.getByRole("button", { name: "Save" }).click();
  await said(bob, "first").getByText("Edited").waitFor();

  // The arrow up in an empty field edits the last one; Escape lets it be.
  await message(alice).press("ArrowUp");
  await alice.getByText("Edit", { exact: true }).waitFor();
  await message(alice).press("Escape");
  await alice.getByText("Edit", { exact: true }).waitFor({ state: "detached" });

  await choose(bob, "second", "React with 🎉");
  await said(alice, "second").getByRole("button", { name: /tada|🎉/ }).click();
  await said(bob, "second").getByRole("button", { name: /tada|🎉/ }).getByText("2").waitFor();

  const row = said(bob, "first");
  await row.hover();
  await row.getByRole("button", { name: "Reply" }).click();
  await say(bob, "an answer");
  await said(alice, "an answer").getByRole("button", { name: "You first" }).waitFor();

  // Another tab of alice's browser has it all, and so has what is deleted there.
  const second = await world.tab(alice.context());
  await second.goto("/");
  await open(second, /Bob/);
  await said(second, "an answer").waitFor();
  await choose(second, "second", "Delete");
  await second.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  for (const page of [alice, bob, second]) await said(page, "This message was deleted.").waitFor();

  // A draft is kept for each conversation, through a reload.
  await message(alice).fill("to be continued");
  await alice.reload();
  await alice.waitForFunction(() => document.querySelector("#message")?.value === "to be continued");
});
