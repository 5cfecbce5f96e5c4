// Requests that wait for their answers. They are sent in the order in which they were made, also
// after a pause that the server asked for.

import type { Clock } from "./environment.ts";
import { ChatError } from "./error.ts";

/** The most bytes that the server takes in one message. */
const FRAME_BYTES_MAX = 1024 * 1024;
/** The pause if the server asks for one and does not say how long. */
const PAUSE_DEFAULT_MS = 1_000;
/** Up to so much is added to a pause, so that clients do not come back at the same moment. */
const PAUSE_JITTER_MS = 250;

export interface CallOptions {
  /** Whether it goes out before the client has caught up. */
  isUrgent?: boolean;
  /** Whether it may be sent again if its answer was lost. */
  isRepeatable?: boolean;
  /** Whether it fails when the socket ends, even if it may be repeated. Urgent ones do. */
  endsWithSocket?: boolean;
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

interface Call {
  /** Also its place in the order. */
  ref: number;
  text: string;
  isUrgent: boolean;
  isRepeatable: boolean;
  endsWithSocket: boolean;
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
  /** In the order of `ref`. */
  let queue: Call[] = [];
  const inFlight = new Map<number, Call>();
  let send: ((text: string) => void) | null = null;
  let isReady = false;
  let pausedUntil = 0;
  let cancelPause = () => {};
  let closed: ChatError | null = null;

  function pump(): void {
    if (send === null || queue.length === 0) return;
    const pause = pausedUntil - clock.now();
    if (pause > 0) {
      cancelPause();
      cancelPause = clock.after(pause, pump);
      return;
    }
    const due = queue.filter((call) => isReady || call.isUrgent);
    queue = queue.filter((call) => !isReady && !call.isUrgent);
    for (const call of due) {
      inFlight.set(call.ref, call);
      send(call.text);
    }
  }

  function requeue(calls: Call[]): void {
    queue = [...queue, ...calls].sort((a, b) => a.ref - b.ref);
  }

  function drop(call: Call): void {
    inFlight.delete(call.ref);
    queue = queue.filter((other) => other !== call);
  }

  function request(type: string, fields: object, options: CallOptions = {}): Promise<unknown> {
    if (closed !== null) return Promise.reject(closed);
    const ref = (lastRef += 1);
    const text = JSON.stringify({ ...fields, type, ref });
    // A character has at most three bytes in UTF-8 for each of its UTF-16 units.
    if (text.length * 3 > FRAME_BYTES_MAX && new TextEncoder().encode(text).length > FRAME_BYTES_MAX) {
      return Promise.reject(new ChatError("too_large", "a request has at most 1 MiB"));
    }
    return new Promise((resolve, reject) => {
      let cancel = () => {};
      const call: Call = {
        ref,
        text,
        isUrgent: options.isUrgent ?? false,
        isRepeatable: options.isRepeatable ?? false,
        endsWithSocket: options.endsWithSocket ?? options.isUrgent ?? false,
        resolve(data) {
          cancel();
          resolve(data);
        },
        reject(error) {
          cancel();
          reject(error);
        },
      };
      const { timeoutMs } = options;
      if (timeoutMs !== undefined) {
        cancel = clock.after(timeoutMs, () => {
          drop(call);
          const seconds = Math.round(timeoutMs / 1000);
          reject(call.refusal ?? new ChatError("timeout", `no answer to ${type} within ${seconds} s`));
        });
      }
      queue.push(call);
      pump();
    });
  }

  function answer(frame: Frame): void {
    const call = inFlight.get(Number(frame.ref));
    // One that was given up.
    if (call === undefined) return;
    inFlight.delete(call.ref);
    if (frame.success === true) return call.resolve(frame.data);
    const { code = "internal", error = "no reason given", retry_after } = frame;
    const refusal = new ChatError(code, error, retry_after);
    // What is refused for its rate was not done; what is unavailable may have been.
    if (code === "rate_limited" || (code === "unavailable" && (call.isRepeatable || call.isUrgent))) {
      call.refusal = refusal;
      const pause = retry_after === undefined ? PAUSE_DEFAULT_MS : retry_after * 1000;
      pausedUntil = Math.max(pausedUntil, clock.now() + pause + random() * PAUSE_JITTER_MS);
      requeue([call]);
      return pump();
    }
    call.reject(refusal);
  }

  function ended(): void {
    send = null;
    isReady = false;
    cancelPause();
    const sent = [...inFlight.values()];
    inFlight.clear();
    const lost = [...sent.filter((call) => !call.isRepeatable || call.endsWithSocket), ...queue.filter((call) => call.endsWithSocket)];
    queue = queue.filter((call) => !call.endsWithSocket);
    requeue(sent.filter((call) => !lost.includes(call)));
    const error = new ChatError("disconnected", "the connection ended before the answer: it may have been done");
    for (const call of lost) call.reject(error);
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
      for (const call of queue) call.reject(error);
      queue = [];
    },
    answer,
    isWaiting: () => inFlight.size > 0,
  };
}
