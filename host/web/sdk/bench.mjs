// Measures the library: `node build.mjs && node bench.mjs`. It needs no server: sockets answer from memory, so that what is
// measured is the work of the library alone. With centrifuge installed (`npm install --no-save centrifuge`), that is measured
// beside it, where the work is comparable. Run it on a quiet machine, with --expose-gc for memory.
import { gzipSync } from "node:zlib";

import { build } from "esbuild";
import "fake-indexeddb/auto";

import { createChat, tokenAuth } from "./dist/index.js";
import { indexedDb } from "./dist/indexeddb.js";

const CONVERSATIONS = 5_000;
const MESSAGES = 10_000;
const RATE_MESSAGES = 50_000;
const CONNECTS = 200;

const message = (id, conversation_id = 1, rev = id + 1) => ({
  id,
  conversation_id,
  rev,
  sender_username: "bob",
  content: `message number ${id}, of an ordinary length`,
  reply_id: null,
  sent_at: 1_700_000_000 + id,
});

/** A server with `count` conversations; `socket.push(frame)` tells something. */
function createServer(count) {
  const listed = (id) => ({
    ...{ id, name: `conversation ${id}`, rev: 2, direct: false, member_count: 2, members: ["alice", "bob"] },
    ...{ read_id: 0, unread: 1, mentions: 0, last_message: message(id, id, 2) },
  });
  const answers = {
    self: () => ({ username: "alice", fullname: "Alice", is_online: true, last_online: 1, created_at: 1 }),
    sync: ({ revs }) => ({ conversations: [], left: [], more: Object.keys(revs).length < count, epoch: "epoch" }),
    get_conversations({ limit, before = count + 1 }) {
      const first = before - 1;
      return Array.from({ length: Math.min(limit, first) }, (_, index) => listed(first - index));
    },
    get_messages: ({ conversation_id }) => ({ conversation_id, messages: [], has_more: false }),
    get_conversation_info: ({ id }) => ({ id, name: "", rev: 2, direct: false, created_at: 1, members: ["alice", "bob"], roles: {} }),
    ping: () => "pong",
  };
  const sockets = [];
  class Socket {
    readyState = 1;
    constructor() {
      sockets.push(this);
      queueMicrotask(() => this.onopen());
    }
    send(text) {
      const { type, ref, ...fields } = JSON.parse(text);
      this.push({ type, success: true, ref, data: answers[type]?.(fields) ?? {} });
    }
    push(frame) {
      const data = JSON.stringify(frame);
      queueMicrotask(() => this.onmessage?.({ data }));
    }
    close() {}
  }
  return { Socket, sockets };
}

const isLive = (chat) =>
  new Promise((resolve) => {
    const look = () => chat.connection.get().state === "live" && resolve();
    chat.connection.subscribe(look);
    look();
  });

function start({ Socket }, storage) {
  return createChat({ url: "http://chat.test", auth: tokenAuth(() => "token"), WebSocket: Socket, ...(storage ? { storage } : {}) });
}

const milliseconds = async (work) => {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
};

/** Bytes of what an app would load, minified, gzip -9. */
async function bytesOf(entry) {
  const { outputFiles } = await build({
    stdin: { contents: `export * from ${JSON.stringify(entry)}`, resolveDir: import.meta.dirname },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    external: ["react", "node:*"],
    logLevel: "error",
  });
  return gzipSync(outputFiles[0].text, { level: 9 }).length;
}

const report = (what, value, unit) => console.log(`${what.padEnd(78)} ${value.toFixed(value < 10 ? 2 : 0).padStart(8)} ${unit}`);

for (const name of ["index", "account", "contacts", "indexeddb", "storage", "files", "react"]) {
  report(`${name}.js with all that it needs, minified, gzip -9`, await bytesOf(`./dist/${name}.js`), "bytes");
}

{
  const server = createServer(CONVERSATIONS);
  const storage = () => indexedDb({ name: "bench" });
  const first = start(server, storage());
  report(`createChat to live, nothing stored, ${CONVERSATIONS} conversations`, await milliseconds(() => isLive(first)), "ms");
  await first.close();
  let chat;
  const shown = () => new Promise((resolve) => chat.isLoaded.subscribe(resolve));
  report(`createChat to shown, ${CONVERSATIONS} conversations stored`, await milliseconds(() => ((chat = start(server, storage())), shown())), "ms");
  await chat.close();
  const second = await milliseconds(() => isLive((chat = start(server, storage()))));
  report(`createChat to live, ${CONVERSATIONS} conversations stored`, second, "ms");
  await chat.close();
}

