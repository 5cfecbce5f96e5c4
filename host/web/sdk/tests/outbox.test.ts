// The outbox: what is sent is shown at once, arrives once, and stays until it has an end.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createSharedMemory, sharedMemory } from "./shared_memory.ts";
import { contents, createWorld, stateOf } from "./world.ts";

async function talk() {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"], name: "lunch" });
  const alice = await world.live("alice");
  const room = alice.conversation(1);
  room.messages.subscribe(() => {});
  await world.clock.pass(50);
  return { ...world, world, alice, room };
}

const there = (world: { server: { conversation(id: number): { messages: { content: string }[] } } }) =>
  world.server.conversation(1).messages.map(({ content }) => content);

test("a message is there at once, and keeps its key", async () => {
  const { alice, room, clock } = await talk();
  const sent = room.send("hi", { replyTo: null });
  const [pending] = room.messages.get().items;
  assert.deepEqual([pending?.state, pending?.content, pending?.id, pending?.sender_username], ["pending", "hi", null, "alice"]);
  assert.equal(alice.pending.get(), 1);
  const states: string[] = [];
  room.messages.subscribe(() => states.push(room.messages.get().items.map(({ state }) => state).join()));
  await clock.pass(50);
  const [stored] = room.messages.get().items;
  assert.deepEqual([stored?.state, stored?.key], ["stored", pending?.key]);
  assert.equal(sent.key, stored?.key);
  assert.equal((await sent.done).id, stored?.id);
  assert.equal(sent.state, "stored");
  assert.equal(alice.pending.get(), 0);
  assert.ok(states.every((state) => state === "stored"), `never gone, never twice: ${states.join(" ")}`);
});

test("the order stays while the server refuses one for a while", async () => {
  const { world, server, room, clock } = await talk();
  let refusals = 4;
  server.before = (frame) => {
    if (frame.type !== "send_message" || frame["content"] !== "two") return;
    if ((refusals -= 1) >= 0) throw server.refuse(refusals % 2 === 0 ? "unavailable" : "rate_limited", 2);
  };
  const sent = ["one", "two", "three"].map((content) => room.send(content));
  await clock.pass(20_000);
  assert.deepEqual(there(world), ["one", "two", "three"]);
  await Promise.all(sent.map(({ done }) => done));
});

test("what is sent while away goes out in order after it", async () => {
  const { world, room, alice } = await talk();
  const mend = await world.cut();
  for (let count = 0; count < 5; count += 1) room.send(`${count}`);
  assert.deepEqual(contents(alice, 1), ["0", "1", "2", "3", "4"]);
  assert.equal(alice.pending.get(), 5);
  mend();
  await world.until("all is sent", () => alice.pending.get() === 0);
  assert.deepEqual(there(world), ["0", "1", "2", "3", "4"]);
});

test("nobody waits for a read mark", async () => {
  const { world, room, alice } = await talk();
  const sent = room.send("one");
  await world.until("it is sent", () => alice.pending.get() === 0);
  await world.cut();
  room.markRead((await sent.done).id);
  assert.equal(alice.pending.get(), 0);
});

test("a lost answer stores nothing twice", async () => {
  const { world, server, room, alice } = await talk();
  let cuts = 3;
  server.before = (frame) => {
    if (frame.type === "send_message" && (cuts -= 1) >= 0) for (const line of server.lines) line.cut();
  };
  const sent = room.send("once");
  await world.until("it is sent", () => alice.pending.get() === 0);
  assert.deepEqual(there(world), ["once"]);
  assert.equal((await sent.done).content, "once");
  assert.deepEqual(contents(alice, 1), ["once"]);
});

test("a refused message stays, and can be sent again or discarded", async () => {
  const { world, server, room, clock, alice } = await talk();
  const refuse = () => {
    throw server.refuse("too_large");
  };
  server.before = (frame) => frame.type === "send_message" && refuse();
  const sent = room.send("long");
  const other = room.send("longer");
  await assert.rejects(Promise.all([sent.done, clock.pass(100)]), { code: "too_large" });
  const [failed] = room.messages.get().items;
  assert.equal(failed?.state, "failed");
  assert.equal(failed?.state === "failed" && failed.sent.error?.code, "too_large");
  // It stays after a lost connection.
  const mend = await world.cut();
  mend();
  await world.until("it is live", () => stateOf(alice) === "live");
  assert.deepEqual(contents(alice, 1), ["long", "longer"]);
  server.before = () => {};
  sent.retry();
  assert.equal(sent.state, "pending");
  other.discard();
  assert.equal(other.state, "discarded");
  await clock.pass(100);
  assert.equal((await sent.done).content, "long");
  assert.deepEqual(there(world), ["long"]);
  assert.deepEqual(contents(alice, 1), ["long"]);
});

