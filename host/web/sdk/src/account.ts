// Accounts and logins, over HTTP.

import type { Auth, AuthClient } from "./auth.ts";
import { ChatError } from "./error.ts";

export interface Credentials {
  username: string;
  password: string;
  /** Stay logged in for weeks instead of an hour. */
  remember?: boolean;
}

/** A login of the user on some device. */
export interface Session {
  id: string | number;
  created_at: number;
  last_seen: number;
  user_agent: string;
  /** Whether it is this one. */
  current: boolean;
}

/** What a client can do besides, if its `auth` is one of this module. */
export interface Account {
  register(account: { username: string; password: string; fullname: string }): Promise<void>;
  /** Then the client connects. */
  login(credentials: Credentials): Promise<void>;
  /**
   * Ends this session, and forgets what is stored on this device, unsent messages too. Where there may be a
   * cookie, it fails while the server cannot be reached: the user stays logged in.
   */
  logout(): Promise<void>;
  /** Ends all other sessions. */
  changePassword(oldPassword: string, newPassword: string): Promise<void>;
  sessions(): Promise<Session[]>;
  endSession(id: Session["id"]): Promise<void>;
  /** Everything that the server has stored about the user, as a JSON document. */
  exportData(): Promise<Response>;
  /** The name stays reserved; messages stay, under the name `deleted`. */
  deleteAccount(password: string): Promise<void>;
}

