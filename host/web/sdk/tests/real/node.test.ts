// The library in Node against the real server, with `ws`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";

import { WebSocket } from "ws";

import { type Account, keptTokenAuth } from "../../src/account.ts";
import { createContacts } from "../../src/contacts.ts";
import { file } from "../../src/files.ts";
import { type Chat, type ChatOptions, type Live, createChat } from "../../src/index.ts";
import { PASSWORD, type RealServer, startServer } from "./server.ts";

let server: RealServer;
before(async () => {
  server = await startServer();
  await server.register("alice", "bob", "carol", "dave", "eve");
});
after(() => server.end());

const chats: Chat[] = [];
after(() => Promise.all(chats.map((chat) => chat.close())));

async function client(username: string, options: Partial<ChatOptions> = {}): Promise<Chat & Account> {
  const chat = createChat({ url: server.url, WebSocket, auth: keptTokenAuth(), ...options } as ChatOptions<Account>);
  chats.push(chat);
  await chat.login({ username, password: PASSWORD });
  await until(chat.connection, ({ state }) => state === "live");
  return chat;
}

/** Resolves when the value is so. */
function until<T>(live: Live<T>, holds: (value: T) => boolean): Promise<T> {
  return new Promise((resolve, reject) => {
    const tooLate = setTimeout(() => reject(new Error(`in vain: ${JSON.stringify(live.get())}`)), 60_000);
    const look = () => {
      if (!holds(live.get())) return;
      clearTimeout(tooLate);
      stop();
      resolve(live.get());
    };
    let stop = () => {};
    stop = live.subscribe(look);
    look();
  });
}

test("two people talk", async () => {
  const [alice, bob] = await Promise.all([client("alice"), client("bob")]);
  const { id } = await alice.request("create_conversation", { members: ["bob"], direct: true });
  const told: string[] = [];
  bob.on("message", ({ content }) => told.push(content));
  const [here, there] = [alice.conversation(id), bob.conversation(id)];
  const sent = await here.send("hello bob").done;
  await until(there.messages, ({ items }) => items.length === 1);
  assert.deepEqual(told, ["hello bob"]);
  assert.equal(bob.conversations.get()[0]?.unread, 1);
  await until(bob.conversations, ([first]) => first?.title === "ALICE");

  here.info.subscribe(() => {});
  there.typing();
  await until(here.info, (info) => info?.typing[0] === "bob");
  await there.send("hello alice", { replyTo: sent.id }).done;
  await until(here.info, (info) => info?.typing.length === 0);
  there.markRead();
  await until(here.info, (info) => info?.read?.["bob"] === there.messages.get().items.at(-1)?.id);

  await here.edit(sent.id, "hello @bob").done;
  await there.react(sent.id, "👍", true).done;
  await until(here.messages, ({ items }) => items[0]?.reactions?.["👍"]?.[0] === "bob");
  await here.delete(sent.id).done;
  await until(there.messages, ({ items }) => items[0]?.state === "stored" && items[0].deleted === true);
  assert.deepEqual(there.messages.get().items.map(({ content }) => content), ["", "hello alice"]);
  await assert.rejects(there.edit(sent.id, "not mine").done, { code: "forbidden" });
});

test("a group: members and roles", async () => {
  const [alice, bob, carol] = await Promise.all([client("alice"), client("bob"), client("carol")]);
  const { id } = await alice.request("create_conversation", { members: ["bob"], name: "lunch" });
  const [here, there] = [alice.conversation(id), bob.conversation(id)];
  here.info.subscribe(() => {});
  there.info.subscribe(() => {});
  await alice.request("set_role", { conversation_id: id, username: "bob", role: "admin" });
  await until(there.info, (info) => info?.roles?.["bob"] === "admin");
  await bob.request("add_members", { conversation_id: id, members: ["carol"] });
  await until(carol.conversations, (list) => list.some((conversation) => conversation.id === id));
  await until(here.info, (info) => info?.members?.length === 3);
  await bob.request("rename_conversation", { conversation_id: id, name: "dinner" });
  await until(carol.conversation(id).info, (info) => info?.name === "dinner");
  await alice.request("remove_member", { conversation_id: id, username: "carol" });
  await until(carol.conversation(id).info, (info) => info === null);
  await alice.request("leave_conversation", { conversation_id: id });
  await until(here.info, (info) => info === null);
  await until(there.info, (info) => info?.roles?.["bob"] === "owner");
});

test("what is written while the server is killed arrives once, in order", async () => {
  const [alice, bob] = await Promise.all([client("alice"), client("bob")]);
  const { id } = await alice.request("create_conversation", { members: ["bob"], name: "kills" });
  const [here, there] = [alice.conversation(id), bob.conversation(id)];
  there.messages.subscribe(() => {});
  const all: string[] = [];
  for (let round = 0; round < 3; round += 1) {
    for (let count = 0; count < 10; count += 1) {
      const content = `${round} ${count}`;
      all.push(content);
      here.send(content);
    }
    await server.kill();
    here.send(`${round} while away`);
    all.push(`${round} while away`);
    await server.start();
    alice.connect();
    bob.connect();
  }
  await until(alice.pending, (pending) => pending === 0);
  await until(there.messages, ({ items }) => items.length === all.length);
  assert.deepEqual(there.messages.get().items.map(({ content }) => content), all);
  assert.deepEqual(here.messages.get().items.map(({ content }) => content), all);
});

