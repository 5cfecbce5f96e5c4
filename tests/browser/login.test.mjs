// Whose page it is: also if a cookie was replaced.

import test from "node:test";
import { PASSWORD, open, said, say, story } from "./world.mjs";

const LOST = /Failed to load resource|WebSocket connection to|net::ERR/;

/** Alice, who reads what Bob has told her. */
async function reading(world) {
  for (const username of ["bob", "carol"]) await world.register(username);
  const alice = await world.person("alice", "Alice");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  await bob.ask("send_message", { conversation_id: id, content: "for Alice alone" });
  bob.close();
  await open(alice, /bob/);
  await said(alice, "for Alice alone").waitFor();
  return alice;
}

async function logOut(page) {
  await page.goto("/#/settings");
  await page.getByRole("button", { name: "Log out on this device" }).click();
  await page.getByLabel("Username").waitFor();
}

story(test, "a cookie of somebody else, which a sibling subdomain can set, does not change the user", async (world) => {
  world.expected.push(LOST);
  const alice = await reading(world);
  world.gateway.cut();
  await say(alice, "written without a connection");
  await said(alice, "written without a connection").getByText("Not sent yet").waitFor();
  // As many cookies of the sibling push that of the server out of the browser.
  const token = await world.token("carol");
  const context = alice.context();
  await context.clearCookies();
  await context.addCookies([{ name: "login-token", value: token, url: world.url }]);
  world.gateway.mend();
  await alice.reload();
  await alice.getByText("Your login has ended. Log in again to go on as alice.").waitFor();
  // What is stored here is still Alice's, and a login brings it back.
  await alice.getByLabel("Username").fill("alice");
  await alice.getByLabel("Password").fill(PASSWORD);
  await alice.getByRole("button", { name: "Log in" }).click();
  await open(alice, /bob/);
  await said(alice, "written without a connection").getByText(/Sent|Read/).waitFor();
});

story(test, "all tabs follow a login in one of them", async (world) => {
  world.expected.push(LOST);
  const alice = await reading(world);
  const other = await world.tab(alice.context());
  await logOut(other);
  await alice.getByLabel("Username").waitFor();
  await world.logIn(other, "carol");
  await alice.getByRole("navigation", { name: "Conversations" }).waitFor();
  await alice.goto("/#/settings");
  await alice.getByText("carol").first().waitFor();
});
