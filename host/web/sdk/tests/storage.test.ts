// Storages: IndexedDB, a file, one's own; and those that are full or refused.

import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import "fake-indexeddb/auto";

import { file } from "../src/files.ts";
import type { Keeper } from "../src/index.ts";
import { indexedDb } from "../src/indexeddb.ts";
import { createSharedMemory } from "./shared_memory.ts";
import { type World, contents, createWorld, stateOf } from "./world.ts";

const folder = await mkdtemp(join(tmpdir(), "chatapp-sdk-"));
test.after(() => rm(folder, { recursive: true }));

/** IndexedDB and files take real time. */
async function real(holds: () => boolean): Promise<void> {
  for (let count = 0; count < 5_000 && !holds(); count += 1) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.ok(holds());
}

async function live(world: World, storage: Keeper) {
  const chat = world.client("alice", { storage });
  for (let count = 0; count < 5_000 && stateOf(chat) !== "live"; count += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    await world.clock.pass(1);
  }
  assert.equal(stateOf(chat), "live");
  return chat;
}

let count = 0;
const places: Record<string, () => () => Keeper> = {
  IndexedDB: () => {
    const name = `chat ${(count += 1)}`;
    return () => indexedDb({ name });
  },
  "a file": () => {
    const path = join(folder, `${(count += 1)}`, "chat.json");
    return () => file(path);
  },
};

for (const [name, place] of Object.entries(places)) {
  test(`what is kept in ${name} is shown before the network answers`, async () => {
    const open = place();
    const world = createWorld();
    const { server, clock } = world;
    for (const id of [1, 2, 3]) {
      server.act("alice", "create_conversation", { members: ["bob"], name: `c${id}` });
      for (let count = 0; count < 5; count += 1) server.act("bob", "send_message", { conversation_id: id, content: `${id} ${count}` });
    }
    const first = await live(world, open());
    server.act("bob", "send_message", { conversation_id: 2, content: "last" });
    await clock.pass(100);
    first.conversation(2).messages.subscribe(() => {});
    await clock.pass(100);
    await first.close();

    server.admit = () => "refuse";
    const second = world.client("alice", { storage: open() });
    await real(() => second.isLoaded.get());
    assert.equal(second.me.get()?.username, "alice");
    assert.deepEqual(second.conversations.get().map(({ name }) => name), ["c2", "c3", "c1"]);
    assert.equal(second.conversations.get()[0]?.unread, 6);
    assert.equal(second.people.get().get("bob")?.fullname, "BOB");
    assert.equal(second.conversation(2).messages.get().loading, true);
    await real(() => !second.conversation(2).messages.get().loading);
    assert.deepEqual(contents(second, 2), ["2 0", "2 1", "2 2", "2 3", "2 4", "last"]);
    // Only what has changed is asked for.
    server.asked.length = 0;
    server.act("bob", "send_message", { conversation_id: 2, content: "newer" });
    server.admit = () => "alice";
    second.connect();
    await clock.pass(31_000);
    await real(() => contents(second, 2).includes("newer"));
    assert.deepEqual(server.asked.find(({ type }) => type === "sync")?.["revs"], { 1: 6, 2: 7, 3: 6 });
    await second.close();
  });
}

test("a conversation that is watched before the storage was read is shown when it was, without the network", async () => {
  const open = places["IndexedDB"]?.() as () => Keeper;
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  const first = await live(world, open());
  first.conversation(1).messages.subscribe(() => {});
  server.act("bob", "send_message", { conversation_id: 1, content: "hi" });
  await clock.pass(100);
  await first.close();

  server.admit = () => "refuse";
  const second = world.client("alice", { storage: open() });
  let shown = contents(second, 1);
  assert.deepEqual(shown, []);
  second.conversation(1).messages.subscribe(() => (shown = contents(second, 1)));
  await real(() => shown.length > 0);
  assert.deepEqual(shown, ["hi"]);
  await second.close();
});

test("an older state never replaces a newer one in IndexedDB", async () => {
  const open = places["IndexedDB"]?.() as () => Keeper;
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  const behind = await live(world, open());
  await behind.flush();
  server.losesPush = () => true;
  server.act("bob", "send_message", { conversation_id: 1, content: "new" });
  server.losesPush = () => false;
  const ahead = await live(world, open());
  await ahead.close();
  behind.conversation(1).markRead(1);
  await clock.pass(10);
  await behind.close();
  server.admit = () => "refuse";
  const third = world.client("alice", { storage: open() });
  await real(() => third.isLoaded.get());
  assert.equal(third.conversations.get()[0]?.last_message?.content, "new");
  await third.close();
});

test("tabs hear of each other through IndexedDB", async () => {
  const open = places["IndexedDB"]?.() as () => Keeper;
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  const one = await live(world, open());
  const two = await live(world, open());
  await world.cut();
  one.conversation(1).send("of one");
  await real(() => contents(two, 1).includes("of one"));
  await one.close();
  await two.close();
});

