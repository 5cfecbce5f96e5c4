// The real server for tests: the program `chatapp` on a file of its own.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

const PROGRAM = resolve(process.env["CHATAPP"] ?? "../../../target/debug/chatapp");

export interface RealServer {
  url: string;
  /** Does nothing if it runs. */
  start(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** Runs a command of the program on the data; returns what it prints. */
  command(...words: string[]): string;
  file(name: string): string;
  register(...usernames: string[]): Promise<void>;
  end(): Promise<void>;
}

export const PASSWORD = "a long password";

export async function startServer(variables: Record<string, string> = {}): Promise<RealServer> {
  const folder = mkdtempSync(join(tmpdir(), "chatapp-sdk-"));
  const DBPATH = join(folder, "chat.db");
  let child: ChildProcess | null = null;
  let port = "0";
  const environment = () => ({ ...process.env, DBPATH, PORT: port, HOST: "127.0.0.1", LOG_LEVEL: "info", ...variables });

  const server: RealServer = {
    url: "",
    async start() {
      if (child !== null) return;
      const started = spawn(PROGRAM, { env: environment(), stdio: ["ignore", "ignore", "pipe"] });
      child = started;
      server.url = await new Promise<string>((done, failed) => {
        const said: string[] = [];
        started.on("exit", () => failed(new Error(`chatapp ended: ${said.join("\n")}`)));
        createInterface({ input: started.stderr }).on("line", (line) => {
          said.push(line);
          const [, address] = /listens on (http:\/\/[^,]+)/.exec(line) ?? [];
          if (address !== undefined) done(address.replace("127.0.0.1", "localhost"));
        });
      });
      // The same again after a kill.
      port = new URL(server.url).port;
    },
    async kill() {
      const running = child;
      child = null;
      if (running === null) return;
      running.removeAllListeners("exit");
      const ended = new Promise((done) => running.once("exit", done));
      running.kill("SIGKILL");
      await ended;
    },
    command(...words) {
      return execFileSync(PROGRAM, words, { env: environment(), stdio: "pipe", encoding: "utf8" });
    },
    file: (name) => join(folder, name),
    async register(...usernames) {
      for (const username of usernames) {
        const body = JSON.stringify({ username, password: PASSWORD, fullname: username.toUpperCase() });
        const answer = await fetch(`${server.url}/register`, { method: "POST", body });
        if (answer.status !== 201) throw new Error(await answer.text());
      }
    },
    async end() {
      await server.kill();
      rmSync(folder, { recursive: true });
    },
  };
  await server.start();
  return server;
}
