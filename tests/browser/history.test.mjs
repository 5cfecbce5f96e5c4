// A long conversation: ten thousand messages, scrolled to the top and back without a jump.

import assert from "node:assert/strict";
import test from "node:test";
import { open, said, story } from "./world.mjs";

const MESSAGES = 10_000;
/** As many as the limits of one user ask for. */
const SPEAKERS = 12;
const SOCKETS_EACH = 4;

/** Everybody speaks at once; message n says so. */
async function speak(world, names, conversation) {
  let next = 0;
  const program = async (name) => {
    const socket = await world.program(name);
    while (next < MESSAGES) {
      const number = ++next;
      await socket.ask("send_message", { conversation_id: conversation, content: text(number) });
    }
    socket.close();
  };
  await Promise.all(names.flatMap((name) => Array.from({ length: SOCKETS_EACH }, () => program(name))));
}

/** Of many heights. */
const text = (number) => `number ${number}${number % 7 === 0 ? ` ${"and so on ".repeat(number % 60)}` : ""}${number % 11 === 0 ? "\n\ntwo\nmore" : ""}`;

story(test, "ten thousand messages", async (world) => {
  const names = Array.from({ length: SPEAKERS }, (_, index) => `speaker${index}`);
  await Promise.all(names.map((name) => world.register(name)));
  const alice = await world.person("alice", "Alice");
  const first = await world.program(names[0]);
  const { id } = await first.ask("create_conversation", { members: ["alice", ...names.slice(1)], name: "Long" });
  const original = await first.ask("send_message", { conversation_id: id, content: "the very first" });
  await speak(world, names, id);
  await first.ask("send_message", { conversation_id: id, content: "the very last", reply_id: original.id });
  await alice.getByRole("link", { name: /Long/ }).getByText("the very last").waitFor();
  await open(alice, /Long/);
  const list = alice.locator(".messages");

  // It opens at the end. The first new message, here the first of all, is a button away.
  const theFirst = alice.getByRole("article", { name: /^speaker0: the very first,/ });
  await said(alice, "the very last").waitFor();

  // Up, wheel by wheel: what is seen moves with the wheel, also while older ones arrive.
  await list.hover();
  const anchor = () =>
    list.evaluate((box) => {
      const top = box.getBoundingClientRect().top;
      const rows = [...box.querySelectorAll("[data-key]")];
      const row = rows.find((row) => row.getBoundingClientRect().top > top + 100);
      return row && { key: row.dataset.key, top: row.getBoundingClientRect().top };
    });
  const topOf = (key) => list.evaluate((box, key) => box.querySelector(`[data-key="${key}"]`)?.getBoundingClientRect().top, key);
  for (let turn = 0; turn < 40; turn++) {
    const before = await anchor();
    const scrolled = await list.evaluate(
      (box) =>
        new Promise((resolve) => {
          const from = box.scrollTop;
          const height = box.scrollHeight;
          box.scrollBy({ top: -300, behavior: "instant" });
          // After the frames in which rows are measured and older messages are put before them.
          requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(() => resolve({ from, height }))));
        }),
    );
    if (scrolled.from < 300) continue;
    const now = await topOf(before.key);
    if (now === undefined) continue;
    assert.ok(Math.abs(now - before.top - 300) < 4, `turn ${turn}: moved by ${now - before.top} instead of 300`);
  }

  // To the very first and back, twice: as what is new, and by the reply to it.
  await alice.getByRole("button", { name: "First new message" }).click();
  await theFirst.waitFor({ timeout: 60_000 });
  await alice.getByRole("button", { name: /Latest|new messages/ }).click();
  await said(alice, "the very last").getByRole("button", { name: /the very first/ }).click();
  await theFirst.waitFor();
  await alice.getByText("This is where the conversation begins.").waitFor();
  const [rows, size] = await list.evaluate((box) => [box.querySelectorAll("article").length, box.querySelector("[aria-setsize]").ariaSetSize]);
  assert.ok(rows < 100, `${rows} rows are in the page`);
  assert.equal(size, String(MESSAGES + 2));
  await alice.getByRole("button", { name: /Latest|new messages/ }).click();
  await said(alice, "the very last").waitFor();
  // What comes then is shown, without a question to the styles for each of the ten thousand.
  await alice.evaluate(() => {
    const ask = window.getComputedStyle;
    window.asked = 0;
    window.getComputedStyle = (...given) => (window.asked++, ask(...given));
  });
  await first.ask("send_message", { conversation_id: id, content: "one more" });
  await said(alice, "one more").waitFor();
  const asked = await alice.evaluate(() => window.asked);
  assert.ok(asked < 100, `the styles were asked ${asked} times`);
});