test("a storage that is full, or refused, keeps nobody from talking", async () => {
  for (const [name, state] of [["QuotaExceededError", "full"], ["SecurityError", "refused"]] as const) {
    const world = createWorld();
    const { server, clock } = world;
    server.act("alice", "create_conversation", { members: ["bob"] });
    const storage = createSharedMemory();
    storage.fails = Object.assign(new Error("no"), { name });
    const chat = await world.live("alice", { storage: storage.tab() });
    const sent = chat.conversation(1).send("hi");
    server.act("bob", "send_message", { conversation_id: 1, content: "hello" });
    await clock.pass(1_000);
    await sent.done;
    assert.deepEqual(contents(chat, 1).sort(), ["hello", "hi"]);
    assert.equal(chat.storage.get(), state);
    // Later it works again, and everything is stored.
    storage.fails = null;
    await clock.pass(31_000);
    await chat.close();
    assert.ok([...storage.entries.keys()].some((key) => key.startsWith("c|")));
    assert.ok(![...storage.entries.keys()].some((key) => key.startsWith("o|")));
  }
});

test("a full storage gives up old messages before it gives up the outbox", async () => {
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  server.act("bob", "send_message", { conversation_id: 1, content: "one" });
  server.act("bob", "send_message", { conversation_id: 1, content: "two" });
  const storage = createSharedMemory();
  const chat = await world.live("alice", { storage: storage.tab() });
  await clock.pass(1_000);
  assert.ok([...storage.entries.keys()].some((key) => key.startsWith("m|")));
  await world.cut();
  const full = Object.assign(new Error("no"), { name: "QuotaExceededError" });
  storage.room = storage.entries.size;
  storage.full = full;
  chat.conversation(1).send("waits");
  await clock.pass(1_000);
  assert.ok([...storage.entries.keys()].some((key) => key.startsWith("o|")));
  assert.ok(![...storage.entries.keys()].some((key) => key.startsWith("m|")));
  await chat.close();
});

test("a storage that hangs is not waited for", async () => {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  const never = new Promise<never>(() => {});
  const { keep } = await import("../src/storage.ts");
  const storage = keep({ read: () => never, write: () => never, watch: () => () => {} });
  const chat = world.client("alice", { storage });
  await world.clock.pass(30_000);
  assert.equal(stateOf(chat), "live");
  assert.equal(chat.conversations.get().length, 1);
});

test("what a storage that cannot be read does not tell is not taken for sent", async () => {
  const world = createWorld();
  const { server, clock } = world;
  server.act("alice", "create_conversation", { members: ["bob"] });
  const { id } = server.act("alice", "send_message", { conversation_id: 1, content: "lunch" }).data as { id: number };
  const storage = createSharedMemory(world.locks);
  const chat = await world.live("alice", { storage: storage.tab() });
  await clock.pass(1_000);
  const mend = await world.cut();
  const edited = chat.conversation(1).edit(id, "dinner");
  await clock.pass(1_000);
  // Another tab writes to the outbox, and this one sees what is in it.
  const other = world.client("alice", { storage: storage.tab() });
  await clock.pass(1_000);
  other.conversation(1).send("of another tab");
  await clock.pass(1_000);
  storage.unreadable = new Error("no");
  other.conversation(1).send("of another tab");
  await clock.pass(1_000);
  assert.equal(edited.state, "pending");
  mend();
  await world.until("it is sent", () => chat.pending.get() === 0);
  assert.equal(server.conversation(1).messages[0]?.content, "dinner");
  await chat.close();
  await other.close();
});

test("what a storage holds is bounded", async () => {
  const world = createWorld();
  const { server, clock } = world;
  for (let id = 1; id <= 600; id += 1) server.act("alice", "create_conversation", { members: ["bob"], name: `c${id}` });
  const storage = createSharedMemory();
  const chat = await world.live("alice", { storage: storage.tab() });
  for (let id = 1; id <= 600; id += 1) server.act("bob", "send_message", { conversation_id: id, content: "x" });
  for (let count = 0; count < 300; count += 1) server.act("bob", "send_message", { conversation_id: 7, content: "x".repeat(count === 299 ? 10 : 2) });
  await clock.pass(2_000);
  await chat.flush();
  const blocks = [...storage.entries.values()].filter(({ key }) => key.startsWith("m|"));
  assert.ok(blocks.length <= 500, String(blocks.length));
  for (const { value } of blocks) assert.ok((value as { messages: unknown[] }).messages.length <= 100);
  await chat.close();
});

test("a file that was half written is left as it was", async () => {
  const path = join(folder, "crash.json");
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  await (await live(world, file(path))).close();
  const before = await readFile(path, "utf8");
  await writeFile(`${path}.new`, before.slice(0, 20));
  const second = await live(world, file(path));
  assert.equal(second.conversations.get().length, 1);
  await second.close();
  assert.ok(!(await readdir(folder)).includes("crash.json.new"));
});
