// What a client shows of conversations, whatever comes and in whatever order.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Conversation, Message } from "../src/index.ts";
import { idle } from "./fake_clock.ts";
import { contents, createWorld, stateOf } from "./world.ts";

/** alice is live, and in conversation 1 with bob. */
async function talk() {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"], name: "lunch" });
  const alice = await world.live("alice");
  const room = alice.conversation(1);
  const unsubscribe = room.messages.subscribe(() => {});
  await world.clock.pass(50);
  const say = (content: string): Message => world.server.act("bob", "send_message", { conversation_id: 1, content }).data;
  return { ...world, world, alice, room, say, unsubscribe };
}

test("a push is shown, counted, and told once", async () => {
  const { alice, say, clock, room } = await talk();
  const told: string[] = [];
  alice.on("message", ({ content }) => told.push(content));
  say("hi @alice");
  await clock.pass(50);
  assert.deepEqual(contents(alice, 1), ["hi @alice"]);
  const info = room.info.get();
  assert.equal(info?.unread, 1);
  assert.equal(info?.mentions, 1);
  assert.equal(info?.last_message?.content, "hi @alice");
  assert.deepEqual(told, ["hi @alice"]);
});

test("whoever has deleted the account is shown as deleted, without reactions", async () => {
  const { alice, server, say, clock, world } = await talk();
  server.act("bob", "create_conversation", { members: ["alice"], direct: true });
  server.act("bob", "send_message", { conversation_id: 2, content: "to you alone" });
  server.act("carol", "create_conversation", { members: ["alice", "bob"], name: "seldom watched" });
  server.act("bob", "send_message", { conversation_id: 3, content: "to all" });
  say("gone soon");
  const { id } = server.act("alice", "send_message", { conversation_id: 1, content: "hi @bob" }).data as Message;
  for (const name of ["bob", "alice"]) server.act(name, "react", { message_id: id, emoji: "👍", on: true });
  server.act("bob", "react", { message_id: id, emoji: "👎", on: true });
  await clock.pass(100);
  assert.equal(alice.conversation(2).info.get()?.title, "BOB");

  server.deleteAccount("bob");
  await clock.pass(500);
  const [first, second] = alice.conversation(1).messages.get().items;
  assert.equal(first?.sender_username, "deleted");
  assert.deepEqual(second?.reactions, { "👍": ["alice"] });
  for (const room of [2, 3]) {
    assert.equal(alice.conversation(room).messages.get().items[0]?.sender_username, "deleted");
    assert.equal(alice.conversation(room).info.get()?.last_message?.sender_username, "deleted");
  }
  const direct = alice.conversation(2).info.get();
  assert.equal(direct?.title, "deleted");
  assert.deepEqual(direct?.members, ["deleted", "alice"]);
  assert.deepEqual(alice.conversation(3).info.get()?.members, ["carol", "alice"]);
  assert.equal(alice.people.get().get("bob"), undefined);
  // All of it is what a new device gets.
  const other = await world.live("alice");
  for (const room of [1, 2, 3]) {
    await other.conversation(room).loadOlder();
    const shown = (chat: typeof other) => chat.conversation(room).messages.get().items.map(({ mentions: _, ...message }) => message);
    assert.deepEqual(shown(other), shown(alice));
  }
});

test("pushes that arrive in another order are put right without a sync", async () => {
  const { alice, server, clock } = await talk();
  const [line] = [...server.lines];
  assert.ok(line !== undefined);
  server.losesPush = () => true;
  const first = server.act("bob", "send_message", { conversation_id: 1, content: "one" }).data as Message;
  const second = server.act("bob", "send_message", { conversation_id: 1, content: "two" }).data as Message;
  server.asked.length = 0;
  line.push({ type: "send_message", success: true, data: second });
  await clock.pass(50);
  assert.deepEqual(contents(alice, 1), []);
  line.push({ type: "send_message", success: true, data: first });
  await clock.pass(500);
  assert.deepEqual(contents(alice, 1), ["one", "two"]);
  assert.deepEqual(server.asked, []);
});

test("a push that never comes is found by a sync, and told once", async () => {
  const { alice, server, clock, say } = await talk();
  const told: string[] = [];
  alice.on("message", ({ content }) => told.push(content));
  server.losesPush = () => true;
  say("lost");
  server.losesPush = () => false;
  say("heard");
  await clock.pass(500);
  assert.deepEqual(contents(alice, 1), ["lost", "heard"]);
  assert.deepEqual(told, ["lost", "heard"]);
  assert.equal(stateOf(alice), "live");
});

