// What a client needs from the place where it runs. Each part can be given instead, for tests and for
// places that have something else. Nothing here is touched before `createChat`.

/** Milliseconds. */
export interface Clock {
  now(): number;
  /** Calls `due` once. Returns what cancels that. */
  after(ms: number, due: () => void): () => void;
}

/** The part of a WebSocket that is used. `ws` in Node has it too. */
export interface Socket {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: unknown) => void) | null;
}

/**
 * What happens around a client:
 * - `wake`: somebody looks at the page again, or the network has changed: is the socket still there?
 * - `hide`: the page goes away, perhaps into the back/forward cache: let go of everything
 * - `show`: it is back
 */
export type Signal = "wake" | "hide" | "show";

export interface Lifecycle {
  /** Returns what ends that. */
  listen(told: (signal: Signal) => void): () => void;
}

export interface Locks {
  /** Resolves with what releases the lock, or after `patienceMs` without it. */
  hold(name: string, patienceMs: number): Promise<() => void>;
}

export interface Environment {
  clock: Clock;
  /** At least 0, below 1. */
  random(): number;
  /** A new name that nobody else makes: 1 to 64 characters. */
  uniqueId(): string;
  openSocket(url: string, protocols: string[]): Socket;
  fetch(url: string, init: RequestInit): Promise<Response>;
  lifecycle: Lifecycle;
  locks: Locks;
}

const systemClock = (): Clock => ({
  now: () => Date.now(),
  after(ms, due) {
    const timer = setTimeout(due, ms);
    return () => clearTimeout(timer);
  },
});

/** Random, 128 bits. `crypto.randomUUID` is missing in pages of `http://` addresses. */
function uniqueId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Events of the page, if this is one. */
function pageLifecycle(): Lifecycle {
  return {
    listen(told) {
      if (typeof document === "undefined" || typeof addEventListener === "undefined") return () => {};
      const end = new AbortController();
      const { signal } = end;
      const wake = () => told("wake");
      addEventListener("online", wake, { signal });
      addEventListener("offline", wake, { signal });
      addEventListener("pagehide", () => told("hide"), { signal });
      addEventListener("pageshow", (event) => told(event.persisted ? "show" : "wake"), { signal });
      document.addEventListener("visibilitychange", () => document.hidden || wake(), { signal });
      document.addEventListener("resume", wake, { signal });
      const network = (navigator as { connection?: EventTarget }).connection;
      network?.addEventListener?.("change", wake, { signal });
      return () => end.abort();
    },
  };
}

/** Web Locks, where there are any. Without, the server sees to it that nothing is stored twice. */
function webLocks(clock: Clock): Locks {
  return {
    async hold(name, patienceMs) {
      const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
      if (locks === undefined) return () => {};
      const waiting = new AbortController();
      // A frozen tab may keep the lock.
      const cancel = clock.after(patienceMs, () => waiting.abort());
      return new Promise((resolve) => {
        const held = locks.request(name, { signal: waiting.signal }, () => {
          cancel();
          return new Promise<void>((release) => resolve(() => release()));
        });
        held.catch(() => resolve(() => {}));
      });
    },
  };
}

/** The constructor of sockets; `ws` has one for Node. */
export type SocketConstructor = new (url: string, protocols: string[]) => object;

export interface EnvironmentOptions extends Partial<Omit<Environment, "openSocket">> {
  /** The constructor of sockets, where there is none in the language: `ws` in Node 20. */
  WebSocket?: SocketConstructor;
}

export function createEnvironment(options: EnvironmentOptions): Environment {
  const Socket = options.WebSocket ?? (globalThis as { WebSocket?: SocketConstructor }).WebSocket;
  if (Socket === undefined) {
    throw new TypeError("no WebSocket here: pass one, such as that of the package ws, as createChat({ WebSocket })");
  }
  const clock = options.clock ?? systemClock();
  return {
    clock,
    random: options.random ?? Math.random,
    uniqueId: options.uniqueId ?? uniqueId,
    openSocket: (url, protocols) => new Socket(url, protocols) as Socket,
    fetch: options.fetch ?? ((url, init) => fetch(url, init)),
    lifecycle: options.lifecycle ?? pageLifecycle(),
    locks: options.locks ?? webLocks(clock),
  };
}