test("a message that was not sent yet can be taken back", async () => {
  const { world, room, alice } = await talk();
  const mend = await world.cut();
  const sent = room.send("never mind");
  sent.discard();
  await assert.rejects(sent.done, { code: "discarded" });
  mend();
  await world.until("it is live", () => stateOf(alice) === "live");
  assert.deepEqual(there(world), []);
});

test("it survives a closed page", async () => {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  const storage = createSharedMemory();
  const first = await world.live("alice", { storage: storage.tab() });
  await first.flush();
  await world.cut();
  first.conversation(1).send("one");
  first.conversation(1).send("two");
  await first.close();

  const second = world.client("alice", { storage: storage.tab() });
  await world.clock.pass(100);
  assert.deepEqual(second.conversations.get().map(({ id }) => id), [1], "what is stored is shown without a network");
  assert.deepEqual(contents(second, 1), ["one", "two"]);
  world.server.admit = () => "alice";
  await world.until("all is sent", () => second.pending.get() === 0);
  assert.deepEqual(there(world), ["one", "two"]);
  await second.flush();
  assert.deepEqual([...storage.entries.keys()].filter((key) => key.startsWith("o|")), []);
});

test("a failed message survives too", async () => {
  const world = createWorld();
  const { server } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  const storage = createSharedMemory();
  const first = await world.live("alice", { storage: storage.tab() });
  server.before = (frame) => {
    if (frame.type === "send_message") throw server.refuse("forbidden");
  };
  first.conversation(1).send("no");
  await world.clock.pass(500);
  await first.close();
  const second = await world.live("alice", { storage: storage.tab() });
  const [item] = second.conversation(1).messages.get().items;
  assert.equal(item?.state, "failed");
});

test("changes are shown at once, and undone if they are refused", async () => {
  const { world, server, room, clock, alice } = await talk();
  room.send("hi");
  const { id } = server.act("bob", "send_message", { conversation_id: 1, content: "hello" }).data as { id: number };
  await clock.pass(100);
  const own = room.messages.get().items.find(({ content }) => content === "hi")?.id as number;
  const mend = await world.cut();
  room.edit(own, "hi!");
  room.react(id, "👍", true);
  const refused = room.edit(id, "not mine");
  const shown = room.messages.get().items;
  assert.deepEqual(shown.map(({ content }) => content).sort(), ["hi!", "not mine"]);
  const other = shown.find((item) => item.id === id);
  assert.deepEqual(other?.reactions, { "👍": ["alice"] });
  assert.equal(other?.state === "stored" && other.change?.state, "pending");
  mend();
  await assert.rejects(Promise.all([refused.done, world.until("all is sent", () => alice.pending.get() === 0)]), { code: "forbidden" });
  await clock.pass(100);
  assert.deepEqual(contents(alice, 1).sort(), ["hello", "hi!"]);
  room.react(id, "👍", false);
  assert.equal(room.messages.get().items.find((item) => item.id === id)?.reactions?.["👍"], undefined);
  room.delete(own);
  assert.equal(room.messages.get().items.find((item) => item.id === own)?.content, "");
  await clock.pass(100);
  assert.deepEqual(there(world).sort(), ["", "hello"]);
});

test("a read mark made while away is told later", async () => {
  const { world, server, room, clock, alice } = await talk();
  server.act("bob", "send_message", { conversation_id: 1, content: "one" });
  const { id } = server.act("bob", "send_message", { conversation_id: 1, content: "two" }).data as { id: number };
  await clock.pass(100);
  const mend = await world.cut();
  room.markRead(id - 1);
  room.markRead(id);
  assert.equal(alice.conversations.get()[0]?.unread, 0);
  mend();
  await world.until("it is told", () => server.conversation(1).read["alice"] === id);
  assert.equal(server.asked.filter(({ type }) => type === "mark_read").length, 1);
});

test("it is not sent in the name of somebody else", async () => {
  const world = createWorld();
  const { server } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  const storage = sharedMemory();
  let token = "alice";
  const chat = await world.live("", { storage, auth: { token: async () => token } });
  const mend = await world.cut();
  const sent = chat.conversation(1).send("as alice");
  const closed = assert.rejects(sent.done, { code: "closed" });
  token = "bob";
  mend();
  await world.until("bob is live", () => chat.me.get()?.username === "bob" && stateOf(chat) === "live");
  await world.clock.pass(500);
  await closed;
  assert.deepEqual(there(world), []);
  assert.equal(chat.conversations.get().length, 1);
});

/** The server has a backup again, in which conversation 1 is another one. */
function restore({ server }: ReturnType<typeof createWorld>): void {
  server.epoch += " again";
  Object.assign(server.conversation(1), { members: ["alice", "carol"], messages: [], rev: 1, name: "restored" });
}