test("a session that is ended elsewhere needs a login, and keeps the outbox", async () => {
  const [one, two] = await Promise.all([client("dave"), client("dave")]);
  const { id } = await one.request("create_conversation", { members: [], name: "notes" });
  const sessions = await two.sessions();
  const other = sessions.find(({ current }) => !current);
  assert.ok(other !== undefined);
  await two.endSession(other.id);
  await until(one.connection, ({ state }) => state === "needs-auth");
  const sent = one.conversation(id).send("later");
  assert.equal(one.conversations.get().length, 1);
  await one.login({ username: "dave", password: PASSWORD });
  assert.equal((await sent.done).content, "later");
  await one.changePassword(PASSWORD, "another password");
  await until(two.connection, ({ state }) => state === "needs-auth");
  await assert.rejects(two.login({ username: "dave", password: PASSWORD }), { code: "unauthorized" });
  await one.logout();
  assert.deepEqual(one.conversations.get(), []);
});

test("a restored backup is noticed, and what was written before is sent if its user says so", async () => {
  const path = server.file("alice.json");
  const alice = await client("alice", { storage: file(path) });
  const { id } = await alice.request("create_conversation", { members: ["bob"], name: "before the backup" });
  await alice.conversation(id).send("kept").done;
  server.command("backup", server.file("backup.db"));
  await alice.conversation(id).send("lost").done;
  alice.conversation(id).messages.subscribe(() => {});
  await server.kill();
  const sent = alice.conversation(id).send("after it");
  server.command("restore", server.file("backup.db"));
  await server.start();
  alice.connect();
  await assert.rejects(sent.done, { code: "conflict" });
  await until(alice.conversation(id).messages, ({ items }) => items.length === 2);
  sent.retry();
  await sent.done;
  assert.deepEqual(alice.conversation(id).messages.get().items.map(({ content }) => content), ["kept", "after it"]);
});

test("the example bot answers everything once, also what was said while it was away", async () => {
  const alice = await client("alice");
  const bot = () =>
    spawn(process.execPath, [resolve("examples/echo_bot.mjs")], {
      cwd: server.file(""),
      env: { ...process.env, SERVER: server.url, NAME: "echo", PASSWORD },
      stdio: ["ignore", "pipe", "inherit"],
    });
  const listens = (running: ReturnType<typeof bot>) =>
    new Promise<void>((done) => createInterface({ input: running.stdout }).on("line", (line) => line === "echo: live" && done()));
  const first = bot();
  await listens(first);
  const { id } = await alice.request("create_conversation", { members: ["echo"], direct: true });
  const room = alice.conversation(id);
  await room.send("one").done;
  await until(room.messages, ({ items }) => items.some((item) => item.sender_username === "echo"));
  first.kill("SIGKILL");
  await room.send("two").done;
  const second = bot();
  await until(room.messages, ({ items }) => items.length >= 4);
  second.kill("SIGTERM");
  assert.deepEqual(room.messages.get().items.map(({ content }) => content), ["one", "one", "two", "two"]);
});

test("people are found, added and blocked, and messages are searched", async () => {
  const [alice, carol] = await Promise.all([client("alice"), client("carol")]);
  const contacts = createContacts(alice);
  const ends = [contacts.list.subscribe(() => {}), contacts.blocked.subscribe(() => {})];
  const { users } = await alice.request("search_users", { query: "car" });
  assert.deepEqual(users.map(({ username }) => username), ["carol"]);
  await contacts.add("carol");
  await until(contacts.list, ([first]) => first?.username === "carol" && first.is_online);
  const { id } = await alice.request("create_conversation", { members: ["carol"], direct: true });
  await alice.conversation(id).send("where is the umbrella?").done;
  const { messages } = await carol.request("search_messages", { query: "umbr" });
  assert.equal(messages[0]?.content, "where is the umbrella?");
  await contacts.block("carol");
  assert.deepEqual(contacts.blocked.get(), ["carol"]);
  await assert.rejects(carol.conversation(id).send("hello?").done, { code: "forbidden" });
  const failed = carol.conversation(id).messages.get().items.at(-1);
  assert.equal(failed?.state, "failed");
  await contacts.unblock("carol");
  if (failed?.state === "failed") {
    failed.sent.retry();
    assert.equal((await failed.sent.done).content, "hello?");
  }
  await contacts.remove("carol");
  assert.deepEqual(contacts.list.get(), []);
  assert.deepEqual((await carol.request("get_contacts")).contacts, []);
  for (const end of ends) end();
});

test("whoever deletes the account is shown as deleted", async () => {
  const [alice, eve] = await Promise.all([client("alice"), client("eve")]);
  await alice.request("add_contact", { contact_username: "eve" });
  const { id: group } = await alice.request("create_conversation", { members: ["eve", "bob"], name: "with eve" });
  const { id: direct } = await alice.request("create_conversation", { members: ["eve"], direct: true });
  const asked = await alice.conversation(group).send("who is here?").done;
  await until(eve.conversation(group).info, (info) => info?.last_message?.id === asked.id);
  await eve.conversation(group).react(asked.id, "👋", true).done;
  await eve.conversation(group).send("me").done;
  await eve.conversation(direct).send("bye").done;
  await until(alice.conversation(direct).info, (info) => info?.title === "EVE" && info.last_message !== null);
  await eve.deleteAccount(PASSWORD);
  await until(alice.conversation(group).info, (info) => info?.members?.includes("eve") === false);
  await until(alice.conversation(direct).info, (info) => info?.title === "deleted");
  for (const id of [group, direct]) {
    const { items } = alice.conversation(id).messages.get();
    assert.equal(items.at(-1)?.sender_username, "deleted");
    assert.deepEqual(items[0]?.reactions ?? {}, {});
  }
  assert.equal(alice.people.get().has("eve"), false);
});
