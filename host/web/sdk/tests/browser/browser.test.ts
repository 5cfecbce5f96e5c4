// The library in Chromium: what a page meets that Node does not.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";

import type { Page } from "playwright-core";

import { type Stage, converse, create, pending, send, shows, startStage, state, stored } from "./stage.ts";

let stage: Stage;
before(async () => {
  stage = await startStage();
  await stage.server.register(...PEOPLE);
});
after(() => stage.end());

const PEOPLE = ["tabs", "reload", "cache", "offline", "token", "ended", "backup", "full", "refused", "strict", "killed", "friend"];

const story = (name: string, play: () => Promise<void>) =>
  // A story that fails leaves the server running to the others.
  test(name, { timeout: 120_000 }, () => play().finally(() => stage.server.start()));

story("two tabs write to one conversation, and one is closed before all is sent", async () => {
  const context = await stage.browser();
  const one = await stage.loggedIn(context, "tabs");
  const two = await stage.page(context);
  await state(two, "live");
  const id = await converse(one, ["friend"], "tabs");
  await shows(two, id, []);
  await send(one, id, "1");
  await shows(two, id, ["1"]);
  await stage.server.kill();
  await Promise.all([state(one, "waiting"), state(two, "waiting")]);
  await send(one, id, "2");
  await shows(two, id, ["1", "2"]);
  await send(two, id, "3");
  await shows(one, id, ["1", "2", "3"]);
  await one.close();
  await stage.server.start();
  await two.evaluate(() => window.chat.connect());
  await pending(two, 0);
  await shows(two, id, ["1", "2", "3"]);
  const three = await stage.page(context);
  await state(three, "live");
  await shows(three, id, ["1", "2", "3"]);
});

story("a page that is loaded anew in the middle loses nothing, and shows what it has at once", async () => {
  const context = await stage.browser();
  const page = await stage.loggedIn(context, "reload");
  const id = await converse(page, ["friend"], "reload");
  await shows(page, id, []);
  const all = Array.from({ length: 20 }, (_, index) => String(index));
  await page.evaluate(
    ([id, all]) => {
      for (const content of all) window.chat.conversation(id).send(content);
      return window.chat.flush();
    },
    [id, all] as const,
  );
  await page.reload();
  await create(page);
  await pending(page, 0);
  await shows(page, id, all);
  await stored(page);
  await stage.server.kill();
  await page.reload();
  await create(page);
  await shows(page, id, all);
  assert.equal(await page.evaluate(() => window.chat.me.get()?.username), "reload");
  await stage.server.start();
});

story("a page goes into the back/forward cache, and comes back right", async () => {
  const context = await stage.browser({ bfcache: true });
  const page = await stage.loggedIn(context, "cache");
  const other = await stage.page(context);
  await state(other, "live");
  const id = await converse(page, ["friend"], "cache");
  await shows(page, id, []);
  await page.evaluate(() => addEventListener("pageshow", ({ persisted }) => window.notes.push({ persisted })));
  // A write that is under way while the page is frozen would keep others waiting: then Chromium gives the page up.
  await page.evaluate(() => window.chat.flush());
  await page.goto("data:text/html,elsewhere");
  await send(other, id, "meanwhile");
  await pending(other, 0);
  // The event `load`, which it would wait for, does not come again.
  await page.goBack({ waitUntil: "commit" });
  const isBack = () => window.notes?.some((note) => (note as { persisted?: boolean }).persisted === true);
  await page.waitForFunction(isBack, null, { timeout: 20_000 }).catch(async () => {
    const why = await page.evaluate(() => JSON.stringify((performance.getEntriesByType("navigation")[0] as unknown as { notRestoredReasons: unknown }).notRestoredReasons));
    assert.fail(`not from the cache: ${why}`);
  });
  await state(page, "live");
  await shows(page, id, ["meanwhile"]);
});

story("a network that goes away and comes back", async () => {
  const context = await stage.browser();
  const page = await stage.loggedIn(context, "offline");
  const id = await converse(page, ["friend"], "offline");
  await shows(page, id, []);
  await context.setOffline(true);
  await page.waitForFunction(() => !navigator.onLine);
  // Chromium leaves the socket open, so that nobody notices before an answer is missing.
  await page.waitForFunction(() => window.chat.connection.get().state !== "live", null, { timeout: 60_000 });
  await send(page, id, "1", "2", "3", "4", "5");
  await page.waitForFunction(() => window.chat.isAway.get());
  await pending(page, 5);
  await context.setOffline(false);
  await pending(page, 0);
  await state(page, "live");
  await shows(page, id, ["1", "2", "3", "4", "5"]);
});

story("a token that has expired is asked anew, and one that cannot be had needs a login", async () => {
  const context = await stage.browser();
  const page = await stage.loggedIn(context, "token", { auth: "keptTokenAuth" });
  const asked = await page.evaluate(async () => {
    const { url } = (window as unknown as { options: { url: string } }).options;
    const answer = await fetch(`${url}/auth/token`, { method: "POST", body: JSON.stringify({ username: "token", password: "a long password" }) });
    const { token } = (await answer.json()) as { token: string };
    const reasons: string[] = [];
    // The signature of an expired one is as little worth as that of a forged one.
    const tokens = [`${token}x`, token];
    const auth = window.sdk.tokenAuth((reason) => (reasons.push(reason), tokens.shift() ?? null));
    const chat = window.sdk.createChat({ url, auth });
    await new Promise<void>((resolve) => chat.connection.subscribe(() => chat.connection.get().state === "live" && resolve()));
    await chat.close();
    return reasons;
  });
  assert.deepEqual(asked, ["connect", "expired"]);
});

