// Clients of the library for the torture story of tests/tests/faults/torture.rs, which says on standard
// input what they do, a line of JSON each, and reads answers on standard output.

import { createInterface } from "node:readline";

import { WebSocket } from "ws";

import type { Clock } from "../src/environment.ts";
import { type Chat, ChatError, type Sending, createChat, tokenAuth } from "../src/index.ts";
import { createIds, createRandom } from "./fake_clock.ts";

/** A test does not have the time of a person: everything takes a tenth. */
const HASTE = 10;

interface Event {
  type: string;
  conversation_id: number;
  message_id: number;
  content: string;
  emoji: string;
  on: boolean;
}

type Command =
  | { do: "start"; client: number; url: string; cookie: string; seed: number }
  | { do: "send"; client: number; event: Event }
  | { do: "look"; client: number; id: number }
  | { do: "settle"; client: number; id: number };

interface Device {
  chat: Chat;
  unsettled: Set<Sending>;
  counts: { connections: number; duplicates: number; refused: number };
}

const hastyClock: Clock = {
  now: () => performance.now() * HASTE,
  after(ms, due) {
    const timer = setTimeout(due, ms / HASTE);
    return () => clearTimeout(timer);
  },
};

const devices = new Map<number, Device>();

function start({ url, cookie, seed }: { url: string; cookie: string; seed: number }): Device {
  const counts = { connections: 0, duplicates: 0, refused: 0 };
  class CountingSocket extends WebSocket {
    constructor(address: string) {
      super(address, [], { headers: { cookie } });
      this.on("open", () => (counts.connections += 1));
      this.on("message", (text) => {
        if (String(text).includes('"duplicate":true')) counts.duplicates += 1;
      });
    }
  }
  const random = createRandom(seed);
  const chat = createChat({
    url,
    auth: tokenAuth(() => "in the cookie"),
    WebSocket: CountingSocket,
    clock: hastyClock,
    random,
    uniqueId: createIds(random),
  });
  // Everything that it knows is looked at, so it stays in memory.
  const watched = new Set<number>();
  chat.conversations.subscribe(() => {
    for (const { id } of chat.conversations.get()) {
      if (watched.has(id)) continue;
      watched.add(id);
      chat.conversation(id).messages.subscribe(() => {});
    }
  });
  return { chat, unsettled: new Set(), counts };
}

function send({ chat, unsettled, counts }: Device, event: Event): void {
  const sent = sending(chat, event);
  unsettled.add(sent);
  sent.done
    .catch((error: unknown) => {
      // Somebody else may have deleted the message that this client wants to change.
      if (!(error instanceof ChatError) || error.code !== "conflict") counts.refused += 1;
    })
    .finally(() => unsettled.delete(sent));
}

function sending(chat: Chat, event: Event): Sending {
  if (event.type === "send_message") return chat.conversation(event.conversation_id).send(event.content);
  const conversations = chat.conversations.get().map(({ id }) => chat.conversation(id));
  const room = conversations.find(({ messages }) => messages.get().items.some((item) => item.id === event.message_id));
  if (room === undefined) throw new Error(`no message ${event.message_id}`);
  if (event.type === "edit_message") return room.edit(event.message_id, event.content);
  if (event.type === "delete_message") return room.delete(event.message_id);
  return room.react(event.message_id, event.emoji, event.on);
}

function memory({ chat, counts }: Device): object {
  const conversations = chat.conversations.get().map(({ id, rev, members }) => {
    const { items } = chat.conversation(id).messages.get();
    const messages = items.filter((item) => item.state === "stored");
    return { id, rev, members, messages };
  });
  return { username: chat.me.get()?.username ?? "", conversations, ...counts };
}

/** Everything is sent, and everything that others did before is known. */
async function settle({ chat, unsettled, counts }: Device): Promise<void> {
  for (;;) {
    await Promise.allSettled([...unsettled].map(({ done }) => done));
    const { connections } = counts;
    // What was told before the answer has arrived before it.
    const isThere = await chat.request("ping").then(() => true, () => false);
    const isLive = chat.connection.get().state === "live" && counts.connections === connections;
    const isLoaded = chat.conversations.get().every(({ id }) => !chat.conversation(id).messages.get().loading);
    if (isThere && isLive && isLoaded && unsettled.size === 0 && chat.pending.get() === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function answer(id: number, device: Device): void {
  process.stdout.write(`${JSON.stringify({ id, memory: memory(device) })}\n`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line) as Command;
  if (command.do === "start") {
    devices.set(command.client, start(command));
    continue;
  }
  const device = devices.get(command.client);
  if (device === undefined) throw new Error(`no client ${command.client}`);
  if (command.do === "send") send(device, command.event);
  else if (command.do === "look") answer(command.id, device);
  else void settle(device).then(() => answer(command.id, device));
}
process.exit(0);
