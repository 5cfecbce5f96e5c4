// A chat server of its own for each story, and people with browsers who use its page.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { WebSocket } from "ws";

export const PROGRAM = process.env.CHATAPP ?? fileURLToPath(new URL("../../target/debug/chatapp", import.meta.url));
export const PASSWORD = "a password";
/** A machine that runs other tests at the same time is slow. */
const PATIENCE_MS = 20_000;

/** A name that is not the machine's own for browsers, as in a local network: nothing there is a secure context. */
export const LAN_NAME = "chat.lan";
export const DESK = { viewport: { width: 1440, height: 900 } };
export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

/** Runs a story in a world of its own; what the pages complained of fails it. */
export function story(test, name, tell, environment = {}) {
  test(name, { timeout: 120_000 }, async () => {
    const world = await World.begin(environment);
    try {
      await tell(world);
      assert.deepEqual(world.complaints, []);
    } catch (error) {
      await world.show(name);
      throw error;
    } finally {
      await world.end();
    }
  });
}

export class World {
  /** What pages wrote on the console, threw, or were refused by their policy. */
  complaints = [];
  /** Complaints that a story expects; a browser also complains when a page closes a socket before it is open, as a quick logout does. */
  expected = [/WebSocket is closed before the connection is established/];
  people = [];

  /** `prepare` gets the path of the data file, before the server starts. */
  static async begin(environment = {}, prepare = () => {}) {
    const world = new World();
    world.environment = environment;
    world.folder = await mkdtemp(join(tmpdir(), "page-"));
    prepare(join(world.folder, "chat.db"));
    await world.start();
    world.gateway = await Gateway.to(() => world.port);
    world.url = `http://localhost:${world.gateway.port}`;
    world.browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      // As for people.
      ignoreDefaultArgs: ["--disable-back-forward-cache"],
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", `--host-resolver-rules=MAP ${LAN_NAME} 127.0.0.1`],
    });
    return world;
  }

  /** Starts the server; also again, on the same file. */
  async start() {
    this.server = spawn(PROGRAM, {
      env: { PATH: process.env.PATH, DBPATH: join(this.folder, "chat.db"), PORT: "0", ...this.environment },
      stdio: ["ignore", "ignore", "pipe"],
    });
    const exited = new Promise((resolve) => this.server.once("exit", resolve));
    this.server.exited = exited;
    const lines = createInterface({ input: this.server.stderr });
    this.port = await new Promise((resolve, reject) => {
      exited.then((code) => reject(new Error(`chatapp ended with ${code} before it listened`)));
      lines.on("line", (line) => {
        const port = /listens on http:\/\/[^ ]*:(\d+)/.exec(line)?.[1];
        if (port) resolve(Number(port));
      });
    });
  }

  async kill() {
    this.server.kill("SIGKILL");
    await this.server.exited;
  }

  /** What the program says to a command of its operator, such as `report`. */
  async command(...words) {
    const env = { PATH: process.env.PATH, DBPATH: join(this.folder, "chat.db"), ...this.environment };
    const { stdout } = await promisify(execFile)(PROGRAM, words, { env });
    return stdout;
  }

  /** Opens a browser window of somebody who is not logged in. */
  async window(options = DESK) {
    const context = await this.browser.newContext({ baseURL: this.url, ...options });
    return this.tab(context);
  }

  /** Another tab of the same browser. */
  async tab(context) {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    const complain = (text) => this.expected.some((known) => known.test(text)) || this.complaints.push(text);
    page.on("pageerror", (error) => complain(`threw ${error.stack ?? error}`));
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && complain(`${message.text()} ${message.location().url}`));
    this.people.push(page);
    return page;
  }

  /** Registers somebody, without a browser. */
  async register(username, fullname = username) {
    const answer = await post(this.port, "/register", { username, password: PASSWORD, fullname });
    assert.equal(answer.status, 201, answer.text);
  }

  /** Registers somebody, and logs in with a browser. */
  async person(username, fullname = username, options = DESK) {
    await this.register(username, fullname);
    return this.logIn(await this.window(options), username);
  }

  async logIn(page, username, password = PASSWORD) {
    await page.goto("/");
    await page.getByLabel("Username").fill(username);
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("navigation", { name: "Conversations" }).waitFor();
    return page;
  }

  /** A token of somebody who is registered. */
  async token(username) {
    const answer = await post(this.port, "/auth/token", { username, password: PASSWORD });
    return JSON.parse(answer.text).token;
  }

  /** Somebody who is registered, as a program. */
  async program(username) {
    const answer = await post(this.port, "/auth/login", { username, password: PASSWORD });
    const [cookie] = answer.cookies;
    return Program.connect(this.port, cookie.split(";")[0]);
  }

  /** Saves what everybody saw, for whoever looks into a failure. */
  async show(name) {
    const shown = this.people.map((page, index) => {
      const path = join(tmpdir(), `${name.replace(/\W+/g, "-")}-${index}.png`);
      return page.screenshot({ path, timeout: 3_000 }).then(() => console.error(`see ${path}`), () => {});
    });
    await Promise.all(shown);
  }

  async end() {
    await this.browser.close();
    this.gateway.close();
    this.server.kill("SIGKILL");
    await this.server.exited;
    await rm(this.folder, { recursive: true, force: true });
  }
}

