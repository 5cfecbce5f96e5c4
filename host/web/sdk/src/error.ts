// What goes wrong, as programs and people need it.

import type { ErrorCode } from "./protocol.ts";

/**
 * Why something was not done. `code` is the server's, or one of the library's own:
 * - `disconnected`: the connection ended before the answer; it may have been done, or not
 * - `timeout`: there was no answer in time
 * - `closed`: the client was closed, or somebody else has logged in
 * - `discarded`: the user discarded it
 */
export class ChatError extends Error {
  override readonly name = "ChatError";
  constructor(
    readonly code: ErrorCode | "disconnected" | "timeout" | "closed" | "discarded" | (string & {}),
    message: string,
    /** Seconds after which it may succeed, if the server said so. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

export function isChatError(error: unknown): error is ChatError {
  return error instanceof ChatError;
}
