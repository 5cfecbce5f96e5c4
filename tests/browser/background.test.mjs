// While the page is in the background: the title counts, and a notification tells.

import assert from "node:assert/strict";
import test from "node:test";
import { DESK, open, said, story } from "./world.mjs";

story(test, "new messages are told of in the background", async (world) => {
  await world.register("bob", "Bob");
  await world.register("alice", "Alice");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  const alice = await world.window({ ...DESK, permissions: ["notifications"] });
  // A test cannot put a tab behind another window, nor read what the system shows.
  await alice.addInitScript(() => {
    window.isHidden = false;
    Object.defineProperty(document, "hidden", { get: () => window.isHidden });
    Object.defineProperty(document, "visibilityState", { get: () => (window.isHidden ? "hidden" : "visible") });
    window.shown = [];
    ServiceWorkerRegistration.prototype.showNotification = async (title, { body, data }) => void window.shown.push({ title, body, data });
  });
  const hide = (is) => alice.evaluate((is) => ((window.isHidden = is), document.dispatchEvent(new Event("visibilitychange"))), is);
  await world.logIn(alice, "alice");
  await alice.evaluate(() => navigator.serviceWorker.ready);
  await open(alice, /Bob/);
  await bob.ask("send_message", { conversation_id: id, content: "seen at once" });
  await said(alice, "seen at once").waitFor();

  await alice.getByRole("link", { name: /settings/ }).click();
  await alice.getByLabel(/Tell me of new messages/).check();
  await open(alice, /Bob/);
  await hide(true);
  await bob.ask("send_message", { conversation_id: id, content: "**are** you there?" });
  await alice.waitForFunction(() => window.shown.length === 1);
  assert.deepEqual(await alice.evaluate(() => window.shown), [{ title: "Bob", body: "are you there?", data: { conversation: id } }]);
  await alice.waitForFunction(() => document.title.startsWith("(1) "));
  await said(alice, "are you there?").waitFor();
  // Nobody has seen it yet: the other one is told only when somebody looks.
  const marks = await bob.ask("get_conversation_info", { id });
  const latest = await bob.ask("get_messages", { conversation_id: id, limit: 1 });
  assert.ok(marks.read.alice < latest.messages[0].id);
  await hide(false);
  await alice.waitForFunction(() => !document.title.startsWith("("));
  // A line stands before what came meanwhile.
  await alice.getByText("New messages").waitFor();
});
