// Without a connection: what is written waits, what is known can be read, and nothing comes twice.

import assert from "node:assert/strict";
import { join } from "node:path";
import test from "node:test";
import { message, open, said, say, story } from "./world.mjs";

const LOST = /Failed to load resource|WebSocket connection to|net::ERR/;

/** Alice and Bob, who have opened their conversation. */
async function two(world) {
  world.expected.push(LOST);
  await world.register("bob", "Bob");
  const alice = await world.person("alice", "Alice");
  const program = await world.program("alice");
  await program.ask("create_conversation", { members: ["bob"], direct: true });
  program.close();
  const bob = await world.logIn(await world.window(), "bob");
  await open(alice, /Bob/);
  await open(bob, /Alice/);
  await say(alice, "before");
  await said(bob, "before").waitFor();
  return { alice, bob };
}

const FIVE = ["one", "two", "three", "four", "five"];

/** Everything that was said, in its order. */
const all = (page) => page.getByRole("list", { name: "Messages" }).getByRole("article").locator(".text").allTextContents();

story(test, "offline, five messages, online", async (world) => {
  const { alice, bob } = await two(world);
  world.gateway.cut();
  await alice.context().setOffline(true);
  for (const text of FIVE) await say(alice, text);
  await alice.getByText("You are offline. 5 messages will be sent when it is back.").waitFor();
  assert.deepEqual(await all(alice), ["before", ...FIVE]);
  await said(alice, "five").getByText("Not sent yet").waitFor();

  world.gateway.mend();
  await alice.context().setOffline(false);
  await said(bob, "five").waitFor();
  await said(alice, "five").getByText(/Sent|Read/).waitFor();
  await alice.getByText("You are offline.").waitFor({ state: "detached" });
  for (const page of [alice, bob]) assert.deepEqual(await all(page), ["before", ...FIVE]);
});

story(test, "the server is killed in the middle of typing, and started again", async (world) => {
  const { alice, bob } = await two(world);
  await message(alice).pressSequentially("half a sen");
  await world.kill();
  await message(alice).pressSequentially("tence");
  await message(alice).press("Enter");
  await alice.getByText("1 message will be sent when it is back.").waitFor();
  await world.start();
  await alice.getByRole("button", { name: "Try now" }).click({ timeout: 3_000 }).catch(() => {});
  await said(bob, "half a sentence").waitFor();
  await say(bob, "and back");
  await said(alice, "and back").waitFor();
  for (const page of [alice, bob]) assert.deepEqual(await all(page), ["before", "half a sentence", "and back"]);
});

story(test, "the page opens without a connection, to read", async (world) => {
  const { alice } = await two(world);
  await alice.evaluate(() => navigator.serviceWorker.ready);
  // What was said is on the device.
  await alice.waitForFunction(async () => (await caches.keys()).length === 1);
  await alice.reload();
  await said(alice, "before").waitFor();
  await world.kill();
  world.gateway.cut();
  await alice.reload();
  await said(alice, "before").waitFor();
  await alice.getByRole("navigation", { name: "Conversations" }).getByRole("link", { name: /Bob/ }).waitFor();
  await say(alice, "written without a connection");
  await said(alice, "written without a connection").getByText("Not sent yet").waitFor();
  await world.start();
  world.gateway.mend();
  await said(alice, "written without a connection").getByText(/Sent|Read/).waitFor();
});

/** Waits until the page's files are on the device. */
async function installed(page) {
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(async () => (await caches.keys()).length === 1);
}

story(test, "the page opens without a connection, also if the browser has dropped its own copies of the files", async (world) => {
  const { alice } = await two(world);
  await installed(alice);
  const browser = await alice.context().newCDPSession(alice);
  await browser.send("Network.enable");
  await browser.send("Network.clearBrowserCache");
  await world.kill();
  world.gateway.cut();
  await alice.reload();
  await said(alice, "before").waitFor();
});

story(test, "files of another release are not kept as those of this one", async (world) => {
  world.expected.push(LOST);
  await world.register("alice", "Alice");
  const page = await world.window();
  // In an upgrade, a host that is not upgraded yet answers to an address with the new hash.
  let isUpgraded = false;
  let answered;
  const isAnswered = new Promise((resolve) => (answered = resolve));
  await page.context().route(/app\.css/, async (route) => {
    if (isUpgraded || !route.request().serviceWorker()) return route.continue();
    await route.fulfill({ contentType: "text/css", headers: { "cache-control": "no-cache" }, body: "/* of another release */" });
    answered();
  });
  await world.logIn(page, "alice");
  await isAnswered;
  await page.waitForFunction(() => navigator.serviceWorker.getRegistration().then((found) => found === undefined));
  assert.deepEqual(await page.evaluate(() => caches.keys()), []);
  isUpgraded = true;
  await page.reload();
  await installed(page);
  const kept = await page.evaluate(async () => (await caches.match(document.querySelector("link[rel=stylesheet]").href)).text());
  assert.ok(kept.length > 1_000, kept);
});

story(test, "what waited while a backup was restored is sent only where its writer says so", async (world) => {
  world.expected.push(LOST);
  for (const name of ["Bob", "Carol", "Dave"]) await world.register(name.toLowerCase(), name);
  const alice = await world.person("alice", "Alice");
  const copy = join(world.folder, "copy.db");
  await world.command("backup", copy);
  const create = async (username, fields) => {
    const program = await world.program(username);
    await program.ask("create_conversation", fields);
    program.close();
  };
  await create("alice", { members: ["dave"], direct: true });
  await create("alice", { members: ["bob"], name: "gone" });
  await open(alice, /gone/);
  await world.kill();
  await say(alice, "for nobody");
  await open(alice, /Dave/);
  await say(alice, "for Dave only");
  await alice.getByText("2 messages will be sent when it is back.").waitFor();
  await world.command("restore", copy);
  await world.start();
  // It gets the id that the one with Dave had.
  await create("carol", { members: ["alice", "bob"], name: "three" });
  await alice.getByRole("heading", { name: "three" }).waitFor();
  await said(alice, "for Dave only").getByText(/Not sent: a backup was restored/).waitFor();
  const bob = await world.logIn(await world.window(), "bob");
  await open(bob, /three/);
  await say(bob, "hello");
  await said(alice, "hello").waitFor();
  assert.deepEqual(await all(bob), ["hello"]);
  await said(alice, "for Dave only").getByRole("button", { name: "Discard" }).click();
  await said(alice, "for Dave only").waitFor({ state: "detached" });

  // What has no conversation any more can be read and discarded.
  await alice.goto("/#/c/2");
  const unsent = alice.getByRole("list", { name: "Not sent" });
  await unsent.getByText("for nobody").waitFor();
  await unsent.getByRole("button", { name: "Discard" }).click();
  await unsent.waitFor({ state: "detached" });
});
