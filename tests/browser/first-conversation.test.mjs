// From an empty server: two people register in two windows, find each other, and talk.

import assert from "node:assert/strict";
import test from "node:test";
import { message, open, PASSWORD, said, say, story } from "./world.mjs";

story(test, "two people register and talk", async (world) => {
  const windows = await Promise.all([world.window(), world.window()]);
  const people = [
    { page: windows[0], username: "alice", fullname: "Alice Martin" },
    { page: windows[1], username: "bob", fullname: "Bob Okafor" },
  ];
  for (const { page, username, fullname } of people) {
    await page.goto("/");
    await page.getByRole("link", { name: "Register" }).click();
    await page.getByLabel("Full name").fill(fullname);
    await page.getByLabel("Username").fill(username);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Register" }).click();
    await page.getByText("Nobody here yet").waitFor();
  }
  const [alice, bob] = windows;
  await alice.getByRole("link", { name: "New conversation" }).click();
  await alice.getByLabel("Find people").fill("bob");
  await alice.getByRole("button", { name: /bob/i }).click();
  await alice.getByRole("button", { name: "Start chat" }).click();
  await alice.getByRole("heading", { name: "Bob Okafor" }).waitFor();
  await say(alice, "Hello Bob!");

  await open(bob, /Alice Martin/);
  await said(bob, "Hello Bob!").waitFor();
  await message(bob).pressSequentially("Hello Al");
  await alice.getByRole("main").getByText("typing…").waitFor();
  await say(bob, "Hello Alice!");
  await said(alice, "Hello Alice!").waitFor();
  // What alice has read, bob sees.
  await said(bob, "Hello Alice!").getByText("Read", { exact: true }).waitFor();

  // A reload shows the same, and keeps her logged in.
  await alice.reload();
  await said(alice, "Hello Alice!").waitFor();
  await said(alice, "Hello Bob!").waitFor();
});

story(
  test,
  "where registration is closed, people only log in",
  async (world) => {
    const alice = await world.window();
    for (const path of ["/", "/#/register"]) {
      await alice.goto(path);
      await alice.getByRole("heading", { name: "Log in" }).waitFor();
      await alice.getByText("An administrator makes the accounts here.").waitFor();
      assert.equal(await alice.getByText("Register").count(), 0);
    }
  },
  { REGISTRATION: "closed" },
);