test("what was said while the client was away is told too, in order", async () => {
  const { alice, world, server, say, clock } = await talk();
  const told: string[] = [];
  alice.on("message", ({ content }) => told.push(content));
  say("before");
  await clock.pass(50);
  const mend = await world.cut();
  say("one");
  const { id } = say("two");
  say("three");
  // A later rev, but not a later message.
  server.act("bob", "react", { message_id: id, emoji: "👍", on: true });
  server.act("bob", "create_conversation", { members: ["alice"], name: "new" });
  server.act("bob", "send_message", { conversation_id: 2, content: "elsewhere" });
  mend();
  await world.until("it is live", () => stateOf(alice) === "live");
  assert.deepEqual(told, ["before", "one", "two", "three", "elsewhere"]);
});

test("history is not told as news", async () => {
  const { world, say, clock } = await talk();
  for (let count = 0; count < 120; count += 1) say(`old ${count}`);
  const other = world.client("bob");
  const told: string[] = [];
  other.on("message", ({ content }) => told.push(content));
  await world.until("it is live", () => stateOf(other) === "live");
  say("new");
  await clock.pass(50);
  assert.deepEqual(told, ["new"]);
});

test("a change that this library does not know makes it sync, and is passed on", async () => {
  const { alice, server, clock } = await talk();
  const heard: unknown[] = [];
  alice.on("pin_message", (data) => heard.push(data));
  const conversation = server.conversation(1);
  conversation.rev += 1;
  conversation.name = "pinned";
  server.push("alice", "pin_message", { conversation_id: 1, message_id: 7, rev: conversation.rev });
  await clock.pass(500);
  assert.equal(alice.conversation(1).info.get()?.name, "pinned");
  assert.deepEqual(heard, [{ conversation_id: 1, message_id: 7, rev: 2 }]);
});

test("fields that this library does not know are there", async () => {
  const { alice, server, clock } = await talk();
  server.push("alice", "send_message", { ...message(2), colour: "blue" });
  server.push("alice", "rename_conversation", { id: 1, name: "tea", rev: 3, topic: "cake" });
  await clock.pass(50);
  assert.equal((alice.conversation(1).messages.get().items[0] as unknown as { colour: string }).colour, "blue");
  assert.equal((alice.conversation(1).info.get() as unknown as { topic: string }).topic, "cake");
});

function message(rev: number): Message {
  return { id: 100 + rev, conversation_id: 1, rev, sender_username: "bob", content: `${rev}`, reply_id: null, sent_at: 1_700_000_000 };
}

test("older messages come in pages, to the beginning", async () => {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  for (let count = 0; count < 250; count += 1) world.server.act("bob", "send_message", { conversation_id: 1, content: `${count}` });
  const alice = await world.live("alice");
  const room = alice.conversation(1);
  room.messages.subscribe(() => {});
  await world.clock.pass(100);
  assert.equal(room.messages.get().items.length, 100);
  assert.equal(room.messages.get().hasOlder, true);
  const first = room.loadOlder();
  assert.equal(room.messages.get().loading, true);
  assert.equal(room.loadOlder(), first, "one at a time");
  await world.clock.pass(100);
  await first;
  const second = room.loadOlder();
  await world.clock.pass(100);
  await second;
  const { items, hasOlder, loading } = room.messages.get();
  assert.deepEqual([items.length, hasOlder, loading], [250, false, false]);
  assert.deepEqual(items.map((item) => item.content), Array.from({ length: 250 }, (_, index) => String(index)));
});

test("a message that is searched for is loaded, with all that follow", async () => {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  for (let count = 0; count < 450; count += 1) world.server.act("bob", "send_message", { conversation_id: 1, content: `${count}` });
  const alice = await world.live("alice");
  const room = alice.conversation(1);
  const found = room.loadUntil(120);
  const missing = room.loadUntil(100_000);
  await world.clock.pass(1_000);
  assert.equal(await found, true);
  assert.equal(await missing, false);
  const ids = room.messages.get().items.map((item) => item.id);
  assert.ok(ids.includes(120));
  assert.deepEqual(ids, [...ids].sort((a, b) => Number(a) - Number(b)));
});

