// In a local network without TLS: browsers drop the login cookie there, and have no service worker.

import assert from "node:assert/strict";
import test from "node:test";
import { DESK, LAN_NAME, open, said, say, story } from "./world.mjs";

story(test, "over plain HTTP", async (world) => {
  await world.register("alice", "Alice");
  const bob = await world.person("bob", "Bob");
  const program = await world.program("bob");
  await program.ask("create_conversation", { members: ["alice"], direct: true });
  const page = await world.window({ ...DESK, baseURL: `http://${LAN_NAME}:${world.gateway.port}` });
  // The library looks whether the cookie has stayed, and a logout ends the login of one.
  world.expected.push(/\/auth\/(verify|logout)/, /Cross-Origin-Opener-Policy header has been ignored/);
  await page.goto("/");
  assert.equal(await page.evaluate(() => isSecureContext), false);
  const alice = await world.logIn(page, "alice");
  await open(alice, /Bob/);
  await say(alice, "hello");
  await open(bob, /Alice/);
  await said(bob, "hello").waitFor();
  await alice.reload();
  await said(alice, "hello").waitFor();
  await say(bob, "and hello");
  await said(alice, "and hello").waitFor();

  await alice.getByRole("link", { name: /settings/ }).click();
  await alice.getByRole("button", { name: "Log out on this device" }).click();
  await alice.getByRole("heading", { name: "Log in" }).waitFor();
  assert.equal(await alice.evaluate(() => JSON.stringify(localStorage).includes("ey")), false);
  // The test's browser is on this machine, which would make it a proxy.
}, { TRUSTED_PROXIES: "" });
