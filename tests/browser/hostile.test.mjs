// Names and contents of somebody who means harm are text, and stay where they belong.

import assert from "node:assert/strict";
import test from "node:test";
import { message, said, story } from "./world.mjs";

const SCRIPT = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`;
const OVERRIDE = "\u202Egnp.exe \u2067 name";
const STACKED = `Z${"\u0301\u0323\u0334\u0360".repeat(2_500)}`;

story(test, "hostile names and contents are text", async (world) => {
  await world.register("mallory", SCRIPT);
  await world.register("\u202Eevil\u2066", OVERRIDE);
  const alice = await world.person("alice", "Alice");
  const mallory = await world.program("mallory");
  const direct = await mallory.ask("create_conversation", { members: ["alice"], direct: true });
  const group = await mallory.ask("create_conversation", { members: ["alice", "\u202Eevil\u2066"], name: STACKED.slice(0, 256) });
  const contents = [
    SCRIPT,
    "[click](javascript:alert(1)) javascript:alert(1) data:text/html,x <https://a.example/\"onmouseover=alert(1)>",
    STACKED,
    OVERRIDE,
    "\u0000\u0007\uFFFE a NUL and others",
    "`".repeat(2_000) + "*".repeat(2_000) + "_".repeat(2_000),
    "*a ".repeat(4_000),
    "> ".repeat(3_000),
    "x".repeat(60_000),
    "@alice ".repeat(50),
  ];
  for (const content of contents) await mallory.ask("send_message", { conversation_id: direct.id, content });
  const { id } = await mallory.ask("send_message", { conversation_id: direct.id, content: "the last one" });
  await mallory.ask("react", { message_id: id, emoji: "<b>x</b>", on: true });
  await mallory.ask("react", { message_id: id, emoji: `Z${"\u0301".repeat(15)}`, on: true });
  await mallory.ask("send_message", { conversation_id: group.id, content: "hello" });

  const rows = alice.getByRole("navigation", { name: "Conversations" }).locator("a.conversation");
  await rows.filter({ hasText: "the last one" }).click();
  const latest = alice.getByRole("button", { name: /new messages|Latest/ });
  if (await latest.isVisible()) await latest.click();
  await said(alice, "the last one").getByText("<b>x</b>").waitFor();
  // Each of them is drawn.
  const list = alice.locator(".messages");
  const height = await list.evaluate((box) => box.scrollHeight);
  for (let top = height; top >= 0; top -= 600) {
    await list.evaluate((box, top) => new Promise((drawn) => (box.scrollTo(0, top), requestAnimationFrame(() => requestAnimationFrame(drawn)))), top);
    const links = await list.evaluate((box) => [...box.querySelectorAll("a[href]")].map((link) => link.getAttribute("href")));
    for (const link of links) assert.match(link, /^(https?:|mailto:|#\/)/);
  }
  assert.equal(await alice.locator("script:not([src])").count(), 0);
  assert.equal(await alice.locator("img").count(), 0);
  assert.notEqual(await alice.title(), "owned");

  // What is stacked stays inside its row, and an override of direction inside its name.
  for (const row of await rows.all()) {
    const { height } = await row.boundingBox();
    assert.ok(height < 90, `${height}`);
  }
  await rows.filter({ hasText: "hello" }).click();
  await said(alice, "hello").waitFor();
  await alice.getByRole("button", { name: "Details" }).click();
  const name = alice.getByRole("main").locator("bdi", { hasText: "gnp.exe" }).first();
  await name.waitFor();
  assert.equal(await name.evaluate((element) => getComputedStyle(element).unicodeBidi), "isolate");

  // The page answers at once all the same.
  await alice.goto(`/#/c/${direct.id}`);
  await message(alice).waitFor();
  const started = performance.now();
  await message(alice).pressSequentially("still here");
  assert.ok(performance.now() - started < 5_000);
});

story(test, "a text of very many lines or marks is drawn as few nodes", async (world) => {
  await world.register("mallory", "Mallory");
  const alice = await world.person("alice", "Alice");
  const program = await world.program("mallory");
  const { id } = await program.ask("create_conversation", { members: ["alice"], direct: true });
  await alice.goto(`/#/c/${id}`);
  await message(alice).waitFor();
  for (const content of [`lines${"\nx".repeat(7_900)}`, `marks${" *x*".repeat(16_000)}`]) {
    await program.ask("send_message", { conversation_id: id, content });
    const row = said(alice, content.slice(0, 5));
    await row.getByRole("button", { name: "Show all" }).click();
    await row.getByRole("button", { name: "Show less" }).waitFor();
    const text = row.locator(".text");
    assert.equal((await text.textContent()).length, content.length);
    const nodes = await text.evaluate((text) => text.querySelectorAll("*").length + text.firstChild.childNodes.length);
    assert.ok(nodes < 10, `${nodes}`);
  }
});

story(test, "the policy of the page holds", async (world) => {
  const alice = await world.person("alice", "Alice");
  assert.deepEqual(world.complaints, []);
  // That complaints are heard at all.
  world.expected.push(/Content Security Policy|TrustedScript|Trusted/i);
  await alice.evaluate(async () => {
    window.violations = [];
    document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => violations.push(effectiveDirective));
    const script = document.createElement("script");
    try {
      script.textContent = "window.ran = true";
      document.body.append(script);
    } catch {}
    try {
      document.body.insertAdjacentHTML("beforeend", "<b>x</b>");
    } catch {}
    await fetch("https://elsewhere.example/").catch(() => {});
  });
  for (const directive of ["connect-src", "require-trusted-types-for"])
    await alice.waitForFunction((directive) => window.violations.includes(directive), directive);
  assert.equal(await alice.evaluate(() => "ran" in window), false);
});
