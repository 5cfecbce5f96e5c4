// Whose page it is: also if it comes back from the back/forward cache, or a cookie was replaced.

import assert from "node:assert/strict";
import test from "node:test";
import { PASSWORD, message, open, said, say, story } from "./world.mjs";

const LOST = /Failed to load resource|WebSocket connection to|net::ERR/;

/** Alice, who reads what Bob has told her. */
async function reading(world) {
  for (const username of ["bob", "carol"]) await world.register(username);
  const alice = await world.person("alice", "Alice");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  await bob.ask("send_message", { conversation_id: id, content: "for Alice alone" });
  bob.close();
  await open(alice, /bob/);
  await said(alice, "for Alice alone").waitFor();
  return alice;
}

async function logOut(page) {
  await page.goto("/#/settings");
  await page.getByRole("button", { name: "Log out on this device" }).click();
  await page.getByLabel("Username").waitFor();
}

/** Goes to another page and, after that, back. */
async function awayAndBack(world, page, meanwhile) {
  await page.evaluate(() => {
    addEventListener("pageshow", ({ persisted }) => (globalThis.seen = { ...globalThis.seen, persisted }));
    // How it is drawn first when it is back.
    addEventListener("pagehide", () => (globalThis.seen = { visibility: getComputedStyle(document.body).visibility }));
  });
  await page.goto("/healthz");
  await meanwhile();
  await page.goBack({ waitUntil: "commit" });
}

story(test, "a page that comes back is not that of who has logged out", async (world) => {
  world.expected.push(LOST);
  for (const next of ["carol", null]) {
    const alice = await (next ? reading(world) : world.logIn(await world.window(), "alice"));
    if (!next) await open(alice, /bob/);
    await message(alice).fill("a draft of Alice");
    await awayAndBack(world, alice, async () => {
      const other = await world.tab(alice.context());
      await logOut(other);
      if (next) await world.logIn(other, next);
      world.gateway.cut();
    });
    // It is opened anew, from what is stored here.
    await alice.waitForFunction(() => !globalThis.seen && document.body.innerText.trim() !== "");
    assert.equal(await alice.getByText("for Alice alone").count(), 0);
    world.gateway.mend();
  }
});

story(test, "a page that comes back to the same user is as it was", async (world) => {
  world.expected.push(LOST);
  const alice = await reading(world);
  await message(alice).fill("a draft of Alice");
  await awayAndBack(world, alice, async () => {});
  await said(alice, "for Alice alone").waitFor();
  // The browser has kept it: otherwise this tests nothing.
  assert.deepEqual(await alice.evaluate(() => globalThis.seen), { visibility: "hidden", persisted: true });
  assert.equal(await message(alice).inputValue(), "a draft of Alice");
  await say(alice, "an answer");
  await said(alice, "an answer").getByText(/Sent|Read/).waitFor();
});

story(test, "a cookie of somebody else, which a sibling subdomain can set, does not change the user", async (world) => {
  world.expected.push(LOST);
  const alice = await reading(world);
  world.gateway.cut();
  await say(alice, "written without a connection");
  await said(alice, "written without a connection").getByText("Not sent yet").waitFor();
  // As many cookies of the sibling push that of the server out of the browser.
  const token = await world.token("carol");
  const context = alice.context();
  await context.clearCookies();
  await context.addCookies([{ name: "login-token", value: token, url: world.url }]);
  world.gateway.mend();
  await alice.reload();
  await alice.getByText("Your login has ended. Log in again to go on as alice.").waitFor();
  // What is stored here is still Alice's, and a login brings it back.
  await alice.getByLabel("Username").fill("alice");
  await alice.getByLabel("Password").fill(PASSWORD);
  await alice.getByRole("button", { name: "Log in" }).click();
  await open(alice, /bob/);
  await said(alice, "written without a connection").getByText(/Sent|Read/).waitFor();
});

story(test, "all tabs follow a login in one of them", async (world) => {
  world.expected.push(LOST);
  const alice = await reading(world);
  const other = await world.tab(alice.context());
  await logOut(other);
  await alice.getByLabel("Username").waitFor();
  await world.logIn(other, "carol");
  await alice.getByRole("navigation", { name: "Conversations" }).waitFor();
  await alice.goto("/#/settings");
  await alice.getByText("carol").first().waitFor();
});
