// Logins over HTTP: cookies, tokens, their renewal, and what the server says if it refuses.

import assert from "node:assert/strict";
import { test } from "node:test";

import { type Account, type TokenPlace, browserAuth, cookieAuth, keptTokenAuth } from "../src/account.ts";
import { type Auth, type Chat, createChat } from "../src/index.ts";
import { createIds } from "./fake_clock.ts";
import { createSharedMemory } from "./shared_memory.ts";
import { createWorld, stateOf } from "./world.ts";

interface Asked {
  method: string;
  path: string;
  token: string | null;
  credentials: string;
  body: unknown;
}

/** A server with accounts; `cookie` is what a browser would keep. */
function createAccounts(auth: Auth<Account>, keepsCookies = true) {
  const world = createWorld();
  const { server, clock, random } = world;
  const asked: Asked[] = [];
  const refusals = new Map<string, [number, string, Record<string, string>?]>();
  let cookie: string | null = null;
  let count = 0;
  server.admit = (protocols) => {
    const token = protocols[1]?.replace("bearer.", "") ?? cookie;
    if (token === null) return { code: 1000, reason: "login-token required" };
    return token.startsWith("alice") ? "alice" : { code: 1000, reason: "invalid login-token" };
  };
  const required = () => new Response("login-token required", { status: 401 });
  const answers: Record<string, (token: string | null) => Response> = {
    "POST /register": () => new Response("registered", { status: 201 }),
    "POST /auth/login": () => {
      if (keepsCookies) cookie = "alice by cookie";
      return new Response("login successful", { status: 202 });
    },
    "GET /auth/verify": () => (cookie === null ? required() : new Response("Hello, alice")),
    "POST /auth/token": () => Response.json({ token: `alice ${(count += 1)}`, expires_at: clock.now() / 1000 + 3_600 }),
    "POST /auth/refresh": () => Response.json({ token: `alice ${(count += 1)}`, expires_at: clock.now() / 1000 + 3_600 }),
    "POST /auth/logout": (token) => {
      if (token === null && cookie === null) return required();
      if (token === null) cookie = null;
      return new Response(null, { status: 204 });
    },
    "GET /auth/sessions": () => Response.json({ sessions: [{ id: 7, current: true }] }),
  };
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    const { method = "GET", credentials = "", headers, body } = init;
    const path = url.replace("http://chat.test", "");
    const token = new Headers(headers).get("authorization");
    asked.push({ method, path, token, credentials, body: body === undefined ? null : JSON.parse(String(body)) });
    const refusal = refusals.get(path);
    if (refusal !== undefined) return new Response(refusal[1], { status: refusal[0], headers: refusal[2] ?? {} });
    const answer = answers[`${method} ${path}`];
    if (answer === undefined) return new Response(null, { status: 204 });
    return answer(token);
  };
  const storage = createSharedMemory();
  const { WebSocket } = server;
  const chat: Chat & Account = createChat({
    url: "http://chat.test/",
    auth,
    storage: storage.tab(),
    WebSocket,
    clock,
    random,
    uniqueId: createIds(random),
    fetch,
    lifecycle: { listen: () => () => {} },
  });
  return { ...world, world, chat, asked, refusals, storage, hasCookie: () => cookie !== null };
}

const credentials = { username: "alice", password: "xyz" };

function createPlace(): TokenPlace & { items: Map<string, string> } {
  const items = new Map<string, string>();
  return {
    items,
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, value),
    removeItem: (key) => void items.delete(key),
  };
}

test("with cookies: register, log in, log out", async () => {
  const { world, chat, asked, storage } = createAccounts(cookieAuth());
  await world.until("a login is needed", () => stateOf(chat) === "needs-auth");
  await chat.register({ ...credentials, fullname: "Alice" });
  await chat.login({ ...credentials, remember: true });
  await world.until("it is live", () => stateOf(chat) === "live");
  assert.deepEqual(asked.map(({ method, path, credentials, token }) => [method, path, credentials, token]), [
    ["POST", "/register", "include", null],
    ["POST", "/auth/login", "include", null],
  ]);
  assert.deepEqual(asked[1]?.body, { ...credentials, remember: true });
  await world.clock.pass(1_000);
  await chat.logout();
  assert.equal(stateOf(chat), "needs-auth");
  assert.equal(chat.me.get(), null);
  await chat.flush();
  assert.deepEqual([...storage.entries.keys()], ["meta"]);
});

