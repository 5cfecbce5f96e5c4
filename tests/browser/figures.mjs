// Measures the page in Chromium, on a processor that is slowed down to a phone's, and prints a table:
// node tests/browser/figures.mjs. It needs the program in release: CHATAPP=target/release/chatapp, and a quiet machine.

import { said, World } from "./world.mjs";

const SLOWDOWN = 4;
const CONVERSATIONS = 500;
const MESSAGES = 10_000;
/** An hour of 5 messages a second. */
const HOUR_MESSAGES = 18_000;
/** A minute of it, which comes at once. */
const BURST_MESSAGES = 300;
const RUNS = 5;
const KEYS = 60;
const SENDS = 30;
const SPEAKERS = 8;

const world = await World.begin({ EVENTS_PER_SECOND: "0", LOGINS_PER_MINUTE: "0", REGISTRATIONS_PER_HOUR: "0" });
const rows = [];
const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
const worst = (numbers) => Math.max(...numbers);
const row = (what, numbers, unit = "ms") => rows.push(`| ${what} | ${median(numbers).toFixed(0)} ${unit} | ${worst(numbers).toFixed(0)} ${unit} |`);

async function slow(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Emulation.setCPUThrottlingRate", { rate: SLOWDOWN });
  return session;
}

/** Milliseconds from navigation to the first frame in which the list of conversations is there. */
async function usable(page) {
  return page.evaluate(
    () =>
      new Promise((resolve) => {
        const look = () => (document.querySelector(".conversation") ? requestAnimationFrame(() => resolve(performance.now())) : requestAnimationFrame(look));
        look();
      }),
  );
}

const names = Array.from({ length: SPEAKERS }, (_, index) => `speaker${index}`);
for (const name of ["alice", ...names]) await world.register(name);
const programs = await Promise.all(names.map((name) => world.program(name)));
const [first] = programs;

async function fill(id, count) {
  let next = 0;
  const speak = async (program) => {
    while (next < count) await program.ask("send_message", { conversation_id: id, content: `message ${++next}, about as long as people write them` });
  };
  await Promise.all(programs.flatMap((program) => [1, 2, 3, 4].map(() => speak(program))));
}

for (let number = 0; number < CONVERSATIONS; number++) {
  const { id } = await first.ask("create_conversation", { members: ["alice", names[1]], name: `Conversation ${number}` });
  await first.ask("send_message", { conversation_id: id, content: "hello" });
}

const cold = [];
const warm = [];
for (let run = 0; run < RUNS; run++) {
  const page = await world.logIn(await world.window(), "alice");
  await page.locator(".conversation").first().waitFor();
  const cookies = await page.context().cookies();
  await page.context().close();
  // Nothing is kept but the login.
  const fresh = await world.window();
  await fresh.context().addCookies(cookies);
  await slow(fresh);
  await fresh.goto("/", { waitUntil: "commit" });
  cold.push(await usable(fresh));
  await fresh.evaluate(() => navigator.serviceWorker.ready);
  await fresh.waitForFunction(async () => (await caches.keys()).length === 1);
  await fresh.reload({ waitUntil: "commit" });
  warm.push(await usable(fresh));
  await fresh.context().close();
}
row(`navigation → usable, ${CONVERSATIONS} conversations, nothing stored`, cold);
row(`navigation → usable, ${CONVERSATIONS} conversations, opened before`, warm);

const { id: long } = await first.ask("create_conversation", { members: ["alice", ...names.slice(1)], name: "Long" });
const { id: original } = await first.ask("send_message", { conversation_id: long, content: "the very first" });
await fill(long, MESSAGES);
await first.ask("send_message", { conversation_id: long, content: "the very last", reply_id: original });
const page = await world.logIn(await world.window(), "alice");
await page.goto(`/#/c/${long}`);
await said(page, "the very last").getByRole("button", { name: /the very first/ }).click();
await page.getByText("This is where the conversation begins.").waitFor({ timeout: 120_000 });
await page.getByRole("button", { name: /Latest|new message/ }).click();
const session = await slow(page);
await page.locator("#message").focus();
await page.evaluate(() => {
  window.frames_ = [];
  addEventListener("keydown", ({ timeStamp }) => {
    // After the frame: a task that the frame has queued.
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => window.frames_.push(performance.now() - timeStamp);
      port2.postMessage(null);
    });
  }, true);
});
for (let key = 0; key < KEYS; key++) {
  await page.keyboard.press("abcdefgh"[key % 8]);
  await page.waitForFunction((count) => window.frames_.length > count, key);
}
row(`key press → next frame, ${MESSAGES.toLocaleString("en")} messages loaded`, await page.evaluate(() => window.frames_));

// A window of its own: a tab behind another one draws no frames.
const other = await world.logIn(await world.window(), "alice");
await other.goto(`/#/c/${long}`);
await other.locator("#message").waitFor();
await slow(other);
const delays = [];
for (let send = 0; send < SENDS; send++) {
  const text = `from the other tab ${send}`;
  const shown = page.evaluate(
    (text) =>
      new Promise((resolve) => {
        const look = () => {
          const rows = [...document.querySelectorAll(".message .text")];
          if (rows.some((row) => row.textContent === text)) resolve(performance.timeOrigin + performance.now());
          else requestAnimationFrame(look);
        };
        look();
      }),
    text,
  );
  await other.locator("#message").fill(text);
  const pressed = await other.evaluate(() => {
    const at = performance.timeOrigin + performance.now();
    document.querySelector(".send-button").click();
    return at;
  });
  delays.push((await shown) - pressed);
}
row("sent in another window → shown", delays);
await other.context().close();

const { id: busy } = await first.ask("create_conversation", { members: ["alice", ...names.slice(1)], name: "Busy" });
await page.goto(`/#/c/${busy}`);
await page.reload();
await page.locator("#message").waitFor();
const heap = async () => {
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  return usedSize / 1e6;
};
const before = await heap();
for (let sent = 0; sent < HOUR_MESSAGES; sent += BURST_MESSAGES) {
  await fill(busy, BURST_MESSAGES - 1);
  await first.ask("send_message", { conversation_id: busy, content: `minute ${sent / BURST_MESSAGES + 1} ends` });
  // A burst is much faster than people read: the list may have stayed at the first of it.
  const end = page.getByRole("button", { name: /Latest|new message/ });
  const shown = said(page, `minute ${sent / BURST_MESSAGES + 1} ends`).waitFor({ timeout: 120_000 });
  await Promise.race([shown, end.click({ timeout: 120_000 })]);
  await shown;
}
const after = await heap();
rows.push(`| memory of the scripts before ${HOUR_MESSAGES.toLocaleString("en")} messages, and after | ${before.toFixed(0)} MB | ${after.toFixed(0)} MB |`);

console.log(`| Chromium, processor ÷ ${SLOWDOWN} | median | worst |\n|---|---|---|\n${rows.join("\n")}`);
await world.end();
