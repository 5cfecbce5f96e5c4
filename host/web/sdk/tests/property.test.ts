// Any history, any cuts: in the end every client knows what the server has, each message is stored
// once and in order, and everything that was sent has an end.

import assert from "node:assert/strict";
import { test } from "node:test";

import { type Chat, ChatError, type Keeper, type Message, type Sending } from "../src/index.ts";
import { createSharedMemory, sharedMemory } from "./shared_memory.ts";
import { type World, createWorld, stateOf } from "./world.ts";

const SEEDS = Number(process.env["SEEDS"] ?? 25);
const STEPS = 150;
const NAMES = ["alice", "bob", "carol", "dave"];

interface Device {
  username: string;
  storage: Keeper;
  chat: Chat;
  /** Messages that it was told of, in this life. */
  told: Message[];
  /** Told in the lives before it was loaded anew. */
  toldBefore: Set<number>;
}

interface SentThing {
  device: Device;
  conversation: number;
  content: string;
  sent: Sending;
}

function start(world: World, username: string, storage: Keeper): Device {
  const device: Device = { username, storage, chat: world.client(username, { storage }), told: [], toldBefore: new Set() };
  listen(device);
  return device;
}

function listen(device: Device): void {
  device.told = [];
  device.chat.on("message", (message) => device.told.push(message));
}