/** Where a token and the name of the user are kept, such as `localStorage`. */
export interface TokenPlace {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** For pages of the server's own site: the browser keeps a cookie, and no script can read it. */
export function cookieAuth(): Auth<Account> {
  return { token: async () => undefined, extend: (client) => createAccount(client, null, false) };
}

/**
 * For pages and programs without cookies. The token is kept in `place`, or only in this client. Every
 * script of the page can read it: prefer cookies where they work.
 */
export function keptTokenAuth(place?: TokenPlace): Auth<Account> {
  const token = createToken(place);
  return {
    token: async (reason) => token.get(reason === "expired"),
    extend: (client) => createAccount(client, token, false),
  };
}

/**
 * Cookies, or a token in `place` where the browser drops the cookie: at a `http://` address in the local
 * network, or in Safari on `http://localhost`. `place` also has who logged in here last: if a sibling subdomain
 * has replaced the cookie, the client asks for a login.
 */
export function browserAuth(place: TokenPlace): Auth<Account> {
  const token = createToken(place);
  return {
    token: async (reason) => token.get(reason === "expired") ?? (token.wasRefused() ? null : undefined),
    isFor: (username) => (place.getItem(USER_KEY) ?? username) === username,
    extend: (client) => createAccount(client, token, true),
  };
}

const PLACE_KEY = "chatapp-token";
/** Under this key, `browserAuth` keeps who logged in, until the logout. */
export const USER_KEY = "chatapp-user";

interface Token {
  get(isRefused: boolean): string | null;
  set(token: string | null): void;
  setUser(username: string | null): void;
  wasRefused(): boolean;
}

function createToken(place?: TokenPlace): Token {
  let token: string | null = null;
  let refused: string | null = null;
  return {
    get(isRefused) {
      if (isRefused) refused = token;
      // Another tab may have a newer one.
      if (place !== undefined) token = place.getItem(PLACE_KEY);
      return token === refused ? null : token;
    },
    set(next) {
      token = next;
      refused = null;
      if (next === null) place?.removeItem(PLACE_KEY);
      else place?.setItem(PLACE_KEY, next);
    },
    setUser(username) {
      place?.removeItem(USER_KEY);
      if (username !== null) place?.setItem(USER_KEY, username);
    },
    wasRefused: () => refused !== null && token === refused,
  };
}

/** An answer that takes longer is given up. */
const ANSWER_MS = 30_000;
/** A login is renewed a while after it was used first. */
const REFRESH_FIRST_MS = 60_000;
const REFRESH_AGAIN_MS = 300_000;
const REFRESH_MAX_MS = 24 * 3_600_000;

const CODES: Record<number, string> = {
  400: "invalid",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  413: "too_large",
  429: "rate_limited",
  503: "unavailable",
};

function createAccount(client: AuthClient, token: Token | null, prefersCookie: boolean): Account {
  const { environment, connection } = client;
  const { clock } = environment;
  let cancelRefresh: (() => void) | null = null;

  /** Without a token, the browser's cookie says who it is. */
  const kept = () => token?.get(false) ?? null;

  async function http(method: string, path: string, body?: object, bearer = kept()): Promise<Response> {
    const giveUp = new AbortController();
    const cancel = clock.after(ANSWER_MS, () => giveUp.abort());
    try {
      const answer = await environment.fetch(client.url + path, {
        method,
        credentials: bearer === null ? "include" : "omit",
        headers: bearer === null ? {} : { authorization: `Bearer ${bearer}` },
        signal: giveUp.signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (answer.ok) return answer;
      throw await errorOf(answer);
    } catch (error) {
      throw error instanceof ChatError ? error : new ChatError("disconnected", "the server could not be reached");
    } finally {
      cancel();
    }
  }

  async function login(credentials: Credentials): Promise<void> {
    token?.set(null);
    if (token === null || prefersCookie) {
      await http("POST", "/auth/login", credentials);
      // Some browsers drop the cookie without a word. If nobody can say whether this one did, it is taken to be
      // there: a second login beside it would outlive the logout.
      const isKept = token === null || (await http("GET", "/auth/verify").then(() => true, isLoggedIn));
      if (isKept) return loggedIn(credentials);
    }
    const answer = await http("POST", "/auth/token", credentials);
    token?.set(((await answer.json()) as { token: string }).token);
    loggedIn(credentials);
  }

  function loggedIn({ username }: Credentials): void {
    if (prefersCookie) token?.setUser(username);
    client.loggedIn();
  }

  /** Ends the login of the cookie, or of the token. */
  async function endLogin(bearer: string | null): Promise<void> {
    await http("POST", "/auth/logout", undefined, bearer).catch((error: ChatError) => {
      if (isLoggedIn(error)) throw error;
    });
  }

  async function loggedOut(): Promise<void> {
    token?.set(null);
    token?.setUser(null);
    await client.forget();
  }

  /** A session in use does not end. */
  function refreshLater(ms: number): void {
    cancelRefresh ??= clock.after(Math.min(ms, REFRESH_MAX_MS), () => {
      cancelRefresh = null;
      if (connection.get().state === "live") refresh().catch(failed);
    });
  }

  async function refresh(): Promise<void> {
    const answer = await http("POST", "/auth/refresh");
    const { token: next, expires_at } = (await answer.json()) as { token: string; expires_at: number };
    if (kept() !== null) token?.set(next);
    refreshLater(Math.max(REFRESH_FIRST_MS, (expires_at * 1000 - clock.now()) / 2));
  }

  function failed(error: unknown): void {
    // A server that does not know it yet.
    if ((error as ChatError).code !== "not_found") refreshLater(REFRESH_AGAIN_MS);
  }

  connection.subscribe(() => {
    const { state } = connection.get();
    if (state === "live") refreshLater(REFRESH_FIRST_MS);
    if (state === "closed" || state === "needs-auth") {
      cancelRefresh?.();
      cancelRefresh = null;
    }
  });

  return {
    async register(account) {
      await http("POST", "/register", account);
    },
    login,
    async logout() {
      // A cookie stays until the server has ended its login, and no script can see whether there is one beside a
      // token. A token is forgotten all the same if the server cannot be reached.
      const bearer = kept();
      if (token === null || prefersCookie) await endLogin(null);
      if (bearer !== null) await endLogin(bearer).catch(() => {});
      await loggedOut();
    },
    async changePassword(oldPassword, newPassword) {
      await http("POST", "/auth/password", { old_password: oldPassword, new_password: newPassword });
    },
    async sessions() {
      const answer = await http("GET", "/auth/sessions");
      return ((await answer.json()) as { sessions: Session[] }).sessions;
    },
    async endSession(id) {
      await http("DELETE", `/auth/sessions/${encodeURIComponent(id)}`);
    },
    exportData: () => http("GET", "/account/export"),
    async deleteAccount(password) {
      await http("DELETE", "/account", { password });
      await loggedOut();
    },
  };
}

/** Whether this failure leaves open that somebody is logged in. */
const isLoggedIn = (error: ChatError): boolean => error.code !== "unauthorized";

/** Routes of the first backend answer with text, newer ones with JSON. */
async function errorOf(answer: Response): Promise<ChatError> {
  const text = await answer.text().catch(() => "");
  const code = CODES[answer.status] ?? "internal";
  const after = Number.parseFloat(answer.headers.get("retry-after") ?? "");
  const retryAfter = Number.isNaN(after) ? undefined : after;
  try {
    const said = JSON.parse(text) as { error?: string; code?: string };
    if (typeof said.error === "string") return new ChatError(said.code ?? code, said.error, retryAfter);
  } catch {
    // It is text.
  }
  return new ChatError(code, text.trim() || `the server answered ${answer.status}`, retryAfter);
}
