// Two tabs of one user: a socket each, one storage, one order of what is sent.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createSharedMemory } from "./shared_memory.ts";
import { contents, createWorld, stateOf } from "./world.ts";

async function twoTabs() {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  const storage = createSharedMemory(world.locks);
  const one = await world.live("alice", { storage: storage.tab() });
  const two = await world.live("alice", { storage: storage.tab() });
  await world.clock.pass(500);
  return { ...world, world, storage, one, two };
}

const there = (world: { server: { conversation(id: number): { messages: { content: string }[] } } }) =>
  world.server.conversation(1).messages.map(({ content }) => content);

test("what one tab has not sent yet is shown in the other, and sent once, in order", async () => {
  const { world, clock, one, two } = await twoTabs();
  const mend = await world.cut();
  one.conversation(1).send("1 of one");
  await clock.pass(20);
  two.conversation(1).send("2 of two");
  await clock.pass(20);
  one.conversation(1).send("3 of one");
  await clock.pass(20);
  assert.deepEqual(contents(two, 1), ["1 of one", "2 of two", "3 of one"]);
  assert.deepEqual(contents(one, 1), ["1 of one", "2 of two", "3 of one"]);
  mend();
  await world.until("all is sent", () => one.pending.get() + two.pending.get() === 0);
  assert.deepEqual(there(world), ["1 of one", "2 of two", "3 of one"]);
  assert.equal(stateOf(one), "live");
});

test("one tab sends what the other could not", async () => {
  const { world, clock, server, one, two } = await twoTabs();
  const [first] = [...server.lines];
  server.admit = () => "refuse";
  first?.cut();
  await clock.pass(20);
  const sent = one.conversation(1).send("of the one that is away");
  await world.until("it is stored", () => there(world).length === 1);
  server.admit = () => "alice";
  await world.until("it has heard", () => sent.state === "stored");
  assert.equal((await sent.done).content, "of the one that is away");
  assert.deepEqual(contents(two, 1), ["of the one that is away"]);
});

test("of two changes the later one wins, whichever tab sends them", async () => {
  const world = createWorld();
  const { clock, random, server } = world;
  for (const name of ["lunch", "dinner"]) server.act("alice", "create_conversation", { members: ["bob"], name });
  const delay = () => new Promise<void>((resolve) => void clock.after(random() * 4, resolve));
  const storage = createSharedMemory(world.locks, delay);
  const one = await world.live("alice", { storage: storage.tab() });
  const two = await world.live("alice", { storage: storage.tab() });
  const room = one.conversation(1);
  room.messages.subscribe(() => {});
  const sent = room.send("0");
  await world.until("it is stored", () => sent.state === "stored");
  const { id } = await sent.done;
  for (let round = 0; round < 200; round += 1) {
    room.edit(id, `${round}, first`);
    await clock.pass(random() * 20);
    if (random() < 0.5) two.conversation(2).send("x");
    const last = room.edit(id, `${round}, last`);
    await clock.pass(random() * 10);
    if (random() < 0.5) two.conversation(2).send("y");
    await world.until("all is sent", () => one.pending.get() + two.pending.get() === 0);
    await last.done;
    await clock.pass(100);
    assert.equal(there(world)[0], `${round}, last`);
  }
});

test("a frozen tab that holds the lock keeps nobody from sending", async () => {
  const { world, clock, locks, one } = await twoTabs();
  void locks.hold("chatapp ", 1);
  await clock.pass(10);
  const sent = one.conversation(1).send("hi");
  await clock.pass(2_500);
  assert.deepEqual(there(world), []);
  await clock.pass(1_000);
  assert.deepEqual(there(world), ["hi"]);
  await sent.done;
});

test("what is discarded in one tab is not sent by the other", async () => {
  const { world, clock, one, two } = await twoTabs();
  const mend = await world.cut();
  const sent = one.conversation(1).send("never mind");
  await clock.pass(50);
  const item = two.conversation(1).messages.get().items.at(-1);
  assert.equal(item?.state, "pending");
  if (item?.state === "pending") item.sent.discard();
  await assert.rejects(Promise.all([sent.done, clock.pass(50)]), { code: "discarded" });
  mend();
  await world.until("both are live", () => stateOf(one) === "live" && stateOf(two) === "live");
  await clock.pass(5_000);
  assert.deepEqual(there(world), []);
  assert.deepEqual([contents(one, 1), contents(two, 1)], [[], []]);
});

test("a tab that is behind does not overwrite what a newer one has stored", async () => {
  const { world, clock, server, storage, one, two } = await twoTabs();
  await two.close();
  server.losesPush = () => true;
  server.act("bob", "send_message", { conversation_id: 1, content: "new" });
  server.losesPush = () => false;
  // A third one is up to date, and closes again.
  const three = await world.live("alice", { storage: storage.tab() });
  await three.close();
  // The first one is behind, and stores something.
  server.push("alice", "mark_read", { conversation_id: 1, username: "alice", message_id: 0 });
  one.conversation(1).markRead(1);
  await clock.pass(1_000);
  await one.close();
  world.server.admit = () => "refuse";
  const four = world.client("alice", { storage: storage.tab() });
  await clock.pass(100);
  assert.deepEqual(contents(four, 1), []);
  await clock.pass(100);
  assert.deepEqual(contents(four, 1), ["new"]);
});

test("a logout in one tab ends the other, and nothing stays", async () => {
  const { world, clock, storage, one, two } = await twoTabs();
  world.server.act("bob", "send_message", { conversation_id: 1, content: "secret" });
  await clock.pass(1_000);
  // What `logout` of chatapp-sdk/account does here.
  let forget = async () => {};
  const three = world.client("alice", {
    storage: storage.tab(),
    auth: {
      token: async () => "alice",
      extend(client) {
        forget = client.forget;
        return {};
      },
    },
  });
  await world.until("it is live", () => stateOf(three) === "live");
  world.server.admit = () => ({ code: 1000, reason: "invalid login-token" });
  await forget();
  await clock.pass(1_000);
  for (const tab of [one, two, three]) {
    assert.equal(stateOf(tab), "needs-auth");
    assert.deepEqual(tab.conversations.get(), []);
    assert.equal(tab.me.get(), null);
  }
  assert.ok(!JSON.stringify([...storage.entries]).includes("secret"));
  assert.deepEqual([...storage.entries.keys()], ["meta"]);
  // A login in one of them wakes the others.
  world.server.admit = () => "alice";
  one.connect();
  await world.until("all are live", () => [one, two, three].every((tab) => stateOf(tab) === "live"));
});