async function history(seed: number): Promise<void> {
  const world = createWorld(seed);
  const { server, clock, random } = world;
  const below = (count: number) => Math.floor(random() * count);
  const pick = <T>(list: readonly T[]): T => list[below(list.length)] as T;
  let isCalm = false;
  server.latency = () => (isCalm ? 1 : random() < 0.1 ? below(300) : below(30));
  server.losesPush = () => !isCalm && random() < 0.03;
  server.before = (frame) => {
    if (isCalm) return;
    if (random() < 0.03) throw server.refuse("unavailable", 1);
    if (random() < 0.03 && frame.type !== "ping") throw server.refuse("rate_limited", 2);
  };
  // Some users have two devices; carol's two are tabs with one storage.
  const shared = createSharedMemory(world.locks);
  const devices = [
    start(world, "alice", sharedMemory()),
    start(world, "alice", sharedMemory()),
    start(world, "bob", sharedMemory()),
    start(world, "carol", shared.tab()),
    start(world, "carol", shared.tab()),
    start(world, "dave", sharedMemory()),
  ];
  await world.until("all are live", () => devices.every((device) => stateOf(device.chat) === "live"));
  for (const members of [NAMES, ["alice", "bob"], ["carol", "dave", "alice"]]) {
    server.act(members[0] as string, "create_conversation", { members });
  }
  const club = 1;
  const sendings: SentThing[] = [];
  let count = 0;
  const ids = () => [...server.conversations.keys()];

  for (let step = 0; step < STEPS; step += 1) {
    const device = pick(devices);
    const { chat, username } = device;
    const own = ids().filter((id) => server.conversation(id).members.includes(username));
    const id = own.length > 0 ? pick(own) : 1;
    const room = chat.conversation(id);
    const choice = random();
    if (choice < 0.4) {
      // The club is left by some; what was sent there may be refused.
      const content = `${username} ${(count += 1)}${random() < 0.2 ? " @bob" : ""}`;
      sendings.push({ device, conversation: id, content, sent: room.send(content) });
    } else if (choice < 0.55) {
      const item = pick(room.messages.get().items.filter((item) => item.id !== null));
      if (item !== undefined && item.id !== null) {
        if (item.sender_username !== username) room.react(item.id, pick(["👍", "🎉"]), random() < 0.7);
        else if (random() < 0.7) room.edit(item.id, `${item.content.replace(/\+*$/, "")}+`);
        else if (!item.content.includes("+")) room.delete(item.id);
      }
    } else if (choice < 0.62) {
      room.markRead();
    } else if (choice < 0.66) {
      room.loadOlder().catch(() => {});
    } else if (choice < 0.7) {
      const members = server.conversation(club).members;
      const [manager] = members;
      const other = pick(NAMES);
      if (manager !== undefined && random() < 0.5) server.act(manager, "add_members", { conversation_id: club, members: [other] });
      else if (manager !== undefined && manager !== other && members.includes(other)) {
        server.act(manager, "remove_member", { conversation_id: club, username: other });
      }
    } else if (choice < 0.73) {
      const { members } = server.conversation(club);
      if (members[0] !== undefined) server.act(members[0], "rename_conversation", { conversation_id: club, name: `club ${step}` });
    } else if (choice < 0.75) {
      server.act(username, "create_conversation", { members: [pick(NAMES)], name: `new ${step}` });
    } else if (choice < 0.85) {
      const line = pick([...server.lines]);
      if (line !== undefined) random() < 0.3 ? line.swallow() : line.cut(...pick<[number, string]>([[1006, ""], [1001, "server is shutting down"], [1013, "too slow"]]));
    } else if (choice < 0.87) {
      for (const line of [...server.lines]) line.cut();
    } else if (choice < 0.89 && device.username !== "carol") {
      // The page is loaded anew. What was said by then is stored.
      await device.chat.close();
      for (const message of device.told) device.toldBefore.add(message.id);
      device.chat = world.client(username, { storage: device.storage });
      listen(device);
    } else if (choice < 0.9) {
      const unsubscribe = room.messages.subscribe(() => {});
      clock.after(below(5_000), unsubscribe);
    }
    if (random() < 0.6) await clock.pass(below(random() < 0.1 ? 20_000 : 300));
  }

  isCalm = true;
  // Those that were swallowed find out.
  await clock.pass(60_000);
  await world.until("all are live again", () => devices.every((device) => stateOf(device.chat) === "live"));
  await clock.pass(5_000);
  // As a server does that may have missed something itself.
  for (const line of server.lines) line.push({ type: "sync", success: true, data: { conversations: [], left: [], more: true } });
  await clock.pass(5_000);
  const outcomes = await outcomesOf(sendings);

  for (const device of devices) {
    const { chat, username } = device;
    const own = ids().filter((id) => server.conversation(id).members.includes(username));
    const known = chat.conversations.get();
    assert.deepEqual(known.map(({ id }) => id).sort(), own.sort(), `${username}: the conversations`);
    for (const id of own) {
      const there = server.conversation(id);
      const room = chat.conversation(id);
      const unsubscribe = room.messages.subscribe(() => {});
      await clock.pass(200);
      while (room.messages.get().hasOlder) {
        const loaded = room.loadOlder();
        await clock.pass(200);
        await loaded;
      }
      const here = room.messages.get().items;
      const failed = here.filter((item) => item.state !== "stored");
      assert.ok(failed.every((item) => item.state === "failed"), `${username}: nothing is pending`);
      const plain = here.filter((item) => item.state === "stored").map(({ key: _, state: _state, ...message }) => message);
      assert.deepEqual(plain, there.messages, `${username}: the messages of ${id}`);
      const info = room.info.get();
      assert.ok(info !== null);
      const { name, rev, members, roles, last_message, unread, mentions, read_id } = info;
      const readId = there.read[username] ?? 0;
      const others = there.messages.filter((m) => m.id > readId && m.sender_username !== username && !m.deleted);
      assert.deepEqual(
        { name, rev, members, roles, last_message, unread, mentions, read_id },
        {
          name: there.name,
          rev: there.rev,
          members: there.members,
          roles: there.roles,
          last_message: there.messages.at(-1) ?? null,
          unread: Math.min(100, others.length),
          mentions: others.filter((m) => m.mentions?.includes(username)).length,
          read_id: readId,
        },
        `${username}: what is said of ${id}`,
      );
      unsubscribe();
    }
    const times = new Map<number, number>();
    for (const { id } of device.told) times.set(id, (times.get(id) ?? 0) + 1);
    const twice = [...times].filter(([, times]) => times > 1);
    assert.deepEqual(twice, [], `${username}: told of each message once`);
    // Everyone was there from the beginning.
    for (const id of own.filter((id) => id !== club)) {
      for (const message of server.conversation(id).messages) {
        if (message.deleted) continue;
        const isTold = times.has(message.id) || device.toldBefore.has(message.id);
        assert.ok(isTold, `${username} was told of message ${message.id} of ${id}`);
      }
    }
  }
  for (const { username } of devices) {
    for (const id of ids()) {
      const stored = server.conversation(id).messages.filter((m) => m.sender_username === username);
      const clientIds = stored.map((m) => m.client_id);
      assert.equal(new Set(clientIds).size, clientIds.length, "each message is stored once");
    }
  }
  for (const device of devices) {
    for (const id of ids()) {
      const mine = sendings.filter((sending) => sending.device === device && sending.conversation === id);
      const stored = mine.filter((sending) => outcomes.get(sending) === "stored").map((sending) => sending.sent.key);
      const there = server.conversation(id).messages.map((m) => `c${m.client_id}`).filter((key) => stored.includes(key));
      assert.deepEqual(there, stored, `${device.username}: the order of what was sent to ${id}`);
    }
  }
  await Promise.all(devices.map((device) => device.chat.close()));
}

/** How everything that was sent has ended. */
async function outcomesOf(sendings: SentThing[]): Promise<Map<SentThing, string>> {
  const outcomes = new Map<SentThing, string>();
  const pending = Symbol("pending");
  for (const sending of sendings) {
    const outcome = await Promise.race([
      sending.sent.done.then(
        () => "stored",
        (error: unknown) => (error instanceof ChatError ? error.code : String(error)),
      ),
      new Promise((resolve) => setImmediate(resolve, pending)),
    ]);
    assert.notEqual(outcome, pending, "settled");
    // After the client that sent it was closed, its successor sends it.
    assert.ok(outcome === "stored" || outcome === "not_found" || outcome === "closed", String(outcome));
    outcomes.set(sending, String(outcome));
  }
  return outcomes;
}

const only = process.env["SEED"];
for (let seed = only === undefined ? 1 : Number(only); seed <= (only === undefined ? SEEDS : Number(only)); seed += 1) {
  test(`history ${seed}`, () => history(seed));
}