/** Between the browsers and the server: it can be cut. */
class Gateway {
  #pairs = new Set();
  #isCut = false;

  static async to(port) {
    const gateway = new Gateway();
    gateway.server = net.createServer((client) => gateway.#join(client, port()));
    await new Promise((resolve) => gateway.server.listen(0, "127.0.0.1", resolve));
    gateway.port = gateway.server.address().port;
    return gateway;
  }

  #join(client, port) {
    client.on("error", () => client.destroy());
    if (this.#isCut) return client.destroy();
    const server = net.connect(port, "127.0.0.1");
    const pair = [client, server];
    this.#pairs.add(pair);
    const end = () => {
      for (const socket of pair) socket.destroy();
      this.#pairs.delete(pair);
    };
    for (const socket of pair) socket.on("error", end).on("close", end);
    client.pipe(server).pipe(client);
  }

  cut() {
    this.#isCut = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  mend() {
    this.#isCut = false;
  }

  close() {
    this.cut();
    this.server.close();
  }
}

/** A socket without a browser: for what many people say. */
class Program {
  #refs = 0;
  #waiting = new Map();

  static connect(port, cookie) {
    const program = new Program();
    program.socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, { headers: { cookie } });
    program.socket.on("message", (text) => {
      const frame = JSON.parse(text);
      program.#waiting.get(frame.ref)?.(frame);
      program.#waiting.delete(frame.ref);
    });
    return new Promise((resolve, reject) => {
      program.socket.once("open", () => resolve(program));
      program.socket.once("error", reject);
    });
  }

  /** The data of the answer; waits as long as the server asks to. */
  async ask(type, fields = {}) {
    for (;;) {
      const ref = ++this.#refs;
      const answered = new Promise((resolve) => this.#waiting.set(ref, resolve));
      this.socket.send(JSON.stringify({ type, ref, ...fields }));
      const answer = await answered;
      if (answer.success) return answer.data;
      assert.ok(answer.retry_after, JSON.stringify(answer));
      await new Promise((resolve) => setTimeout(resolve, 1000 * answer.retry_after));
    }
  }

  close() {
    this.socket.close();
  }
}

function post(port, path, body) {
  return new Promise((resolve, reject) => {
    const request = http.request({ port, path, method: "POST", host: "127.0.0.1" }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (part) => (text += part));
      answer.on("end", () => resolve({ status: answer.statusCode, text, cookies: answer.headers["set-cookie"] ?? [] }));
    });
    request.on("error", reject);
    request.end(JSON.stringify(body));
  });
}

// What people do in the page, and see.

export const message = (page) => page.getByRole("textbox", { name: "Message", exact: true });

export async function say(page, text) {
  await message(page).fill(text);
  await page.getByRole("button", { name: "Send", exact: true }).click();
}

/** The article of the message with this text. */
export const said = (page, text) => page.getByRole("list", { name: "Messages" }).getByRole("article").filter({ hasText: text });

export async function open(page, name) {
  await page.getByRole("navigation", { name: "Conversations" }).getByRole("link", { name }).click();
  await page.getByRole("heading", { name, level: 1 }).first().waitFor();
}

/** Opens the menu of a message and chooses. */
export async function choose(page, text, item) {
  const row = said(page, text).last();
  await row.hover();
  await row.getByRole("button", { name: "More" }).click();
  await page.getByRole("menuitem", { name: item }).click();
}
