// With the keyboard alone.

import assert from "node:assert/strict";
import test from "node:test";
import { PASSWORD, said, story } from "./world.mjs";

story(test, "by keyboard alone", async (world) => {
  await world.register("bob", "Bob");
  await world.register("alice", "Alice");
  const bob = await world.program("bob");
  const { id } = await bob.ask("create_conversation", { members: ["alice"], direct: true });
  await bob.ask("send_message", { conversation_id: id, content: "first" });
  await bob.ask("send_message", { conversation_id: id, content: "second" });
  const page = await world.window();
  await page.goto("/");
  await page.getByLabel("Username").waitFor();
  const { keyboard } = page;
  const focused = () =>
    page.evaluate(() => {
      const element = document.activeElement;
      if (element === document.body) return "";
      return element.getAttribute("aria-label") || element.labels?.[0]?.textContent || element.textContent;
    });
  /** Tabs until this has the focus. */
  const reach = async (name, key = "Tab") => {
    for (let presses = 0; presses < 30; presses++) {
      if (name.test(await focused())) return;
      await keyboard.press(key);
    }
    assert.fail(`${key} does not reach ${name}; the focus is on ${await focused()}`);
  };
  await reach(/^Username$/);
  await keyboard.type("alice");
  await reach(/^Password$/);
  await keyboard.type(PASSWORD);
  await keyboard.press("Enter");
  await page.getByRole("link", { name: /Bob/ }).waitFor();
  await reach(/Bob.*second/);
  await keyboard.press("Enter");
  await said(page, "second").waitFor();
  await page.waitForFunction(() => document.activeElement?.id === "message");
  await keyboard.type("third :tad");
  await page.getByRole("option").first().waitFor();
  await keyboard.press("Enter");
  await keyboard.press("Enter");
  await said(page, "third 🎉").waitFor();

  // Up into the messages, to the first one, its menu, a reply.
  await reach(/You: third/, "Shift+Tab");
  await keyboard.press("ArrowUp");
  await page.waitForFunction(() => document.activeElement?.getAttribute("aria-label")?.includes("second"));
  await keyboard.press("Home");
  await page.waitForFunction(() => document.activeElement?.getAttribute("aria-label")?.includes("first"));
  await keyboard.press("Enter");
  await page.getByRole("menu").waitFor();
  await keyboard.press("End");
  await keyboard.press("ArrowUp");
  await keyboard.press("ArrowUp");
  assert.equal((await focused()).trim(), "Reply");
  await keyboard.press("Enter");
  await page.getByText("Reply to Bob").waitFor();
  await page.waitForFunction(() => document.activeElement?.id === "message");
  await keyboard.type("to the first");
  await keyboard.press("Enter");
  await said(page, "to the first").getByRole("button", { name: "Bob first" }).waitFor();

  // A message that is on its way has no menu.
  await page.getByRole("article", { name: /not sent yet/ }).waitFor({ state: "detached" });
  // A dialog gives the focus back.
  await reach(/You: /, "Shift+Tab");
  await keyboard.press("Enter");
  await page.getByRole("menu").waitFor();
  await keyboard.press("End");
  await keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await said(page, "to the first").waitFor();
});
