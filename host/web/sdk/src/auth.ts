// How a client says who it is.

/** `connect`: a socket is about to be opened. `expired`: the server did not take the last token. */
export type TokenReason = "connect" | "expired";

export interface Auth {
  /** `null`: nobody is logged in. `undefined`: the browser's cookie says who it is. */
  token(reason: TokenReason): Promise<string | null | undefined>;
  /** Keeps the token of a login or a renewal; `null` after a logout. Without it, cookies are used. */
  keep?(token: string | null): void;
  /** Whether the client renews the login while it is open. */
  renews?: boolean;
}

/** For pages of the server's own site: the browser sends its cookie, and no script can read it. */
export function cookieAuth(): Auth {
  return { token: async () => undefined, renews: true };
}

/**
 * For programs, and for pages that get no cookie: another site, or a `http://` address in the local
 * network. `get` is asked anew at each connect; it may be a call to your own server that signs tokens.
 * `null` means that nobody is logged in.
 */
export function tokenAuth(get: (reason: TokenReason) => Promise<string | null> | string | null): Auth {
  return { token: async (reason) => get(reason) };
}

/** Where a token is kept, such as `localStorage`. */
export interface TokenPlace {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

const PLACE_KEY = "chatapp-token";

/**
 * Tokens that `chat.login` gets and renews by itself. They are kept in `place`, or only in this
 * client. Every script of the page can read them: prefer `cookieAuth` where it works.
 */
export function keptTokenAuth(place?: TokenPlace): Auth {
  let token: string | null = null;
  return {
    renews: true,
    async token(reason) {
      const known = place === undefined ? token : place.getItem(PLACE_KEY);
      // Another tab may have a newer one.
      const isRefused = reason === "expired" && known === token;
      token = known;
      return isRefused ? null : known;
    },
    keep(next) {
      token = next;
      if (next === null) place?.removeItem(PLACE_KEY);
      else place?.setItem(PLACE_KEY, next);
    },
  };
}
