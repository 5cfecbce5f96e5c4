// axe looks at every screen, light and dark, on a desk and on a phone.

import { AxeBuilder } from "@axe-core/playwright";
import assert from "node:assert/strict";
import test from "node:test";
import { DESK, message, PHONE, said, say, story } from "./world.mjs";

async function check(page, name) {
  // Colours that fade in are not read while they do.
  await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => {}))));
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html, failureSummary }) => `${html} (${failureSummary})`).join("; ")}`);
  assert.deepEqual(found, [], name);
}

async function prepare(world) {
  for (const name of ["bob", "carol"]) await world.register(name, name === "bob" ? "Bob" : "Carol");
  await world.register("alice", "Alice");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice", "carol"], name: "Lunch" });
  const text = "Look, @alice: `code`, https://chat.example\n```\nlet a = 1;\n```\n> so\n- one";
  const { id: first } = await bob.ask("send_message", { conversation_id: id, content: text });
  await bob.ask("react", { message_id: first, emoji: "👍", on: true });
  await bob.ask("send_message", { conversation_id: id, content: "an answer", reply_id: first });
  await bob.ask("create_conversation", { members: ["alice"], direct: true });
  return id;
}

for (const [device, options] of Object.entries({ desk: DESK, phone: PHONE })) {
  for (const colorScheme of ["light", "dark"]) {
    story(test, `on a ${device}, ${colorScheme}`, async (world) => {
      const id = await prepare(world);
      const page = await world.window({ ...options, colorScheme, reducedMotion: "reduce" });
      for (const path of ["/", "/#/register"]) {
        await page.goto(path);
        await page.getByLabel("Password").waitFor();
        await check(page, path);
      }
      await world.logIn(page, "alice");
      await page.getByRole("link", { name: /Lunch/ }).waitFor();
      await check(page, "the list");
      await page.goto(`/#/c/${id}`);
      await said(page, "an answer").waitFor();
      await say(page, "I see");
      await said(page, "I see").getByText(/Sent|Read/).waitFor();
      await check(page, "a conversation");
      await message(page).pressSequentially("@bo");
      await page.getByRole("option").first().waitFor();
      await check(page, "suggestions");
      await message(page).fill("");
      await page.getByRole("button", { name: "Emojis" }).click();
      await page.getByLabel("Search emojis").waitFor();
      await check(page, "the emojis");
      await page.keyboard.press("Escape");
      for (const path of [`#/c/${id}/details`, "#/new", "#/people", "#/u/bob", "#/search?q=answer", "#/mentions", "#/settings"]) {
        await page.goto(`/${path}`);
        await page.getByRole("button", { name: "Back" }).waitFor();
        await page.waitForFunction(() => document.querySelector(".page-column")?.children.length > 0);
        await check(page, path);
      }
      await page.goto("/#/settings");
      await page.getByRole("button", { name: "Delete my account" }).click();
      await page.getByRole("dialog").waitFor();
      await check(page, "a dialog");
    });
  }
}
