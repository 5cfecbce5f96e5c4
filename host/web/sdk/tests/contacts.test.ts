// Contacts and blocks: loaded while they are watched, and the same in all tabs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createContacts } from "../src/contacts.ts";
import { idle } from "./fake_clock.ts";
import { createWorld } from "./world.ts";

test("contacts are loaded while they are watched, and follow what happens", async () => {
  const world = createWorld();
  const { server, clock } = world;
  let contacts = ["bob"];
  let blocked: string[] = [];
  const profile = (username: string) => ({ username, fullname: username, is_online: false, last_online: 1, created_at: 1 });
  const answers: Record<string, (frame: Record<string, unknown>) => object> = {
    get_contacts: () => ({ message: "", contacts, profiles: contacts.map(profile) }),
    get_blocked: () => ({ usernames: blocked }),
    add_contact: ({ contact_username }) => {
      contacts = [...contacts, String(contact_username)];
      return { message: "", contact: profile(String(contact_username)) };
    },
    remove_contact: ({ contact_username: username }) => {
      contacts = contacts.filter((name) => name !== username);
      return { username };
    },
    block_user: ({ username }) => {
      blocked = [...blocked, String(username)];
      return { username };
    },
    unblock_user: ({ username }) => {
      blocked = blocked.filter((name) => name !== username);
      return { username };
    },
  };
  server.answers = answers;
  const tabs = [await world.live("alice"), await world.live("alice")].map(createContacts);
  const [one, two] = tabs as [ReturnType<typeof createContacts>, ReturnType<typeof createContacts>];
  await clock.pass(100);
  assert.ok(!server.asked.some(({ type }) => type === "get_contacts"), "nobody watches");
  const names = (tab: typeof one) => tab.list.get().map(({ username }) => username);
  const ends = tabs.flatMap((tab) => [tab.list.subscribe(() => {}), tab.blocked.subscribe(() => {})]);
  await clock.pass(100);
  assert.deepEqual([names(one), names(two)], [["bob"], ["bob"]]);

  const step = async (action: Promise<void>) => {
    await clock.pass(100);
    await action;
    // The other tab hears of it, and asks.
    for (let count = 0; count < 20; count += 1) await idle();
    await clock.pass(100);
  };
  await step(one.add("carol"));
  await step(one.block("dave"));
  assert.deepEqual([names(one), names(two)], [["bob", "carol"], ["bob", "carol"]]);
  assert.deepEqual([one.blocked.get(), two.blocked.get()], [["dave"], ["dave"]]);
  await step(two.remove("bob"));
  await step(two.unblock("dave"));
  assert.deepEqual([names(one), names(two)], [["carol"], ["carol"]]);
  assert.deepEqual([one.blocked.get(), two.blocked.get()], [[], []]);

  server.push("alice", "user_status", { username: "carol", is_online: true, last_online: 2 });
  await clock.pass(10);
  assert.equal(one.list.get()[0]?.is_online, true);
  contacts = ["carol", "eve"];
  server.push("alice", "contact_added", profile("eve"));
  await clock.pass(100);
  assert.deepEqual(names(one), ["carol", "eve"]);
  // The server may have missed what it had to tell.
  contacts = ["carol", "eve", "frank"];
  server.push("alice", "sync", { conversations: [], left: [], more: true });
  await clock.pass(1000);
  assert.deepEqual(names(one), ["carol", "eve", "frank"]);
  for (const end of ends) end();
});
