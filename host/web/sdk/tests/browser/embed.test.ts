// The code of deploy/embed.md: an app with its own users, in two browsers, and its server.

import assert from "node:assert/strict";
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";

import { build } from "esbuild";
import { type Page, chromium } from "playwright-core";

import { startServer } from "../real/server.ts";
import { ARGUMENTS, CHROMIUM } from "./stage.ts";

const JWTSECRET = "a long random text";
const [signing, page, provisioning, acting] = [...readFileSync("../../../deploy/embed.md", "utf8").matchAll(/```js\n([^]*?)```/g)].map(
  ([, code]) => code ?? "",
);

const ends: (() => unknown)[] = [];
after(async () => {
  for (const end of ends.reverse()) await end();
});

/** A port that was free a moment ago, below those that the system gives to connections. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const probe = createServer();
    const isFree = await new Promise<boolean>((found) => {
      probe.once("error", () => found(false));
      probe.listen(port, () => found(true));
    });
    if (!isFree) continue;
    await new Promise((closed) => probe.close(closed));
    return port;
  }
}

function node(file: string, code: string, env: Record<string, string>): ChildProcess {
  writeFileSync(file, code);
  const stdio: StdioOptions = ["ignore", "pipe", "inherit"];
  const child = spawn(process.execPath, [file], { cwd: dirname(file), env: { ...process.env, ...env }, stdio });
  ends.push(() => child.kill("SIGKILL"));
  return child;
}

test("an app with its own users, as the page says", async () => {
  assert.ok(signing && page && provisioning && acting);
  const lines = (code: string) => code.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("//")).length;
  assert.ok(lines(signing) <= 15 && lines(page) <= 10, `${lines(signing)}, ${lines(page)}`);

  const port = await freePort();
  const origin = `http://localhost:${port}`;
  const server = await startServer({ JWTSECRET, REGISTRATION: "closed", UNKNOWN_USERS: "create", CORS_ALLOW_ORIGIN: origin });
  ends.push(() => server.end());
  await build({
    stdin: { contents: page.replace("http://localhost:8000", server.url), resolveDir: process.cwd() },
    bundle: true,
    outfile: server.file("app.js"),
    format: "esm",
    conditions: ["source"],
  });
  const app = node(server.file("server.mjs"), signing, { JWTSECRET, PORT: `${port}` });
  for (;;) {
    const is = await fetch(`${origin}/chat-token?user=probe`).then(() => true, () => false);
    if (is) break;
    assert.equal(app.exitCode, null);
  }

  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
  ends.push(() => browser.close());
  const open = async (user: string): Promise<[Page, string[]]> => {
    const tab = await (await browser.newContext()).newPage();
    const said: string[] = [];
    tab.on("console", (message) => said.push(message.text()));
    // The first connect has created the user then.
    const connected = tab.waitForEvent("websocket").then((socket) => socket.waitForEvent("framereceived"));
    await tab.goto(`${origin}/?user=${user}`);
    await connected;
    return [tab, said];
  };
  const [bob, heard] = await open("user-43");
  const [ann] = await open("user-42");
  const hears = bob.waitForEvent("console", (message) => message.text().startsWith("user-42"));
  await ann.evaluate(() => (window as unknown as { talkTo(name: string, text: string): Promise<void> }).talkTo("user-43", "hello"));
  await hears;
  assert.deepEqual(heard.filter((line) => line.startsWith("user-")), ["user-42: hello"]);

  // Its server, with a key.
  const KEY = server.command("key", "create", "my app").trim();
  const file = server.file("provision.mjs");
  const program = node(file, provisioning + acting, { SERVER: server.url, KEY });
  const printed: string[] = [];
  createInterface({ input: program.stdout! }).on("line", (line) => printed.push(line));
  const told = bob.waitForEvent("console", (message) => message.text().includes("order"));
  assert.equal(await new Promise((exit) => program.once("exit", exit)), 0, printed.join("\n"));
  assert.match(printed.join("\n"), /fullname: 'Ann Example',\n {2}banned: false,\n {2}has_password: false,/);
  assert.equal(printed.at(-1), "true");
  assert.equal((await told).text(), "user-42: your order is on its way");
});