{
  const server = createServer(1);
  const chat = start(server);
  await isLive(chat);
  const room = chat.conversation(1);
  let shown = 0;
  room.messages.subscribe(() => (shown = room.messages.get().items.length));
  await new Promise((resolve) => setTimeout(resolve, 10));
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const [socket] = server.sockets;
  const push = (id) => socket.onmessage({ data: JSON.stringify({ type: "send_message", success: true, data: message(id) }) });
  for (let id = 2; id <= MESSAGES; id += 1) push(id);
  globalThis.gc?.();
  report(`memory of ${shown} messages that are shown`, (process.memoryUsage().heapUsed - before) / 2 ** 20, "MiB");
  const rest = await milliseconds(() => {
    for (let id = MESSAGES + 1; id <= MESSAGES + 5_000; id += 1) push(id);
  });
  report(`messages taken in beside ${MESSAGES} that are shown, each shown at once`, 5_000 / (rest / 1000), "a second");
  await chat.close();
}

{
  const server = createServer(1);
  const chat = start(server);
  await isLive(chat);
  let heard = 0;
  chat.on("message", () => (heard += 1));
  const [socket] = server.sockets;
  const texts = Array.from({ length: RATE_MESSAGES }, (_, index) => JSON.stringify({ type: "send_message", success: true, data: message(index + 2) }));
  const time = await milliseconds(() => texts.forEach((data) => socket.onmessage({ data })));
  report(`messages taken in and told, ${heard} of one conversation`, RATE_MESSAGES / (time / 1000), "a second");
  await chat.close();
}

report(
  "createChat to live, one conversation, the mean of many",
  (await milliseconds(async () => {
    for (let count = 0; count < CONNECTS; count += 1) {
      const chat = start(createServer(1));
      await isLive(chat);
      await chat.close();
    }
  })) / CONNECTS,
  "ms",
);

const { Centrifuge } = await import("centrifuge").catch(() => ({}));
if (Centrifuge === undefined) console.log("centrifuge is not installed: npm install --no-save centrifuge");
else {
  report("centrifuge with all that it needs, minified, gzip -9", await bytesOf("centrifuge"), "bytes");
  /** The same with the protocol of Centrifugo: one channel instead of one conversation. */
  const sockets = [];
  class Socket {
    binaryType = "";
    constructor() {
      sockets.push(this);
      queueMicrotask(() => this.onopen());
    }
    send(text) {
      for (const line of text.split("\n").filter(Boolean)) {
        const { id, connect, subscribe } = JSON.parse(line);
        const reply = connect ? { id, connect: { client: "c", version: "1", ping: 25, pong: true } } : { id, subscribe: subscribe ? { recoverable: true, epoch: "e", offset: 0 } : {} };
        queueMicrotask(() => this.onmessage?.({ data: JSON.stringify(reply) }));
      }
    }
    close() {}
  }
  const connect = () =>
    new Promise((resolve) => {
      const client = new Centrifuge("ws://chat.test", { websocket: Socket });
      const subscription = client.newSubscription("1");
      subscription.on("subscribed", () => resolve({ client, subscription }));
      subscription.subscribe();
      client.connect();
    });
  const { client, subscription } = await connect();
  let heard = 0;
  subscription.on("publication", () => (heard += 1));
  const texts = Array.from({ length: RATE_MESSAGES }, (_, index) => JSON.stringify({ push: { channel: "1", pub: { data: message(index + 2), offset: index + 1 } } }));
  const time = await milliseconds(async () => {
    for (const data of texts) sockets.at(-1).onmessage({ data });
    while (heard < RATE_MESSAGES) await new Promise(setImmediate);
  });
  report(`centrifuge: messages taken in and told, ${heard} of one channel`, RATE_MESSAGES / (time / 1000), "a second");
  client.disconnect();
  const each = await milliseconds(async () => {
    for (let count = 0; count < CONNECTS; count += 1) (await connect()).client.disconnect();
  });
  report("centrifuge: connect to subscribed, one channel, the mean of many", each / CONNECTS, "ms");
}
process.exit(0);
