// Searching, and jumping to what was found.

import test from "node:test";
import { open, said, story } from "./world.mjs";

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
