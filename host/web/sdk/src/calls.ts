// Requests that wait for their answers. They are sent in the order in which they were made, also
// after a pause that the server asked for.

import type { Clock } from "./environment.ts";
import { ChatError } from "./error.ts";

/** The most bytes that the server takes in one message. */
const FRAME_BYTES_MAX = 1024 * 1024;
/** The pause if the server asks for one and does not say how long, or nonsense. */
const PAUSE_DEFAULT_MS = 1_000;
/** Up to so much is added to a pause, so that clients do not come back at the same moment. */
const PAUSE_JITTER_MS = 250;

export interface CallOptions {
  /** Whether it goes out before the client has caught up. */
  isUrgent?: boolean;
  /** Whether it may be sent again if its answer was lost. */
  isRepeatable?: boolean;
  /** Whether it fails when the socket ends, even if it may be repeated. Urgent ones do. */
  endsWithSocket?: boolean | undefined;
  /** Gives up after this time. Without it, never. */
  timeoutMs?: number;
}

export interface Frame {
  type: string;
  success?: boolean;
  data?: unknown;
  error?: string;
  code?: string;
  ref?: string | number;
  retry_after?: number;
}

interface Call extends CallOptions {
  ref: number;
  text: string;
  /** Whether the server owes an answer. */
  isSent: boolean;
  resolve(data: unknown): void;
  reject(error: ChatError): void;
  /** What the server said the last time, if it is to be sent again. */
  refusal?: ChatError;
}

export interface Calls {
  request(type: string, fields: object, options?: CallOptions): Promise<unknown>;
  /** There is a socket. Only urgent calls go out. */
  opened(send: (text: string) => void): void;
  /** The client has caught up. */
  ready(): void;
  /** The socket is gone: what may not be repeated fails. */
  ended(): void;
  /** Nothing will be sent any more. */
  close(error: ChatError): void;
  /** Takes an answer in. */
  answer(frame: Frame): void;
  /** Whether the server owes an answer. */
  isWaiting(): boolean;
}

export function createCalls(clock: Clock, random: () => number): Calls {
  let lastRef = 0;
  /** Those without an answer, by `ref`, in the order in which they were made. */
  const calls = new Map<number, Call>();
  let send: ((text: string) => void) | null = null;
  let isReady = false;
  let pausedUntil = 0;
  let cancelPause = () => {};
  let closed: ChatError | null = null;

  function pump(): void {
    if (send === null) return;
    cancelPause();
    const pause = pausedUntil - clock.now();
    if (pause > 0) {
      cancelPause = clock.after(pause, pump);
      return;
    }
    for (const call of calls.values()) {
      if (call.isSent || !(isReady || call.isUrgent)) continue;
      call.isSent = true;
      send(call.text);
    }
  }

  function fail(call: Call, error: ChatError): void {
    calls.delete(call.ref);
    call.reject(error);
  }

  function request(type: string, fields: object, options: CallOptions = {}): Promise<unknown> {
    if (closed !== null) return Promise.reject(closed);
    const ref = (lastRef += 1);
    const text = JSON.stringify({ ...fields, type, ref });
    // A character has at most three bytes in UTF-8 for each of its UTF-16 units.
    if (text.length * 3 > FRAME_BYTES_MAX && new TextEncoder().encode(text).length > FRAME_BYTES_MAX) {
      return Promise.reject(new ChatError("too_large", "a request has at most 1 MiB"));
    }
    const call = { endsWithSocket: options.isUrgent, ...options, ref, text } as Call;
    const done = new Promise((resolve, reject) => Object.assign(call, { resolve, reject }));
    calls.set(ref, call);
    const { timeoutMs } = options;
    if (timeoutMs !== undefined) {
      const cancel = clock.after(timeoutMs, () => fail(call, call.refusal ?? new ChatError("timeout", `no answer to ${type}`)));
      done.then(cancel, cancel);
    }
    pump();
    return done;
  }

  function answer(frame: Frame): void {
    const call = calls.get(Number(frame.ref));
    // One that was given up.
    if (call === undefined) return;
    if (frame.success === true) {
      calls.delete(call.ref);
      return call.resolve(frame.data);
    }
    const { code = "internal", error = code, retry_after } = frame;
    const refusal = new ChatError(code, error, retry_after);
    // What is refused for its rate was not done; what is unavailable may have been.
    if (code === "rate_limited" || (code === "unavailable" && (call.isRepeatable || call.isUrgent))) {
      call.refusal = refusal;
      call.isSent = false;
      const pause = retry_after! > 0 ? retry_after! * 1000 : PAUSE_DEFAULT_MS;
      pausedUntil = Math.max(pausedUntil, clock.now() + pause + random() * PAUSE_JITTER_MS);
      return pump();
    }
    fail(call, refusal);
  }

  function ended(): void {
    send = null;
    isReady = false;
    cancelPause();
    const error = new ChatError("disconnected", "the connection ended; it may have been done");
    for (const call of calls.values()) {
      if (call.endsWithSocket || (call.isSent && !call.isRepeatable)) fail(call, error);
      call.isSent = false;
    }
  }

  return {
    request,
    opened(sends) {
      send = sends;
      pump();
    },
    ready() {
      isReady = true;
      pump();
    },
    ended,
    close(error) {
      ended();
      closed = error;
      for (const call of calls.values()) fail(call, error);
    },
    answer,
    isWaiting: () => [...calls.values()].some((call) => call.isSent),
  };
}