story("a session that is ended elsewhere needs a login, and the outbox stays", async () => {
  const [here, there] = await Promise.all([stage.browser(), stage.browser()]);
  const page = await stage.loggedIn(here, "ended");
  const other = await stage.loggedIn(there, "ended");
  const id = await converse(page, ["friend"], "ended");
  await shows(page, id, []);
  await other.evaluate(async () => {
    for (const { id, current } of await window.chat.sessions()) if (!current) await window.chat.endSession(id);
  });
  await state(page, "needs-auth");
  await send(page, id, "later");
  await shows(page, id, ["later"]);
  await page.evaluate(() => window.chat.login({ username: "ended", password: "a long password" }));
  await pending(page, 0);
  await shows(other, id, ["later"]);
});

story("a restored backup is noticed, and what was written before is sent if its user says so", async () => {
  const context = await stage.browser();
  const page = await stage.loggedIn(context, "backup");
  const id = await converse(page, ["friend"], "backup");
  await send(page, id, "kept");
  await pending(page, 0);
  const copy = stage.server.file("copy.db");
  stage.server.command("backup", copy);
  await send(page, id, "lost");
  await pending(page, 0);
  await page.evaluate(() => window.chat.flush());
  await stage.server.kill();
  await state(page, "waiting");
  await send(page, id, "after it");
  stage.server.command("restore", copy);
  await stage.server.start();
  await page.evaluate(() => window.chat.connect());
  await pending(page, 0);
  await shows(page, id, ["kept", "after it"]);
  const tried = await page.evaluate(async (id) => {
    const item = window.chat.conversation(id).messages.get().items.at(-1);
    if (item?.state !== "failed") return item?.state;
    item.sent.retry();
    return (await item.sent.done).content;
  }, id);
  assert.equal(tried, "after it");
});

story("a full storage keeps nobody from talking", async () => {
  const context = await stage.browser();
  const first = await context.newPage();
  await first.goto(stage.origin);
  // Before anything is stored: Chromium remembers for a while how much room there was.
  const devtools = await context.newCDPSession(first);
  await devtools.send("Storage.overrideQuotaForOrigin", { origin: stage.origin, quotaSize: 1 });
  const page = await stage.loggedIn(context, "full");
  const id = await converse(page, ["friend"], "full");
  await shows(page, id, []);
  await send(page, id, "hi");
  await pending(page, 0);
  await page.waitForFunction(() => window.chat.storage.get() === "full");
  await shows(page, id, ["hi"]);
});

story("a storage that the browser refuses keeps nobody from talking", async () => {
  const context = await stage.browser();
  // As a browser that blocks the data of sites does it.
  await context.addInitScript(() => {
    IDBFactory.prototype.open = () => {
      throw new DOMException("access to IndexedDB is denied", "SecurityError");
    };
  });
  const page = await stage.loggedIn(context, "refused");
  const id = await converse(page, ["friend"], "refused");
  await send(page, id, "hi");
  await pending(page, 0);
  await shows(page, id, ["hi"]);
  assert.equal(await page.evaluate(() => window.chat.storage.get()), "refused");
});

story("the example component in React, with StrictMode", async () => {
  const context = await stage.browser();
  const page = await stage.loggedIn(context, "strict");
  const friend = await stage.loggedIn(await stage.browser(), "friend");
  const failures = failuresOf(page);
  await page.evaluate(() => window.sdk.show(window.chat));
  await page.getByText("Nobody is here yet.").waitFor();
  const id = await converse(friend, ["strict"], "React");
  await page.getByRole("heading", { name: "React" }).waitFor();
  await page.getByLabel("Message").fill("hello");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByRole("listitem").filter({ hasText: "hello" }).waitFor();
  await shows(friend, id, ["hello"]);
  await friend.evaluate((id) => window.chat.conversation(id).typing(), id);
  await page.getByText("friend …").waitFor();
  await send(friend, id, "hi");
  await page.getByRole("listitem").filter({ hasText: "hi" }).waitFor();
  assert.equal(await page.getByRole("listitem").count(), 2);
  assert.equal(await page.evaluate(() => window.notes.length), 2, "nothing is told twice");
  assert.deepEqual(failures, []);
});

story("the lines at the top of README run", async () => {
  const { server } = stage;
  for (const username of ["alice", "bob"]) {
    const body = JSON.stringify({ username, password: "xyz", fullname: username });
    assert.equal((await fetch(`${server.url}/register`, { method: "POST", body })).status, 201);
  }
  const [, example = ""] = /```js\n([^]*?)```/.exec(readFileSync("README.md", "utf8")) ?? [];
  // This page is not the server's own.
  const lines = example.replace(/^import .*$/gm, "").replace("createChat({", `createChat({ url: "${server.url}",`);
  const page = await (await stage.browser()).newPage();
  await page.goto(stage.origin);
  await page.waitForFunction(() => window.sdk !== undefined);
  const said: string[] = [];
  page.on("console", (message) => said.push(message.text()));
  await page.evaluate(`(async () => { const { createChat, cookieAuth, indexedDb } = window.sdk; ${lines} })()`);
  assert.ok(said.some((text) => text.includes("hello bob")), said.join("\n"));
});

story("no connection is noticed by the console of a page that is not logged in", async () => {
  const page = await (await stage.browser()).newPage();
  const failures = failuresOf(page);
  await page.addInitScript({ content: `window.options = ${JSON.stringify({ url: stage.server.url, auth: "cookieAuth" })};` });
  await page.goto(stage.origin);
  await create(page);
  await state(page, "needs-auth");
  assert.deepEqual(failures, []);
});

/** What a page has complained about. */
function failuresOf(page: Page): string[] {
  const failures: string[] = [];
  page.on("pageerror", (error) => failures.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()) && !message.text().includes("favicon")) failures.push(message.text());
  });
  return failures;
}
