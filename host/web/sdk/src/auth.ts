// How a client says who it is.

import type { ConnectionState } from "./connection_state.ts";
import type { Environment } from "./environment.ts";
import type { Live } from "./live.ts";

/** `connect`: a socket is about to be opened. `expired`: the server did not take the last token. */
export type TokenReason = "connect" | "expired";

export interface Auth<Extra extends object = object> {
  /** `null`: nobody is logged in. `undefined`: the browser's cookie says who it is. */
  token(reason: TokenReason): Promise<string | null | undefined>;
  /** Whether this user has logged in here. If not, the client asks for a login instead of changing to that user. */
  isFor?(username: string): boolean;
  /** What the client can do besides, such as `login`. */
  extend?(client: AuthClient): Extra;
}

/** What a client gives to its `auth`. */
export interface AuthClient {
  environment: Environment;
  /** The server, without a slash at the end. */
  url: string;
  connection: Live<ConnectionState>;
  /** Somebody has logged in: connects anew. */
  loggedIn(): void;
  /** Nobody is logged in any more: forgets everything that is stored here. */
  forget(): Promise<void>;
}

/**
 * For programs, and for apps that have logins of their own: `get` is asked anew at each connect. It may
 * ask your own server, which signs tokens. `null` means that nobody is logged in.
 */
export function tokenAuth(get: (reason: TokenReason) => Promise<string | null> | string | null): Auth {
  return { token: async (reason) => get(reason) };
}
