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
  /** 1: open. */
  readonly readyState: number;
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

export interface Environment {
  clock: Clock;
  /** At least 0, below 1. */
  random(): number;
  /** A new name that nobody else makes: 1 to 64 characters. */
  uniqueId(): string;
  openSocket(url: string, protocols: string[]): Socket;
  fetch(url: string, init: RequestInit): Promise<Response>;
  lifecycle: Lifecycle;
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
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");
}

/** Events of the page, if this is one. */
function pageLifecycle(): Lifecycle {
  return {
    listen(told) {
      if (typeof document === "undefined") return () => {};
      const end = new AbortController();
      const heard = (event: Event) => {
        if (event.type === "visibilitychange" && document.hidden) return;
        told(event.type === "pagehide" ? "hide" : (event as PageTransitionEvent).persisted ? "show" : "wake");
      };
      const hear = (target: EventTarget | undefined, ...names: string[]) => {
        for (const name of names) target?.addEventListener(name, heard, { signal: end.signal });
      };
      hear(window, "pagehide", "pageshow", "online", "offline");
      hear(document, "visibilitychange", "resume");
      hear((navigator as { connection?: EventTarget }).connection, "change");
      return () => end.abort();
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
    throw new TypeError("no WebSocket here: pass that of `ws` to createChat");
  }
  return {
    clock: options.clock ?? systemClock(),
    random: options.random ?? Math.random,
    uniqueId: options.uniqueId ?? uniqueId,
    openSocket: (url, protocols) => new Socket(url, protocols) as Socket,
    fetch: options.fetch ?? ((url, init) => fetch(url, init)),
    lifecycle: options.lifecycle ?? pageLifecycle(),
  };
}
