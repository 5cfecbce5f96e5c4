// The size of a phone: one pane at a time, and fingers.

import assert from "node:assert/strict";
import test from "node:test";
import { message, open, PHONE, said, say, story } from "./world.mjs";

story(test, "on a phone", async (world) => {
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice", PHONE);
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  await bob.ask("send_message", { conversation_id: id, content: "are you there?" });
  const main = alice.locator("#main");
  const list = alice.getByRole("navigation", { name: "Conversations" });
  assert.equal(await main.isVisible(), false);
  await open(alice, /Bob/);
  assert.equal(await list.isVisible(), false);
  await said(alice, "are you there?").waitFor();
  await message(alice).tap();
  await message(alice).fill("yes");
  // Enter begins a line there; the button sends.
  await message(alice).press("Enter");
  await message(alice).pressSequentially("here");
  await alice.getByRole("button", { name: "Send" }).tap();
  await said(alice, "yes").getByText(/Sent|Read/).waitFor();
  const sent = await bob.ask("get_messages", { conversation_id: id, limit: 1 });
  assert.equal(sent.messages[0].content, "yes\nhere");

  // A tap on a message opens what can be done with it.
  await said(alice, "are you there?").getByText("are you there?").tap();
  await alice.getByRole("menuitem", { name: "React with 👍" }).tap();
  await said(alice, "are you there?").getByRole("button", { name: /thumbs up|👍/ }).waitFor();

  // Nothing is wider than the screen, on any pane.
  const fits = () => alice.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  assert.ok(await fits());
  await alice.getByRole("button", { name: "Back" }).tap();
  await list.waitFor();
  assert.ok(await fits());
  for (const path of ["#/new", "#/people", "#/search", "#/mentions", "#/settings", `#/c/${id}/details`]) {
    await alice.goto(`/${path}`);
    await alice.getByRole("heading", { level: 1 }).last().waitFor();
    assert.ok(await fits(), path);
  }
  await say(await world.logIn(await world.window(), "bob").then(async (page) => (await open(page, /Alice/), page)), "bye");
});

story(test, "long names and words fit on a phone", async (world) => {
  const long = "Maximiliana Dudelsackpfeifenmachergesellenvereinsvorsitzende von und zu Hohenlohe-Waldenburg";
  await world.register("bob", long);
  const alice = await world.person("alice", "Alice", PHONE);
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], name: long });
  await bob.ask("send_message", { conversation_id: id, content: `@alice, see https://example.com/${"x".repeat(200)}` });
  const fits = async () => {
    const [shown, whole] = await alice.locator(".page-body").evaluate((body) => [body.clientWidth, body.scrollWidth]);
    assert.ok(whole <= shown, `${alice.url()}: ${whole} > ${shown}`);
  };
  await alice.goto("/#/search");
  await alice.getByRole("searchbox", { name: "Search" }).fill("see");
  await alice.getByRole("list", { name: "Messages found" }).getByRole("link").waitFor();
  await fits();
  await alice.goto("/#/mentions");
  await alice.getByRole("list", { name: "Messages found" }).getByRole("link").waitFor();
  await fits();
  await alice.goto("/#/new");
  await alice.getByLabel("Find people").fill("bob");
  await alice.getByRole("list", { name: "People found" }).getByRole("button", { name: /Maxi/ }).click();
  await alice.getByRole("button", { name: `Remove ${long}` }).waitFor();
  await fits();
  await alice.goto(`/#/c/${id}/details`);
  await alice.getByRole("heading", { name: "Members" }).waitFor();
  await fits();
});
