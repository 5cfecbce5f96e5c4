// Searching and mentions, and jumping to what was found.

import assert from "node:assert/strict";
import test from "node:test";
import { message, open, said, say, story } from "./world.mjs";

story(test, "a search leads to the message", async (world) => {
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  await bob.ask("send_message", { conversation_id: id, content: "the crème brûlée recipe" });
  for (let count = 0; count < 150; count++) await bob.ask("send_message", { conversation_id: id, content: `filler ${count}` });
  await alice.getByRole("button", { name: "Search", exact: true }).click();
  await alice.getByRole("searchbox", { name: "Search" }).fill("creme bru");
  await alice.getByRole("list", { name: "Messages found" }).getByRole("link").click();
  await said(alice, "the crème brûlée recipe").waitFor();

  // Within the conversation; what is not there is said.
  await alice.getByRole("button", { name: "Search in this conversation" }).click();
  await alice.getByRole("searchbox", { name: "Search" }).fill("nonesuch");
  await alice.getByText("Nothing found").last().waitFor();
  await alice.getByRole("searchbox", { name: "Search" }).fill("filler 149");
  await alice.getByRole("list", { name: "Messages found" }).getByRole("link").first().click();
  await said(alice, "filler 149").waitFor();
  await open(alice, /Bob/);
});

// The server compares a thousand messages with a query that the index cannot answer exactly, and stops.
const COMPARED = 1_000;
const HITS = 40;
const PAGE = 30;

story(
  test,
  "a search goes on where the server has stopped",
  async (world) => {
    for (const name of ["bob", "carol"]) await world.register(name);
    const alice = await world.person("alice", "Alice");
    const programs = await Promise.all(["bob", "carol", "bob", "carol"].map((name) => world.program(name)));
    const [bob] = programs;
    const { id } = await bob.ask("create_conversation", { members: ["alice", "carol"], name: "Long" });
    for (let count = 0; count < HITS; count++) await bob.ask("send_message", { conversation_id: id, content: `the e-mail ${count}` });
    let left = COMPARED + 1;
    const speak = async (program) => {
      while (left-- > 0) await program.ask("send_message", { conversation_id: id, content: "no mail, e and x neither" });
    };
    await Promise.all(programs.flatMap((program) => Array.from({ length: 8 }, () => speak(program))));
    const box = alice.getByRole("searchbox", { name: "Search" });
    const hits = alice.getByRole("list", { name: "Messages found" }).getByRole("link");
    await alice.getByRole("button", { name: "Search", exact: true }).click();
    await box.fill("e-mail");
    await hits.nth(PAGE - 1).waitFor();
    assert.equal(await hits.count(), PAGE);
    await hits.first().filter({ hasText: `the e-mail ${HITS - 1}` }).waitFor();
    await alice.getByRole("button", { name: "Show more" }).click();
    await hits.nth(HITS - 1).filter({ hasText: "the e-mail 0" }).waitFor();
    assert.equal(await hits.count(), HITS);
    await alice.getByRole("button", { name: "Show more" }).waitFor({ state: "detached" });

    await box.fill("x-mail");
    await alice.getByText("Nothing found").last().waitFor();
  },
  { EVENTS_PER_SECOND: "0" },
);

story(test, "the list of mentions leads to the message", async (world) => {
  for (const name of ["bob", "carol"]) await world.register(name, name === "bob" ? "Bob" : "Carol");
  const alice = await world.person("alice", "Alice");
  await alice.getByRole("button", { name: "Mentions" }).click();
  await alice.getByText("Nobody has mentioned you yet").waitFor();

  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice", "carol"], name: "Lunch" });
  await bob.ask("send_message", { conversation_id: id, content: "@alice, who brings the plates?" });
  for (let count = 0; count < 150; count++) await bob.ask("send_message", { conversation_id: id, content: `filler ${count}` });
  const carol = await world.logIn(await world.window(), "carol");
  await open(carol, "Lunch");
  await message(carol).fill("@all, it is at one");
  await message(carol).press("Enter");
  await said(carol, "it is at one").waitFor();

  // The list is as it was; opened again, it has both, the newest first.
  await alice.goto("/#/");
  await alice.getByRole("button", { name: "Mentions" }).click();
  const hits = alice.getByRole("list", { name: "Messages found" }).getByRole("link");
  await hits.nth(1).waitFor();
  await hits.nth(0).filter({ hasText: /Carol.*Lunch.*it is at one/ }).waitFor();
  await hits.nth(1).filter({ hasText: /Bob.*Lunch.*the plates/ }).click();
  await said(alice, "who brings the plates?").waitFor();
  await alice.getByRole("heading", { name: "Lunch" }).waitFor();
  await say(alice, "I do");
  await said(carol, "I do").waitFor();
});
