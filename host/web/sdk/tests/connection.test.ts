// The connection: when it is opened, given up, opened again, and when it is not.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatError, type TokenReason, tokenAuth } from "../src/index.ts";
import { createSharedMemory } from "./shared_memory.ts";
import { createWorld, stateOf } from "./world.ts";

test("it connects, catches up and is live", async () => {
  const world = createWorld();
  const chat = world.client("alice");
  const states = [stateOf(chat)];
  chat.connection.subscribe(() => states.push(stateOf(chat)));
  await world.clock.pass(100);
  assert.deepEqual(states, ["connecting", "syncing", "live"]);
  assert.equal(chat.me.get()?.fullname, "ALICE");
  assert.equal(chat.isLoaded.get(), true);
});

test("the token is asked anew at each connect", async () => {
  const world = createWorld();
  const reasons: TokenReason[] = [];
  const chat = world.client("", {
    auth: tokenAuth((reason) => {
      reasons.push(reason);
      return `alice`;
    }),
  });
  await world.until("it is live", () => stateOf(chat) === "live");
  for (const line of world.server.lines) line.cut();
  await world.until("it is away", () => stateOf(chat) !== "live");
  await world.until("it is live again", () => stateOf(chat) === "live");
  assert.deepEqual(reasons, ["connect", "connect"]);
});

test("without a token it does not try again", async () => {
  const world = createWorld();
  let asked = 0;
  const chat = world.client("", { auth: tokenAuth(() => ((asked += 1), null)) });
  await world.clock.pass(600_000);
  assert.deepEqual(chat.connection.get(), { state: "needs-auth", reason: "nobody is logged in" });
  assert.equal(asked, 1);
});

test("a token that the server does not take is asked once more, then somebody has to log in", async () => {
  const world = createWorld();
  const { server } = world;
  const reasons: TokenReason[] = [];
  let refused = 0;
  server.admit = () => {
    refused += 1;
    return { code: 1000, reason: "invalid login-token" };
  };
  const chat = world.client("", { auth: tokenAuth((reason) => (reasons.push(reason), "alice")) });
  await world.clock.pass(600_000);
  assert.equal(stateOf(chat), "needs-auth");
  assert.deepEqual(reasons, ["connect", "expired"]);
  assert.equal(refused, 2);
  // The app has a new login.
  server.admit = () => "alice";
  chat.connect();
  await world.until("it is live", () => stateOf(chat) === "live");
});

test("a session that ended elsewhere needs a login", async () => {
  const world = createWorld();
  let token: string | null = "alice";
  const chat = await world.live("", { auth: tokenAuth(() => token) });
  token = null;
  for (const line of world.server.lines) line.cut(1008, "session ended");
  await world.until("it needs a login", () => stateOf(chat) === "needs-auth");
});

test("a token function that throws is asked again later", async () => {
  const world = createWorld();
  let fails = 3;
  const chat = world.client("", {
    auth: tokenAuth(() => {
      if ((fails -= 1) >= 0) throw new Error("offline");
      return "alice";
    }),
  });
  await world.until("it is live", () => stateOf(chat) === "live");
});

test("waits grow, have a random part, and begin anew after a success", async () => {
  const world = createWorld(7);
  const { clock, server } = world;
  const waits: number[] = [];
  const chat = await world.live("alice");
  chat.connection.subscribe(() => {
    const now = chat.connection.get();
    if (now.state === "waiting") waits.push(now.until - clock.now());
  });
  server.admit = () => "refuse";
  for (const line of server.lines) line.cut();
  await clock.pass(600_000);
  assert.ok(waits.length > 20, `${waits.length} tries in ten minutes`);
  assert.ok(waits.every((wait) => wait <= 30_000));
  assert.ok((waits[0] as number) <= 1_000);
  assert.ok(Math.max(...waits) > 20_000);
  assert.equal(new Set(waits).size, waits.length, "no two are the same");
  server.admit = () => "alice";
  await world.until("it is live", () => stateOf(chat) === "live");
  waits.length = 0;
  for (const line of server.lines) line.cut();
  await clock.pass(10);
  assert.ok((waits[0] as number) <= 1_000);
});

test("a server that shuts down is asked again within a second", async () => {
  const world = createWorld();
  const chat = await world.live("alice");
  for (const line of world.server.lines) line.cut(1001, "server is shutting down");
  await world.clock.pass(1_100);
  assert.equal(stateOf(chat), "live");
});

test("one that is closed for taking too much waits at least ten seconds", async () => {
  const world = createWorld();
  const chat = await world.live("alice");
  for (const line of world.server.lines) line.cut(1008, "rate limit");
  await world.clock.pass(9_900);
  assert.equal(stateOf(chat), "waiting");
  await world.until("it is live", () => stateOf(chat) === "live");
});