test("a logout that the server has not heard is none, where the login is a cookie", async () => {
  for (const auth of [cookieAuth(), browserAuth(createPlace())]) {
    const { world, chat, refusals } = createAccounts(auth);
    await chat.login(credentials);
    await world.until("it is live", () => stateOf(chat) === "live");
    refusals.set("/auth/logout", [503, "the server is busy"]);
    await assert.rejects(chat.logout(), { code: "unavailable" });
    assert.equal(stateOf(chat), "live");
    assert.equal(chat.me.get()?.username, "alice");
    refusals.set("/auth/logout", [401, "login-token required"]);
    await chat.logout();
    assert.equal(stateOf(chat), "needs-auth");
  }
  // A token that is kept here opens nothing once it is forgotten.
  const place = createPlace();
  const { world, chat, refusals } = createAccounts(keptTokenAuth(place));
  await chat.login(credentials);
  await world.until("it is live", () => stateOf(chat) === "live");
  refusals.set("/auth/logout", [503, "the server is busy"]);
  await chat.logout();
  assert.deepEqual([stateOf(chat), place.items.size], ["needs-auth", 0]);
});

test("with tokens: they open the socket and go with each request", async () => {
  const { world, chat, asked, server } = createAccounts(keptTokenAuth());
  await world.until("a login is needed", () => stateOf(chat) === "needs-auth");
  await chat.login(credentials);
  await world.until("it is live", () => stateOf(chat) === "live");
  assert.deepEqual([...server.lines][0]?.protocols, ["chat", "bearer.alice 1"]);
  assert.deepEqual(await chat.sessions(), [{ id: 7, current: true }]);
  await chat.endSession(7);
  await chat.changePassword("xyz", "abc");
  const [, sessions, end, change] = asked;
  assert.deepEqual([sessions?.token, sessions?.credentials], ["Bearer alice 1", "omit"]);
  assert.deepEqual([end?.method, end?.path], ["DELETE", "/auth/sessions/7"]);
  assert.deepEqual(change?.body, { old_password: "xyz", new_password: "abc" });
});

test("where the browser drops the cookie, a token takes its place", async () => {
  for (const keepsCookies of [true, false]) {
    const place = createPlace();
    const { world, chat, server } = createAccounts(browserAuth(place), keepsCookies);
    await chat.login(credentials);
    await world.until("it is live", () => stateOf(chat) === "live");
    assert.deepEqual([...server.lines][0]?.protocols, keepsCookies ? [] : ["chat", "bearer.alice 1"]);
    assert.equal(place.items.has("chatapp-token"), !keepsCookies);
    await chat.logout();
    assert.equal(place.items.size, 0);
  }
});

test("only an answer that there is no login means that the browser dropped the cookie", async () => {
  for (const status of [429, 500, 503]) {
    const place = createPlace();
    const { world, chat, asked, refusals, hasCookie } = createAccounts(browserAuth(place));
    refusals.set("/auth/verify", [status, "busy"]);
    await chat.login(credentials);
    await world.until("it is live", () => stateOf(chat) === "live");
    assert.deepEqual(asked.map(({ path }) => path), ["/auth/login", "/auth/verify"]);
    assert.deepEqual([place.items.has("chatapp-token"), hasCookie()], [false, true]);
    await chat.logout();
    assert.equal(hasCookie(), false);
  }
});

test("a logout ends the login of a cookie beside a token", async () => {
  const place = createPlace();
  const { world, chat, asked, refusals, hasCookie } = createAccounts(browserAuth(place));
  await chat.login(credentials);
  place.setItem("chatapp-token", "alice by token");
  await world.until("it is live", () => stateOf(chat) === "live");
  refusals.set("/auth/logout", [503, "the server is busy"]);
  await assert.rejects(chat.logout(), { code: "unavailable" });
  assert.deepEqual([stateOf(chat), place.items.has("chatapp-token")], ["live", true]);
  refusals.clear();
  await chat.logout();
  assert.deepEqual([stateOf(chat), place.items.size, hasCookie()], ["needs-auth", 0, false]);
  const logouts = asked.filter(({ path }) => path === "/auth/logout").slice(1);
  assert.deepEqual(logouts.map(({ token, credentials }) => [token, credentials]), [
    [null, "include"],
    ["Bearer alice by token", "omit"],
  ]);
});