test("an old message that changes while its page is on the way is shown as it is now", async () => {
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  for (let count = 0; count < 150; count += 1) server.act("bob", "send_message", { conversation_id: 1, content: `${count}` });
  const alice = await world.live("alice");
  const room = alice.conversation(1);
  room.messages.subscribe(() => {});
  await clock.pass(100);
  server.before = (frame) => {
    if (frame.type !== "get_messages") return;
    // The answer is read, then the message changes, and the push is faster.
    const before = server.conversation(1).messages[19] as Message;
    server.act("bob", "edit_message", { message_id: 20, content: "edited" });
    server.conversation(1).messages[19] = before;
  };
  const loaded = room.loadOlder();
  await clock.pass(100);
  await loaded;
  assert.equal(contents(alice, 1)[19], "edited");
});

test("a changed message of a part that is not loaded does not hide the gap", async () => {
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  for (let count = 0; count < 150; count += 1) server.act("bob", "send_message", { conversation_id: 1, content: `${count}` });
  const alice = await world.live("alice");
  const room = alice.conversation(1);
  room.messages.subscribe(() => {});
  await clock.pass(100);
  server.act("bob", "edit_message", { message_id: 3, content: "edited" });
  await clock.pass(100);
  assert.equal(room.messages.get().items[0]?.content, "50");
});

test("who is removed forgets, and who is added again knows all", async () => {
  const { alice, server, clock, room, say } = await talk();
  say("one");
  await clock.pass(50);
  server.act("bob", "remove_member", { conversation_id: 1, username: "alice" });
  await clock.pass(50);
  assert.equal(room.info.get(), null);
  assert.deepEqual(alice.conversations.get(), []);
  assert.deepEqual(contents(alice, 1), []);
  say("two");
  server.act("bob", "add_members", { conversation_id: 1, members: ["alice"] });
  await clock.pass(500);
  assert.deepEqual(contents(alice, 1), ["one", "two"]);
  assert.deepEqual(room.info.get()?.members, ["bob", "alice"]);
});

test("after a restored backup everything is learned anew", async () => {
  const { alice, server, world, clock, say } = await talk();
  say("of the old database");
  await clock.pass(50);
  const mend = await world.cut();
  const change = alice.conversation(1).react(1, "👍", true);
  const refused = assert.rejects(change.done, { code: "conflict" });
  server.epoch = "epoch2";
  const conversation = server.conversation(1);
  conversation.messages = [];
  conversation.rev = 1;
  conversation.name = "restored";
  mend();
  await world.until("it is live", () => stateOf(alice) === "live");
  await clock.pass(200);
  assert.deepEqual(contents(alice, 1), []);
  assert.equal(alice.conversation(1).info.get()?.name, "restored");
  await refused;
});

test("a new device learns of many conversations by their list", async () => {
  const world = createWorld();
  const { server, clock } = world;
  for (let count = 1; count <= 2_500; count += 1) {
    server.act("alice", "create_conversation", { members: ["bob"], name: `c${count}` });
    for (const content of ["one", "two", "@alice"]) server.act("bob", "send_message", { conversation_id: count, content });
  }
  server.act("bob", "create_conversation", { members: ["alice"], name: "empty" });
  const alice = await world.live("alice");
  assert.equal(alice.conversations.get().length, 2_501);
  const asked = server.asked.map(({ type }) => type);
  assert.ok(asked.filter((type) => type === "sync").length <= 2, String(asked));
  assert.ok(asked.length < 40, String(asked.length));
  const [first] = alice.conversations.get();
  assert.deepEqual([first?.name, first?.unread, first?.mentions], ["c2500", 3, 1]);
  const room = alice.conversation(17);
  room.messages.subscribe(() => {});
  await clock.pass(100);
  assert.deepEqual(contents(alice, 17), ["one", "two", "@alice"]);
  assert.equal(room.messages.get().hasOlder, false);
});

test("who types is shown until they stop, send, or say nothing any more", async () => {
  const { server, clock, room, say } = await talk();
  const typing = () => room.info.get()?.typing;
  server.act("bob", "typing", { conversation_id: 1, on: true });
  await clock.pass(10);
  assert.deepEqual(typing(), ["bob"]);
  server.act("bob", "typing", { conversation_id: 1, on: false });
  await clock.pass(10);
  assert.deepEqual(typing(), []);
  server.act("bob", "typing", { conversation_id: 1, on: true });
  say("done");
  await clock.pass(10);
  assert.deepEqual(typing(), []);
  server.act("bob", "typing", { conversation_id: 1, on: true });
  await clock.pass(10);
  await clock.pass(6_100);
  assert.deepEqual(typing(), []);
});

