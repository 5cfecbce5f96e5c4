// One socket after the other: opens it, notices when it is dead, waits, and opens the next one.

import type { Auth, TokenReason } from "./auth.ts";
import type { Calls, Frame } from "./calls.ts";
import type { ConnectionState } from "./connection_state.ts";
import type { Environment, Signal, Socket } from "./environment.ts";
import type { Cell } from "./live.ts";

/** Browsers hide the server's pings, so the client sends its own after this much silence. */
const SILENCE_MS = 25_000;
/** The server may need 10 s for what was asked before the ping. */
const ANSWER_MS = 15_000;
/** When somebody looks at the page again, it should be right soon. */
const WAKE_ANSWER_MS = 5_000;
const OPEN_MS = 15_000;
const BACKOFF_FIRST_MS = 1_000;
const BACKOFF_MAX_MS = 30_000;
/** After the server has closed a socket for taking too much. */
const PENALTY_MS = 10_000;

const SUBPROTOCOL = "chat";
/** `WebSocket.OPEN` */
const OPEN = 1;

export interface ConnectionOptions {
  environment: Environment;
  auth: Auth;
  /** `ws://…/ws` or `wss://…/ws`. */
  url: string;
  calls: Calls;
  state: Cell<ConnectionState>;
  /** A socket is open. */
  opened(): void;
  ended(): void;
  /** Any frame, before a call gets its answer. */
  received(frame: Frame): void;
  /** The page goes away, or is back. */
  hide(): void;
  show(): void;
}

export interface Connection {
  /** Connects now, if it does not already. */
  connect(): void;
  /** Connects anew: the client begins, or somebody has logged in. */
  renew(): void;
  /** The client has caught up. */
  caughtUp(): void;
  /** Gives the socket up and opens another one later. */
  restart(reason: string): void;
  /** Gives the socket up, until `connect`. */
  signOut(reason: string): void;
  close(reason: string): void;
}

export function createConnection(options: ConnectionOptions): Connection {
  const { environment, auth, calls, state } = options;
  const { clock, random } = environment;
  let socket: Socket | null = null;
  /** Counts attempts, so that what belongs to an old one is ignored. */
  let attempt = 0;
  let failures = 0;
  let reason: TokenReason = "connect";
  let isHidden = false;
  let heardAt = 0;
  let framesHeard = 0;
  let cancelTimer = () => {};
  const unlisten = environment.lifecycle.listen(signal);

  function timer(ms: number, due: () => void): void {
    cancelTimer();
    cancelTimer = clock.after(ms, due);
  }

  function connect(): void {
    const now = state.get().state;
    if (isHidden || now === "closed" || socket !== null || now === "connecting") return;
    void begin();
  }

  async function begin(): Promise<void> {
    const own = (attempt += 1);
    state.set({ state: "connecting" });
    timer(OPEN_MS, () => lost("no answer"));
    const asked = reason;
    try {
      const token = await auth.token(asked);
      if (own !== attempt) return;
      if (token === null) return needsAuth(asked === "expired" ? "the login has ended" : "nobody is logged in");
      const opening = environment.openSocket(options.url, token === undefined ? [] : [SUBPROTOCOL, `bearer.${token}`]);
      socket = opening;
      opening.onopen = () => opened(opening);
      opening.onmessage = ({ data }) => heard(data);
      opening.onclose = (event) => closedBy(event.code, event.reason, token === undefined);
      // `onclose` follows.
      opening.onerror = () => {};
    } catch (error) {
      // No token, or no such address.
      if (own === attempt) lost(String(error));
    }
  }

  function opened(from: Socket): void {
    heardAt = clock.now();
    timer(SILENCE_MS, watch);
    state.set({ state: "syncing" });
    calls.opened((text) => {
      // If it is closing, `onclose` follows.
      if (from.readyState === OPEN) from.send(text);
    });
    options.opened();
  }

  function heard(data: unknown): void {
    heardAt = clock.now();
    framesHeard += 1;
    let frame: Frame | null;
    try {
      frame = JSON.parse(String(data)) as Frame | null;
    } catch {
      return;
    }
    if (typeof frame?.type !== "string") return;
    options.received(frame);
    if (frame.ref !== undefined) calls.answer(frame);
  }

  /** Asks whether the server is there, after silence. */
  function watch(): void {
    const dueIn = heardAt + SILENCE_MS - clock.now();
    if (dueIn > 0) return timer(dueIn, watch);
    // If this timer is much too late, the machine has slept.
    ask(dueIn < -WAKE_ANSWER_MS ? WAKE_ANSWER_MS : ANSWER_MS);
  }

  function ask(patienceMs: number): void {
    const before = framesHeard;
    // An answer to something else comes first, and may take longer.
    timer(calls.isWaiting() ? ANSWER_MS : patienceMs, () => (framesHeard > before ? watch() : lost("no answer")));
    calls.request("ping", {}, { isUrgent: true }).catch(() => {});
  }

  function closedBy(code: number, why: string, isCookie: boolean): void {
    const text = why || `closed with ${code}`;
    const isRefused = code === 1000 && /login-token|doesn't exists/.test(why);
    // A new token may help, once.
    if (isRefused && (reason === "expired" || isCookie)) return needsAuth(text);
    if (isRefused || why === "session ended") {
      reason = "expired";
      return lost(text, 0);
    }
    if (code === 1001 || code === 1011) return lost(text, random() * BACKOFF_FIRST_MS);
    lost(text, backoff() + (code === 1008 ? PENALTY_MS : 0));
  }

  /** Full jitter: clients that lost the same server do not all come back at the same moment. */
  function backoff(): number {
    return random() * Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** failures);
  }

  function drop(): void {
    attempt += 1;
    cancelTimer();
    const old = socket;
    socket = null;
    if (old === null) return;
    // `onerror` stays: without it, `ws` would throw.
    old.onopen = old.onmessage = old.onclose = null;
    try {
      old.close(1000);
    } catch {
      // It was not open yet.
    }
    calls.ended();
    options.ended();
  }

  function lost(why: string, delayMs = backoff()): void {
    drop();
    failures += 1;
    state.set({ state: "waiting", until: clock.now() + delayMs, reason: why });
    timer(delayMs, () => void begin());
  }

  function needsAuth(why: string): void {
    drop();
    reason = "connect";
    state.set({ state: "needs-auth", reason: why });
  }

  function signal(signal: Signal): void {
    const now = state.get().state;
    if (now === "closed") return;
    if (signal === "hide") {
      // An open socket or a held lock would keep the page out of the back/forward cache.
      isHidden = true;
      options.hide();
      drop();
      if (now !== "needs-auth") state.set({ state: "waiting", until: Infinity, reason: "hidden" });
      return;
    }
    if (isHidden) options.show();
    isHidden = false;
    if (now === "live" || now === "syncing") ask(WAKE_ANSWER_MS);
    // If somebody has to log in, another tab may have done so.
    else connect();
  }

  return {
    connect,
    renew() {
      drop();
      reason = "connect";
      if (state.get().state !== "closed") void begin();
    },
    caughtUp() {
      failures = 0;
      reason = "connect";
      state.set({ state: "live" });
    },
    restart: lost,
    signOut: needsAuth,
    close(why) {
      drop();
      unlisten();
      state.set({ state: "closed", reason: why });
    },
  };
}
