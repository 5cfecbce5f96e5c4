// A fake server with clients of the library.

import { type Chat, type ChatOptions, createChat, tokenAuth } from "../src/index.ts";
import type { Live } from "../src/live.ts";
import { type FakeClock, type FakeLifecycle, createClock, createIds, createLifecycle, createLocks, createRandom } from "./fake_clock.ts";
import { type FakeServer, createServer } from "./fake_server.ts";

export interface World {
  clock: FakeClock;
  server: FakeServer;
  random: () => number;
  locks: ReturnType<typeof createLocks>;
  client(username: string, options?: Partial<ChatOptions>): Chat & { lifecycle: FakeLifecycle };
  /** One that is live already. */
  live(username: string, options?: Partial<ChatOptions>): Promise<Chat & { lifecycle: FakeLifecycle }>;
  /** Cuts all connections, and lets none be opened until the function that it returns is called. */
  cut(): Promise<() => void>;
  /** Lets time pass until it holds, for at most a minute. */
  until(what: string, holds: () => boolean): Promise<void>;
}

export function createWorld(seed = 1): World {
  const clock = createClock();
  const server = createServer(clock);
  const random = createRandom(seed);
  const locks = createLocks(clock);
  const world: World = {
    clock,
    server,
    random,
    locks,
    client(username, options = {}) {
      const lifecycle = createLifecycle();
      const chat = createChat({
        url: "http://chat.test",
        auth: tokenAuth(() => username),
        WebSocket: server.WebSocket,
        clock,
        random,
        uniqueId: createIds(random),
        lifecycle,
        report: (error) => {
          throw error;
        },
        ...options,
      });
      return { ...chat, lifecycle };
    },
    async live(username, options) {
      const chat = world.client(username, options);
      await world.until(`${username} is live`, () => stateOf(chat) === "live");
      return chat;
    },
    async cut() {
      const { admit } = server;
      server.admit = () => "refuse";
      for (const line of server.lines) line.cut();
      await clock.pass(10);
      return () => (server.admit = admit);
    },
    async until(what, holds) {
      for (let waited = 0; waited < 60_000; waited += 50) {
        if (holds()) return;
        await clock.pass(50);
      }
      throw new Error(`in vain: ${what}`);
    },
  };
  return world;
}

export const stateOf = (chat: { connection: Live<{ state: string }> }) => chat.connection.get().state;

/** What a conversation shows. */
export const contents = (chat: Chat, id: number) =>
  chat
    .conversation(id)
    .messages.get()
    .items.map((item) => item.content);