test("typing is told now and then, and its end by itself", async () => {
  const { server, clock, room } = await talk();
  server.asked.length = 0;
  const told = () => server.asked.filter(({ type }) => type === "typing").map((frame) => frame["on"]);
  for (let key = 0; key < 50; key += 1) {
    room.typing();
    await clock.pass(100);
  }
  assert.deepEqual(told(), [true, true]);
  await clock.pass(5_000);
  assert.deepEqual(told(), [true, true, false]);
  room.typing();
  room.typing(false);
  await clock.pass(10);
  assert.deepEqual(told(), [true, true, false, true, false]);
});

test("reading is shown on all devices of the user, and to others", async () => {
  const { world, alice, server, clock, room, say } = await talk();
  const second = await world.live("alice");
  const bob = await world.live("bob");
  const seen = bob.conversation(1);
  seen.info.subscribe(() => {});
  const { id } = say("one");
  say("two");
  await clock.pass(100);
  room.markRead(id);
  assert.equal(room.info.get()?.unread, 1, "at once");
  await clock.pass(100);
  assert.equal(second.conversation(1).info.get()?.unread, 1);
  assert.equal(seen.info.get()?.read?.["alice"], id);
  room.markRead();
  await clock.pass(100);
  assert.equal(second.conversations.get()[0]?.unread, 0);
  const asked = server.asked.length;
  room.markRead(id);
  await clock.pass(100);
  assert.equal(server.asked.length, asked, "it only goes forward");
  assert.equal(alice.conversations.get()[0]?.read_id, 2);
});

test("an unread message that is deleted does not count", async () => {
  const { server, clock, room, say } = await talk();
  const { id } = say("one @alice");
  say("two");
  await clock.pass(10);
  server.act("bob", "delete_message", { message_id: id });
  await clock.pass(10);
  assert.deepEqual([room.info.get()?.unread, room.info.get()?.mentions], [1, 0]);
});

test("the other one of a new direct conversation is known by name", async () => {
  const world = createWorld();
  const alice = await world.live("alice");
  await world.live("bob");
  world.server.act("bob", "create_conversation", { members: ["alice"], direct: true });
  await world.clock.pass(100);
  const [conversation] = alice.conversations.get();
  assert.deepEqual([conversation?.title, conversation?.profile?.is_online], ["BOB", true]);
  world.server.push("alice", "user_status", { username: "bob", is_online: false, last_online: 1 });
  await world.clock.pass(10);
  assert.equal(alice.conversations.get()[0]?.profile?.is_online, false);
});

test("snapshots stay the same until they change, and unchanged parts always", async () => {
  const { alice, clock, room, say, server } = await talk();
  say("one");
  server.act("bob", "create_conversation", { members: ["alice"], name: "other" });
  await clock.pass(50);
  const before = room.messages.get();
  const list = alice.conversations.get();
  assert.equal(room.messages.get(), before);
  assert.equal(alice.conversations.get(), list);
  say("two");
  await clock.pass(50);
  const after = room.messages.get();
  assert.notEqual(after, before);
  assert.equal(after.items[0], before.items[0]);
  assert.equal(before.items.length, 1, "an old snapshot never changes");
  const other = (views: typeof list) => views.find(({ name }) => name === "other");
  assert.equal(other(alice.conversations.get()), other(list));
});

test("a subscriber that throws harms nobody else", async () => {
  const world = createWorld();
  const errors: unknown[] = [];
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  const alice = await world.live("alice", { report: (error) => errors.push(error) });
  let told = 0;
  alice.conversations.subscribe(() => {
    throw new Error("of the app");
  });
  alice.conversations.subscribe(() => (told += 1));
  alice.on("message", () => {
    throw new Error("of the app");
  });
  world.server.act("bob", "send_message", { conversation_id: 1, content: "hi" });
  await world.clock.pass(50);
  await idle();
  assert.ok(told > 0);
  assert.equal(errors.length, 2 * told > 2 ? errors.length : 2);
  assert.deepEqual(contents(alice, 1), ["hi"]);
});

test("members come and go in large conversations, whose changes do not list them", async () => {
  const { server, clock, room } = await talk();
  await clock.pass(50);
  const push = (type: string, data: object) => server.push("alice", type, data);
  const roles = { alice: "owner" } as Conversation["roles"];
  push("add_members", { id: 1, name: "lunch", rev: 2, direct: false, created_at: 1, roles, added: ["carol", "dave"] });
  push("remove_member", { conversation_id: 1, username: "bob", rev: 3, roles });
  await clock.pass(50);
  assert.deepEqual(room.info.get()?.members, ["alice", "carol", "dave"]);
  assert.equal(room.info.get()?.member_count, 3);
});
