// Hundreds of messages a second in the open conversation: who is at its end stays there, and may leave it.

import assert from "node:assert/strict";
import test from "node:test";
import { open, said, story } from "./world.mjs";

const SPEAKERS = 8;
const SOCKETS_EACH = 4;
const MESSAGES = 1_000;
/** As on a phone. */
const SLOWDOWN = 4;
/** So many arrive while the page cannot draw. */
const AT_ONCE = 100;
const BUSY_MILLISECONDS = 2_000;

/** Of many heights, most of them not what the list expects. */
const text = (number) => `number ${number}${number % 5 === 0 ? ` ${"and so on ".repeat(number % 40)}` : ""}${number % 7 === 0 ? "\n\ntwo\nmore" : ""}`;

async function flood(programs, conversation, from, count) {
  let next = from;
  const speak = async (program) => {
    while (next < from + count) await program.ask("send_message", { conversation_id: conversation, content: text(next++) });
  };
  await Promise.all(programs.map(speak));
}

async function tell(world) {
  const names = Array.from({ length: SPEAKERS }, (_, index) => `speaker${index}`);
  await Promise.all(names.map((name) => world.register(name)));
  const alice = await world.person("alice", "Alice");
  const programs = await Promise.all(names.flatMap((name) => Array.from({ length: SOCKETS_EACH }, () => world.program(name))));
  const [first] = programs;
  const { id } = await first.ask("create_conversation", { members: ["alice", ...names.slice(1)], name: "Busy" });
  const say = (content) => first.ask("send_message", { conversation_id: id, content });
  for (let number = 0; number < 40; number++) await say(text(number));
  await open(alice, /Busy/);
  const list = alice.locator(".messages");
  const toEnd = alice.getByRole("button", { name: /^(Latest|\d+ new messages?)$/ });
  await toEnd.click();
  await toEnd.waitFor({ state: "detached" });
  const session = await alice.context().newCDPSession(alice);
  await session.send("Emulation.setCPUThrottlingRate", { rate: SLOWDOWN });

  // The button that leads to the end never shows.
  await alice.evaluate(() => {
    window.away = 0;
    const look = () => {
      if (document.querySelector(".to-end")) window.away++;
      requestAnimationFrame(look);
    };
    look();
  });
  await flood(programs, id, 100, MESSAGES);
  await say("the flood ends");
  await said(alice, "the flood ends").waitFor();
  assert.equal(await alice.evaluate(() => window.away), 0, "frames in which the reader was not at the end");
  await alice.waitForFunction(() => {
    const box = document.querySelector(".messages");
    return box.scrollHeight - box.clientHeight - box.scrollTop <= 1;
  });

  // What arrives before a frame is drawn at once.
  await alice.evaluate(() => {
    window.drawings = 0;
    new MutationObserver(() => window.drawings++).observe(document.querySelector("[aria-label=Messages]"), { attributeFilter: ["style"] });
  });
  const busy = alice.evaluate((until) => {
    while (Date.now() < until);
  }, Date.now() + BUSY_MILLISECONDS);
  await flood(programs, id, 5_000, AT_ONCE);
  await busy;
  await say("drawn at once");
  await said(alice, "drawn at once").waitFor();
  const drawings = await alice.evaluate(() => window.drawings);
  assert.ok(drawings < AT_ONCE / 2, `${drawings} drawings of ${AT_ONCE} messages`);

  // Who scrolls back in the middle of it reads on.
  const flooded = flood(programs, id, 10_000, MESSAGES);
  await said(alice, /number 10[1-9]\d\d/).last().waitFor();
  await list.hover();
  await alice.mouse.wheel(0, -300);
  await toEnd.waitFor();
  const shown = () =>
    list.evaluate((box) => {
      const { top, bottom } = box.getBoundingClientRect();
      const rows = [...box.querySelectorAll("[data-key]")];
      const seen = rows.filter((row) => row.getBoundingClientRect().top >= top && row.getBoundingClientRect().bottom <= bottom);
      return seen.map((row) => row.dataset.key);
    });
  const before = await shown();
  await flooded;
  await say("far below");
  await alice.getByRole("navigation", { name: "Conversations" }).getByText("far below").waitFor();
  const after = await shown();
  assert.ok(before.some((key) => after.includes(key)), "the reader was moved away");
  await toEnd.click();
  await said(alice, "far below").waitFor();
}

story(test, "a flood of messages", tell, { EVENTS_PER_SECOND: "0", LOGINS_PER_MINUTE: "0", REGISTRATIONS_PER_HOUR: "0" });