test("a login is renewed while it is used, long before it expires", async () => {
  const place = createPlace();
  const { world, chat, asked, clock } = createAccounts(keptTokenAuth(place));
  await chat.login(credentials);
  await world.until("it is live", () => stateOf(chat) === "live");
  await clock.pass(8 * 3_600_000);
  const renewals = asked.filter(({ path }) => path === "/auth/refresh").length;
  assert.ok(renewals >= 8 && renewals <= 20, String(renewals));
  assert.equal(place.items.get("chatapp-token"), `alice ${renewals + 1}`);
  await chat.close();
  await clock.pass(8 * 3_600_000);
  assert.equal(asked.filter(({ path }) => path === "/auth/refresh").length, renewals);
});

test("a server that cannot renew is not asked again", async () => {
  const { world, chat, asked, refusals, clock } = createAccounts(keptTokenAuth());
  refusals.set("/auth/refresh", [404, "not found"]);
  await chat.login(credentials);
  await world.until("it is live", () => stateOf(chat) === "live");
  await clock.pass(8 * 3_600_000);
  assert.equal(asked.filter(({ path }) => path === "/auth/refresh").length, 1);
});

test("a token that another tab has renewed is used", async () => {
  const place = createPlace();
  const { world, chat, server } = createAccounts(keptTokenAuth(place));
  await chat.login(credentials);
  await world.until("it is live", () => stateOf(chat) === "live");
  place.setItem("chatapp-token", "alice of another tab");
  for (const line of server.lines) line.cut(1000, "invalid login-token");
  await world.until("it is used", () => [...server.lines][0]?.protocols[1] === "bearer.alice of another tab");
});

test("a token that is refused needs a login, and does not loop", async () => {
  const place = createPlace();
  place.setItem("chatapp-token", "forged");
  for (const auth of [keptTokenAuth(place), browserAuth(place)]) {
    const { chat, clock, server } = createAccounts(auth);
    await clock.pass(60_000);
    assert.equal(stateOf(chat), "needs-auth");
    assert.equal(server.lines.size, 0);
  }
});

test("a cookie of somebody who has not logged in here needs a login", async () => {
  const place = createPlace();
  const { world, chat, clock, server, storage } = createAccounts(browserAuth(place));
  await chat.login(credentials);
  await world.until("it is live", () => stateOf(chat) === "live");
  await chat.flush();
  const { admit } = server;
  server.admit = () => "mallory";
  for (const line of server.lines) line.cut();
  await clock.pass(60_000);
  assert.deepEqual([stateOf(chat), chat.me.get()?.username], ["needs-auth", "alice"]);
  await chat.flush();
  assert.deepEqual([...storage.entries].filter(([key]) => key.includes("mallory")), []);
  assert.equal((storage.entries.get("meta")?.value as { username: string }).username, "alice");
  server.admit = admit;
  await chat.login(credentials);
  await world.until("it is live again", () => stateOf(chat) === "live");
  // After a logout, anybody may come.
  await chat.logout();
  server.admit = () => "mallory";
  chat.connect();
  await world.until("somebody else is there", () => chat.me.get()?.username === "mallory");
});

test("refusals have a code, in text and in JSON", async () => {
  const { chat, refusals } = createAccounts(cookieAuth());
  const refused = (status: number, text: string, headers = {}) => refusals.set("/register", [status, text, headers]);
  const register = () => chat.register({ ...credentials, fullname: "Alice" });
  refused(409, "username already exists");
  await assert.rejects(register(), { code: "conflict", message: "username already exists" });
  refused(429, "too many requests, try again later", { "retry-after": "30" });
  await assert.rejects(register(), { code: "rate_limited", retryAfter: 30 });
  refused(403, JSON.stringify({ error: "the old password is wrong", code: "forbidden" }));
  await assert.rejects(register(), { code: "forbidden", message: "the old password is wrong" });
  refused(502, "");
  await assert.rejects(register(), { code: "internal", message: "the server answered 502" });
});

test("a server that is not there is said to be so", async () => {
  const world = createWorld();
  const chat = createChat({
    ...{ url: "http://chat.test", auth: cookieAuth(), WebSocket: world.server.WebSocket, clock: world.clock },
    fetch: () => Promise.reject(new TypeError("fetch failed")),
  });
  await assert.rejects(chat.login(credentials), { code: "disconnected" });
  await chat.close();
});
