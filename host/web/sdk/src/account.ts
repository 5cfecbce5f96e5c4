// Accounts and logins, over HTTP.

import type { Auth } from "./auth.ts";
import type { Environment } from "./environment.ts";
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

export interface Account {
  register(account: { username: string; password: string; fullname: string }): Promise<void>;
  /** Then the client connects. */
  login(credentials: Credentials): Promise<void>;
  /** Ends this session, and forgets what is stored on this device, unsent messages too. */
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

export interface AccountOptions {
  environment: Environment;
  auth: Auth;
  /** The server, without a slash at the end. */
  url: string;
  loggedIn(): void;
  loggedOut(): Promise<void>;
}

/** An answer that takes longer is given up. */
const ANSWER_MS = 30_000;

const CODES: Record<number, string> = {
  400: "invalid",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  413: "too_large",
  429: "rate_limited",
  500: "internal",
  503: "unavailable",
};

export interface OwnAccount extends Account {
  /** Gets a new token for this session; resolves to when that one expires, in Unix seconds. */
  refresh(): Promise<number | null>;
}

export function createAccount({ environment, auth, url, loggedIn, loggedOut }: AccountOptions): OwnAccount {
  const { clock } = environment;

  async function http(method: string, path: string, body?: object): Promise<Response> {
    const token = await auth.token("connect");
    const giveUp = new AbortController();
    const cancel = clock.after(ANSWER_MS, () => giveUp.abort());
    try {
      const answer = await environment.fetch(url + path, {
        method,
        credentials: token === undefined ? "include" : "omit",
        headers: typeof token === "string" ? { authorization: `Bearer ${token}` } : {},
        signal: giveUp.signal,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      if (answer.ok) return answer;
      throw await errorOf(answer);
    } catch (error) {
      if (error instanceof ChatError) throw error;
      throw new ChatError("disconnected", "the server could not be reached");
    } finally {
      cancel();
    }
  }

  return {
    async register(account) {
      await http("POST", "/register", account);
    },
    async login(credentials) {
      if (auth.keep === undefined) await http("POST", "/auth/login", credentials);
      else {
        const answer = await http("POST", "/auth/token", credentials);
        auth.keep(((await answer.json()) as { token: string }).token);
      }
      loggedIn();
    },
    async logout() {
      // If the server cannot be reached, this device forgets the user all the same.
      const ended = http("POST", "/auth/logout").catch(() => {});
      await ended;
      auth.keep?.(null);
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
      auth.keep?.(null);
      await loggedOut();
    },
    async refresh() {
      const answer = await http("POST", "/auth/refresh");
      const { token, expires_at } = (await answer.json()) as { token?: string; expires_at?: number };
      if (token !== undefined) auth.keep?.(token);
      return expires_at ?? null;
    },
  };
}

/** Routes of the first backend answer with text, newer ones with JSON. */
async function errorOf(answer: Response): Promise<ChatError> {
  const text = await answer.text().catch(() => "");
  const code = CODES[answer.status] ?? "internal";
  const after = Number(answer.headers.get("retry-after") ?? Number.NaN);
  const retryAfter = Number.isFinite(after) ? after : undefined;
  try {
    const said = JSON.parse(text) as { error?: string; code?: string };
    if (typeof said.error === "string") return new ChatError(said.code ?? code, said.error, retryAfter);
  } catch {
    // It is text.
  }
  return new ChatError(code, text.trim() || `the server answered ${answer.status}`, retryAfter);
}
