#!/usr/bin/env node
// A chat in the terminal, and an example of a client. It needs Node 18 or newer and, once, the package ws:
//
//     npm install --no-save --prefix deploy ws
//     node deploy/chat.mjs alice xyz bob           # alice, whose password is xyz, talks to bob
//
// ../README.md says how to register the two. The server is http://127.0.0.1:8000; PORT names another port, and SERVER another
// server. If the connection ends, so does this program: PROTOCOL.md, "Writing a client that never loses a message", says how a
// client goes on.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";

const { SERVER, PORT = "8000" } = process.env;
const server = (SERVER ?? `http://127.0.0.1:${PORT}`).replace(/\/+$/, "");
const [username, password, other] = process.argv.slice(2);

const print = (line) => console.log(line.replace(/\p{Cc}/gu, " ")); // no control characters of others in this terminal
const end = (line) => process.exit(console.error(line) ?? 1);

if (other === undefined) end("usage: node deploy/chat.mjs USERNAME PASSWORD OTHER");
if (!/^https?:\/\//.test(server)) end(`SERVER is "${server}": expected http://… or https://…`);
const { WebSocket } = await import("ws").catch(() => end("no package ws: npm install --no-save --prefix deploy ws"));

// The cookie of the login opens the socket.
const body = JSON.stringify({ username, password });
const login = await fetch(`${server}/auth/login`, { method: "POST", body }).catch(({ cause }) => {
  const { code = "", message } = cause ?? {};
  if (code === "ECONNREFUSED") end(`no server at ${server}: start one with cargo run -p host, or name another with SERVER=http://…`);
  end(`${server}: ${/^(EPROTO|ERR_SSL_)/.test(code) ? "TLS failed: the server may speak http, not https" : message}`);
});
const later = `in ${login.headers.get("retry-after")} s`;
if (!login.ok) end(`login: ${(await login.text()).replace("later", later)}`);
const cookie = login.headers.get("set-cookie").split(";")[0];
const socket = new WebSocket(`${server.replace(/^http/, "ws")}/ws`, { headers: { cookie } });
socket.on("error", (error) => end(`/ws: ${error.message}`));
socket.on("close", (code, reason) => end(`closed: ${code} ${reason}`));

// A reply has the ref of its request. An event without a ref is a push: something that somebody else did.
const waiting = new Map();
function request(type, fields) {
  const ref = randomUUID();
  socket.send(JSON.stringify({ type, ref, ...fields }));
  return new Promise((resolve, reject) => waiting.set(ref, { resolve, reject }));
}
let onMessage = (message) => early.push(message);
const early = []; // messages that come before the history
socket.on("message", (text) => {
  const { type, ref, success, data, error, code } = JSON.parse(text);
  if (ref === undefined) return type === "send_message" && success && onMessage(data);
  const { resolve, reject } = waiting.get(ref);
  waiting.delete(ref);
  if (success) resolve(data);
  else reject(Object.assign(new Error(`${type}: ${error}`), { code }));
});

// The oldest conversation of exactly these two.
async function find() {
  const members = JSON.stringify([...new Set([username, other])].sort());
  const conversations = await request("get_conversations");
  for (const { id } of conversations.sort((a, b) => a.id - b.id)) {
    const info = await request("get_conversation_info", { id });
    if (JSON.stringify(info.members.sort()) === members) return id;
  }
}

async function chat() {
  await once(socket, "open");
  let conversation_id = await find();
  if (conversation_id === undefined) {
    await request("create_conversation", { members: [other] }).catch((error) => {
      throw error.code === "not_found" ? new Error(`there is no user ${other}: register it first`) : error;
    });
    conversation_id = await find(); // the same one for both, if both have just made one
  }
  const shown = new Set();
  onMessage = (message) => {
    if (message.conversation_id !== conversation_id || shown.has(message.id)) return;
    shown.add(message.id);
    print(`${message.sender_username}: ${message.content}`);
  };
  const { messages } = await request("get_messages", { conversation_id, limit: 20 });
  for (const message of [...messages.reverse(), ...early]) onMessage(message);

  if (process.stdin.isTTY) print(`-- ${server}: you are ${username}, talking to ${other}. Type a line and press Enter; Ctrl-D ends`);

  const sent = [];
  const send = (content) => {
    // The server stores a message with the same client_id only once: without a reply it could be sent again.
    const message = { conversation_id, content, client_id: randomUUID() };
    sent.push(request("send_message", message).catch((error) => print(error.message)));
  };
  for await (const line of createInterface({ input: process.stdin })) if (line) send(line);
  await Promise.all(sent);
  socket.removeAllListeners("close").close();
}

chat().catch((error) => end(error.message));