test("after 25 s of silence it asks, and gives a dead connection up", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  server.asked.length = 0;
  await clock.pass(120_000);
  assert.deepEqual(new Set(server.asked.map(({ type }) => type)), new Set(["ping"]));
  assert.ok(server.asked.length >= 4);
  assert.equal(stateOf(chat), "live");
  const [dead] = [...server.lines];
  for (const line of server.lines) line.swallow();
  await clock.pass(25_000 + 15_000 + 1_000);
  assert.ok(dead !== undefined && !server.lines.has(dead));
});

test("when somebody looks again, a dead connection is found within five seconds", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  for (const line of server.lines) line.swallow();
  chat.lifecycle.tell("wake");
  await clock.pass(4_900);
  assert.equal(stateOf(chat), "live");
  await clock.pass(200);
  assert.notEqual(stateOf(chat), "live");
});

test("a wake ends a wait", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  server.admit = () => "refuse";
  for (const line of server.lines) line.cut();
  await clock.pass(300_000);
  await world.until("it waits", () => stateOf(chat) === "waiting");
  server.admit = () => "alice";
  chat.lifecycle.tell("wake");
  await clock.pass(50);
  assert.equal(stateOf(chat), "live");
});

test("after the machine has slept, a dead connection is found within five seconds", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  for (const line of server.lines) line.swallow();
  clock.sleep(3_600_000);
  await clock.pass(5_100);
  assert.notEqual(stateOf(chat), "live");
});

test("a hidden page lets go of its socket and of its lock, and comes back", async () => {
  const world = createWorld();
  const { clock, server, locks } = world;
  const chat = await world.live("alice", { storage: createSharedMemory(locks).tab() });
  const { data } = server.act("alice", "create_conversation", { members: ["bob"] });
  const { id } = data as { id: number };
  await clock.pass(100);
  server.before = () => {
    throw server.refuse("unavailable", 60);
  };
  const sent = chat.conversation(id).send("waits");
  await clock.pass(100);
  assert.equal(locks.held(), 1);
  chat.lifecycle.tell("hide");
  await clock.pass(10);
  assert.equal(locks.held(), 0);
  assert.equal(server.lines.size, 0);
  await clock.pass(600_000);
  assert.equal(server.lines.size, 0, "it stays away while it is hidden");
  server.before = () => {};
  chat.lifecycle.tell("show");
  await clock.pass(100);
  assert.equal(stateOf(chat), "live");
  assert.equal((await sent.done).content, "waits");
});

test("people hear only of a connection that is away for a while", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  let told = 0;
  chat.isAway.subscribe(() => (told += 1));
  for (const line of server.lines) line.cut(1001, "server is shutting down");
  await clock.pass(2_000);
  assert.equal(told, 0);
  server.admit = () => "refuse";
  for (const line of server.lines) line.cut();
  await clock.pass(3_100);
  assert.equal(chat.isAway.get(), true);
  server.admit = () => "alice";
  await world.until("it is back", () => !chat.isAway.get());
});

test("a closed client rejects what waits, and nothing happens any more", async () => {
  const world = createWorld();
  const { clock, server } = world;
  server.admit = () => "refuse";
  const chat = world.client("alice");
  const request = chat.request("get_contacts");
  const sent = chat.conversation(1).send("hi");
  await chat.close();
  const isClosed = (error: unknown) => error instanceof ChatError && error.code === "closed";
  await assert.rejects(request, isClosed);
  await assert.rejects(sent.done, isClosed);
  await assert.rejects(chat.request("ping"), isClosed);
  server.admit = () => "alice";
  chat.lifecycle.tell("wake");
  chat.connect();
  await clock.pass(600_000);
  assert.equal(stateOf(chat), "closed");
  assert.equal(server.lines.size, 0);
});

test("frames that are no JSON, or no event, do no harm", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  const heard: unknown[] = [];
  chat.on("push", (push) => heard.push(push));
  for (const line of server.lines) {
    line.push([] as object);
    line.push({ type: 7 });
    line.push({ type: "root", success: false, code: "invalid", error: "invalid json event" });
    line.push({ type: "weather", success: true, data: { sun: true } });
    line.push({ type: "weather", success: true, data: "rain" });
    line.push({ type: "typing", success: true, data: {} });
    line.push({ type: "ping", success: true, data: "pong", ref: 4711 });
  }
  await clock.pass(100);
  assert.equal(stateOf(chat), "live");
  assert.deepEqual(heard[0], { type: "weather", data: { sun: true } });
});
