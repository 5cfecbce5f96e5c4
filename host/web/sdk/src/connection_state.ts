// The states of the connection, as an app sees them.

export type ConnectionState =
  /** Opening a socket. */
  | { state: "connecting" }
  /** Finding out what was missed. */
  | { state: "syncing" }
  /** Everything is known, and what happens is told at once. */
  | { state: "live" }
  /** The connection was lost; the next try is at `until` (milliseconds, as of `Date.now`). */
  | { state: "waiting"; until: number; reason: string }
  /** Somebody has to log in. What is known and the outbox stay. */
  | { state: "needs-auth"; reason: string }
  | { state: "closed"; reason: string };
