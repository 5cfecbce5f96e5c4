// What people write: several lines, marks, links, emojis by their names; and all of it at twice the size.

import assert from "node:assert/strict";
import test from "node:test";
import { message, open, PHONE, said, say, story } from "./world.mjs";

story(test, "what is written is shown as it was meant", async (world) => {
  const alice = await world.person("alice", "Alice");
  const bob = await world.person("bob", "Bob");
  const program = await world.program("bob");
  await program.ask("create_conversation", { members: ["alice"], direct: true });
  await open(alice, /Bob/);
  await open(bob, /Alice/);

  // Enter sends, and Shift+Enter begins a line.
  await message(alice).pressSequentially("first line");
  await message(alice).press("Shift+Enter");
  await message(alice).pressSequentially("second line");
  await message(alice).press("Enter");
  assert.equal(await said(bob, "first line").locator(".text").innerText(), "first line\nsecond line");

  await say(alice, "**bold** and `code`, see https://chat.example/a?b=c\n```\nlet a = 1;\n```");
  const marked = said(bob, "bold");
  assert.equal(await marked.locator("strong").innerText(), "bold");
  assert.equal(await marked.locator("pre").innerText(), "let a = 1;");
  const link = marked.getByRole("link", { name: "chat.example/a?b=c" });
  assert.equal(await link.getAttribute("href"), "https://chat.example/a?b=c");
  assert.match(await link.getAttribute("rel"), /noopener.*noreferrer/);

  await message(alice).pressSequentially("ready :rocke");
  await alice.getByRole("option", { name: /rocket/ }).waitFor();
  await message(alice).press("Enter");
  await message(alice).press("Enter");
  await said(bob, "ready 🚀").waitFor();
});

story(test, "the latest message stays in sight while the list gets lower", async (world) => {
  const alice = await world.person("alice", "Alice", PHONE);
  const bob = (await world.register("bob", "Bob"), await world.program("bob"));
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  for (let number = 1; number <= 30; number++) await bob.ask("send_message", { conversation_id: id, content: `number ${number}` });
  await alice.goto(`/#/c/${id}`);
  const isAtEnd = () =>
    alice.waitForFunction(() => {
      const box = document.querySelector(".messages");
      return box && box.scrollHeight > box.clientHeight && box.scrollHeight - box.clientHeight - box.scrollTop <= 1;
    });
  await alice.getByRole("button", { name: /Latest|new message/ }).tap();
  await isAtEnd();
  await message(alice).fill("one\ntwo\nthree\nfour");
  await isAtEnd();
  // As much as a keyboard takes.
  await alice.setViewportSize({ width: 390, height: 500 });
  await isAtEnd();
});

story(test, "one line stands before what is new", async (world) => {
  for (const name of ["alice", "bob"]) await world.register(name, name === "bob" ? "Bob" : "Alice");
  const [other, bob] = [await world.program("alice"), await world.program("bob")];
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  // She answers on another device, which does not say that she has read it.
  for (const [person, content] of [[bob, "one"], [other, "two"], [bob, "three"]]) await person.ask("send_message", { conversation_id: id, content });
  const alice = await world.logIn(await world.window(), "alice");
  await open(alice, /Bob/);
  await said(alice, "three").waitFor();
  assert.equal(await alice.getByText("New messages", { exact: true }).count(), 1);
});

story(test, "text at twice its size fits", async (world) => {
  const alice = await world.person("alice", "Alice", PHONE);
  await world.register("bob", "Bob");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], name: "Lunch" });
  await bob.ask("send_message", { conversation_id: id, content: "at the usual place, or somewhere else?" });
  for (const path of ["#/", `#/c/${id}`, `#/c/${id}/details`, "#/new", "#/people", "#/search", "#/settings"]) {
    await alice.goto(`/${path}`);
    await alice.evaluate(() => (document.documentElement.style.fontSize = "200%"));
    await alice.locator("h1:visible").first().waitFor();
    assert.ok(await alice.evaluate(() => document.documentElement.scrollWidth <= innerWidth), path);
  }
  await alice.goto(`/#/c/${id}`);
  const title = await alice.getByRole("heading", { name: "Lunch", level: 1 }).boundingBox();
  assert.ok(title.width > 80, `the name has ${title.width} pixels`);
  await say(alice, "somewhere else");
  await said(alice, "somewhere else").getByText(/Sent|Read/).waitFor();
});
