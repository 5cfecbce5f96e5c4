// Chromium with pages of the library, and the real server, which allows them.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { build } from "esbuild";
import { type BrowserContext, type Page, chromium } from "playwright-core";

import { PASSWORD, type RealServer, startServer } from "../real/server.ts";

export interface Stage {
  server: RealServer;
  /** The origin of the pages: another one than the server's, of the same site. */
  origin: string;
  /** A browser of somebody, with its own cookies and storage. */
  browser(options?: { bfcache?: boolean }): Promise<BrowserContext>;
  /** A page with a client of the library, as `window.chat`. */
  page(context: BrowserContext, options?: PageOptions): Promise<Page>;
  /** The same, of somebody who is logged in. */
  loggedIn(context: BrowserContext, username: string, options?: PageOptions): Promise<Page>;
  end(): Promise<void>;
}

export interface PageOptions {
  /** The name of the function of the library that makes `auth`. */
  auth?: "cookieAuth" | "keptTokenAuth" | "browserAuth";
}

export const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
export const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export async function startStage(): Promise<Stage> {
  const { outputFiles } = await build({
    entryPoints: ["tests/browser/page.ts"],
    bundle: true,
    write: false,
    format: "esm",
    jsx: "automatic",
    conditions: ["source"],
    define: { "process.env.NODE_ENV": '"development"' },
  });
  const script = outputFiles[0]?.text ?? "";
  const pages = createServer((request, response) => {
    const isScript = request.url === "/page.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    // The back/forward cache takes no page with `no-store`.
    response.end(isScript ? script : '<!doctype html><title>test</title><div id="app"></div><script type="module" src="/page.js"></script>');
  });
  await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  const origin = `http://localhost:${(pages.address() as AddressInfo).port}`;
  const server = await startServer({ CORS_ALLOW_ORIGIN: origin });
  const open: BrowserContext[] = [];

  const stage: Stage = {
    server,
    origin,
    async browser({ bfcache = false } = {}) {
      const context = await chromium.launchPersistentContext("", {
        executablePath: CHROMIUM,
        args: ARGUMENTS,
        ...(bfcache ? { ignoreDefaultArgs: ["--disable-back-forward-cache"] } : {}),
      });
      open.push(context);
      return context;
    },
    async page(context, { auth = "cookieAuth" } = {}) {
      const page = await context.newPage();
      // Kept over a reload.
      await page.addInitScript({ content: `window.options = ${JSON.stringify({ url: server.url, auth })};` });
      await page.goto(origin);
      await create(page);
      return page;
    },
    async loggedIn(context, username, options) {
      const page = await stage.page(context, options);
      const credentials = { username, password: PASSWORD };
      await page.evaluate((credentials) => window.chat.login(credentials), credentials);
      await state(page, "live");
      return page;
    },
    async end() {
      await Promise.all(open.map((context) => context.close()));
      pages.close();
      pages.closeAllConnections();
      await server.end();
    },
  };
  return stage;
}

/** Makes the client of a page that was loaded. */
export async function create(page: Page): Promise<void> {
  await page.waitForFunction(() => window.sdk !== undefined);
  await page.evaluate(() => {
    const { url, auth } = (window as unknown as { options: { url: string; auth: "cookieAuth" } }).options;
    const chat = window.sdk.createChat({ url, auth: window.sdk[auth](), storage: window.sdk.indexedDb() });
    window.chat = chat;
    chat.on("message", ({ content }) => window.notes.push(content));
  });
}

/** Waits until the connection is in this state. */
export async function state(page: Page, wanted: string): Promise<void> {
  await page.waitForFunction((wanted) => window.chat.connection.get().state === wanted, wanted);
}

/** Makes the page watch a conversation, and waits until it shows these contents. */
export async function shows(page: Page, id: number, contents: string[]): Promise<void> {
  await page.evaluate((id) => void window.chat.conversation(id).messages.subscribe(() => {}), id);
  await page
    .waitForFunction(
      ([id, contents]) => {
        const { items } = window.chat.conversation(id).messages.get();
        return JSON.stringify(items.map(({ content }) => content)) === JSON.stringify(contents);
      },
      [id, contents] as const,
      { timeout: 30_000 },
    )
    .catch(async (error: unknown) => {
      const items = await page.evaluate((id) => window.chat.conversation(id).messages.get().items.map(({ content }) => content), id);
      throw new Error(`shows ${JSON.stringify(items)}, not ${JSON.stringify(contents)}: ${String(error)}`);
    });
}

export async function converse(page: Page, members: string[], name: string): Promise<number> {
  return page.evaluate(([members, name]) => window.chat.request("create_conversation", { members: [...members], name }).then(({ id }) => id), [members, name] as const);
}

/** Sends, and does not wait. */
export async function send(page: Page, id: number, ...contents: string[]): Promise<void> {
  await page.evaluate(
    ([id, contents]) => {
      for (const content of contents) window.chat.conversation(id).send(content);
    },
    [id, contents] as const,
  );
}

export async function pending(page: Page, count: number): Promise<void> {
  await page.waitForFunction((count) => window.chat.pending.get() === count, count, { timeout: 60_000 });
}

/** Waits until everything is stored. On a busy disk, the first try may be given up. */
export async function stored(page: Page): Promise<void> {
  await page.evaluate(async () => {
    do await window.chat.flush();
    while (window.chat.storage.get() !== "ok");
  });
}
