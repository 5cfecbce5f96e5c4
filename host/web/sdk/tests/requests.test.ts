// Requests: what is waited out, what is sent again, and what its maker hears.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatError } from "../src/index.ts";
import { createWorld, stateOf } from "./world.ts";

const fails = (code: string) => (error: unknown) => error instanceof ChatError && error.code === code;

test("a request waits until the client is live", async () => {
  const world = createWorld();
  const { clock, server } = world;
  server.admit = () => "refuse";
  const chat = world.client("alice");
  const asked = chat.request("get_conversations");
  await clock.pass(5_000);
  server.admit = () => "alice";
  await world.until("it is live", () => stateOf(chat) === "live");
  assert.deepEqual(await asked, []);
});

test("rate limits are waited out, and the order stays", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  let limited = true;
  server.before = (frame) => {
    if (frame.type === "get_user_a" && limited) throw server.refuse("rate_limited", 5);
  };
  const done: string[] = [];
  server.asked.length = 0;
  for (const type of ["get_user_a", "get_user_b", "get_user_c"]) {
    chat.request(type).then(
      () => done.push(type),
      (error: ChatError) => done.push(`${type}: ${error.code}`),
    );
  }
  await clock.pass(4_000);
  const asked = server.asked.filter(({ type }) => type.startsWith("get_user")).map(({ type }) => type);
  assert.deepEqual(asked, ["get_user_a", "get_user_b", "get_user_c"], "nothing while the server asked for a pause");
  limited = false;
  await clock.pass(2_000);
  assert.deepEqual(done, ["get_user_b: invalid", "get_user_c: invalid", "get_user_a: invalid"]);
});

test("while the server asked for a pause, nothing new goes out", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  server.before = (frame) => {
    if (frame.type === "get_contacts") throw server.refuse("rate_limited", 5);
  };
  chat.request("get_contacts").catch(() => {});
  await clock.pass(100);
  server.asked.length = 0;
  chat.request("get_blocked").catch(() => {});
  await clock.pass(4_000);
  assert.deepEqual(server.asked, []);
  server.before = () => {};
  await clock.pass(2_000);
  assert.deepEqual(server.asked.map(({ type }) => type), ["get_contacts", "get_blocked"]);
});

test("what must not be done twice is not sent again", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  server.before = (frame) => {
    if (frame.type === "create_conversation") for (const line of server.lines) line.cut();
  };
  const made = chat.request("create_conversation", { members: [], name: "lunch" });
  const failed = assert.rejects(made, fails("disconnected"));
  await clock.pass(10_000);
  await failed;
  assert.equal(server.conversations.size, 1);
  server.before = () => {
    throw server.refuse("unavailable", 1);
  };
  const again = assert.rejects(chat.request("create_conversation", { members: [] }), fails("unavailable"));
  await clock.pass(10_000);
  await again;
});

test("a server that says nonsense about the pause is not asked all the time", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  for (const pause of [-5, NaN, "soon"]) {
    let asked = 0;
    server.before = () => {
      asked += 1;
      throw server.refuse("rate_limited", pause as number);
    };
    const refused = assert.rejects(chat.request("get_contacts"), fails("rate_limited"));
    await clock.pass(60_000);
    await refused;
    assert.ok(asked < 200, `${pause}: ${asked}`);
  }
});

test("what may be done twice is sent again after a lost connection", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  let cuts = 2;
  server.before = (frame) => {
    if (frame.type === "create_conversation" && (cuts -= 1) >= 0) for (const line of server.lines) line.cut();
  };
  const made = chat.request("create_conversation", { members: ["bob"], direct: true });
  await clock.pass(20_000);
  assert.equal((await made).id, 1);
  assert.equal(server.conversations.size, 1);
});

test("a request that nobody answers fails after 30 s", async () => {
  const world = createWorld();
  const { clock, server } = world;
  server.admit = () => "refuse";
  const chat = world.client("alice");
  const asked = assert.rejects(chat.request("get_contacts"), fails("timeout"));
  await clock.pass(30_100);
  await asked;
});

test("a refusal says why, and after which time it may succeed", async () => {
  const world = createWorld();
  const { clock, server } = world;
  const chat = await world.live("alice");
  server.before = () => {
    throw server.refuse("rate_limited", 100);
  };
  const asked = assert.rejects(chat.request("get_contacts"), { code: "rate_limited", retryAfter: 100 });
  await clock.pass(31_000);
  await asked;
  await assert.rejects(chat.conversation(1).loadOlder().then(() => chat.request("x", { text: "x".repeat(2 ** 20) })), fails("too_large"));
});