test("after a restored backup, nothing goes into what has the id of its conversation now", async () => {
  const { world, server, room, alice, clock } = await talk();
  const { id } = server.act("bob", "send_message", { conversation_id: 1, content: "a secret?" }).data as { id: number };
  await clock.pass(50);
  const mend = await world.cut();
  const sent = room.send("for bob", { replyTo: id });
  room.send("never mind");
  restore(world);
  mend();
  await assert.rejects(Promise.all([sent.done, world.until("it has failed", () => alice.pending.get() === 0)]), { code: "conflict", message: /backup/ });
  await clock.pass(500);
  assert.deepEqual(there(world), []);
  const [failed, other] = room.messages.get().items;
  // Nobody knows which message has that id now.
  assert.deepEqual([failed?.state, failed?.content, failed?.reply_id], ["failed", "for bob", null]);
  assert.match((failed?.state === "failed" && failed.sent.error?.message) || "", /backup/);
  if (other?.state === "failed") other.sent.discard();
  assert.deepEqual(contents(alice, 1), ["for bob"]);

  // The user has seen where it would go now.
  sent.retry();
  await clock.pass(100);
  assert.equal((await sent.done).content, "for bob");
  assert.deepEqual(there(world), ["for bob"]);
  // Messages that are written now are sent as always.
  room.send("hello carol");
  await clock.pass(100);
  assert.deepEqual(there(world), ["for bob", "hello carol"]);
});

test("nor does it after a closed page, and it stays there to be read", async () => {
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  const storage = createSharedMemory();
  const first = await world.live("alice", { storage: storage.tab() });
  await first.flush();
  const mend = await world.cut();
  first.conversation(1).send("for bob");
  await first.close();
  restore(world);
  mend();
  for (let count = 0; count < 2; count += 1) {
    const next = await world.live("alice", { storage: storage.tab() });
    await clock.pass(500);
    const [item] = next.conversation(1).messages.get().items;
    assert.deepEqual([item?.state, item?.content], ["failed", "for bob"]);
    await next.close();
  }
  assert.deepEqual(there(world), []);
});

test("what a restored backup has of it was sent", async () => {
  const { world, server, room, alice, clock } = await talk();
  server.before = (frame) => {
    if (frame.type === "send_message") for (const line of server.lines) line.cut();
  };
  room.send("once");
  await clock.pass(5);
  const mend = await world.cut();
  assert.deepEqual([there(world), alice.pending.get()], [["once"], 1]);
  server.epoch = "epoch2";
  server.before = () => {};
  mend();
  await world.until("it is known", () => alice.pending.get() === 0);
  await clock.pass(100);
  assert.deepEqual(room.messages.get().items.map(({ state }) => state), ["stored"]);
  assert.deepEqual(there(world), ["once"]);
});

test("what was refused before a restore is not sent at the first try after it either", async () => {
  const { world, server, room, alice, clock } = await talk();
  server.before = (frame) => {
    if (frame.type === "send_message") throw server.refuse("too_large");
  };
  const [tried, left] = [room.send("tried again"), room.send("left")];
  await clock.pass(100);
  server.before = () => {};
  const mend = await world.cut();
  tried.retry();
  restore(world);
  mend();
  await world.until("it has failed", () => tried.error?.code === "conflict");
  left.retry();
  await clock.pass(100);
  assert.deepEqual(there(world), []);
  assert.deepEqual(room.messages.get().items.map((item) => item.state === "failed" && item.sent.error?.code), ["conflict", "conflict"]);
  assert.equal(alice.pending.get(), 0);
});

test("what was written before the first answer belongs to the first epoch", async () => {
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  server.before = (frame) => {
    if (frame.type === "send_message") throw server.refuse("unavailable", 5);
  };
  const alice = world.client("alice");
  const sent = alice.conversation(1).send("early");
  await world.until("it is live", () => stateOf(alice) === "live");
  await clock.pass(100);
  const mend = await world.cut();
  restore(world);
  server.before = () => {};
  mend();
  await world.until("it has failed", () => sent.state === "failed");
  assert.deepEqual(there(world), []);
});

test("where the user has no conversation any more, the server refuses it again", async () => {
  const { world, server, room, alice, clock } = await talk();
  const mend = await world.cut();
  const sent = room.send("for bob");
  restore(world);
  server.conversation(1).members = ["carol"];
  mend();
  await world.until("it has failed", () => sent.state === "failed");
  sent.retry();
  await clock.pass(500);
  assert.deepEqual([sent.state, sent.error?.code], ["failed", "not_found"]);
  assert.deepEqual(contents(alice, 1), ["for bob"]);
  sent.discard();
  assert.deepEqual(contents(alice, 1), []);
});

test("the same client_id is stored once, whoever asks again", async () => {
  const { world, room, clock } = await talk();
  const first = room.send("echo", { clientId: "reply-to-7" });
  await clock.pass(50);
  const second = room.send("echo", { clientId: "reply-to-7" });
  await clock.pass(50);
  assert.equal((await first.done).id, (await second.done).id);
  assert.deepEqual(there(world), ["echo"]);
});
