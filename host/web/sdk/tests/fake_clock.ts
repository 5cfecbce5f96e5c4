// A clock that a test turns, and what else a client takes from its place.

import type { Clock, Lifecycle, Signal } from "../src/environment.ts";
import type { Locks } from "../src/locks.ts";

export interface FakeClock extends Clock {
  /** Lets time pass, timer by timer, with everything that follows from each. */
  pass(ms: number): Promise<void>;
  /** The machine sleeps: timers that were due meanwhile are late. */
  sleep(ms: number): void;
}

/** Lets everything run that does not wait for time. */
export const idle = () => new Promise<void>((resolve) => setImmediate(resolve));

export function createClock(now = 1_700_000_000_000): FakeClock {
  let count = 0;
  const timers = new Map<number, { at: number; due: () => void }>();
  return {
    now: () => now,
    after(ms, due) {
      const id = (count += 1);
      // As browsers do it: what is too long is never.
      if (ms < 2 ** 31) timers.set(id, { at: now + Math.max(0, ms), due });
      return () => void timers.delete(id);
    },
    sleep(ms) {
      now += ms;
    },
    async pass(ms) {
      const end = now + ms;
      for (;;) {
        await idle();
        const next = [...timers].sort(([a, x], [b, y]) => x.at - y.at || a - b)[0];
        if (next === undefined || next[1].at > end) break;
        timers.delete(next[0]);
        now = Math.max(now, next[1].at);
        next[1].due();
      }
      now = end;
      await idle();
    },
  };
}

export interface FakeLifecycle extends Lifecycle {
  tell(signal: Signal): void;
}

export function createLifecycle(): FakeLifecycle {
  const listeners = new Set<(signal: Signal) => void>();
  return {
    listen(told) {
      listeners.add(told);
      return () => void listeners.delete(told);
    },
    tell: (signal) => listeners.forEach((told) => told(signal)),
  };
}

/** Locks that tabs share. */
export function createLocks(clock: Clock): Locks & { held(): number } {
  const queues = new Map<string, (() => void)[]>();
  let held = 0;
  const free = (name: string) => () => {
    held -= 1;
    const next = queues.get(name)?.shift();
    if (next === undefined) queues.delete(name);
    else next();
  };
  return {
    held: () => held,
    hold(name, patienceMs) {
      return new Promise((resolve) => {
        const take = () => {
          cancel();
          held += 1;
          resolve(free(name));
        };
        const queue = queues.get(name);
        const cancel = clock.after(patienceMs, () => {
          const waiting = queues.get(name);
          if (waiting?.includes(take)) queues.set(name, waiting.filter((other) => other !== take));
          resolve(() => {});
        });
        if (queue === undefined) {
          queues.set(name, []);
          take();
        } else queue.push(take);
      });
    },
  };
}

/** Repeatable random numbers: mulberry32. */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function createIds(random: () => number): () => string {
  return () => Array.from({ length: 4 }, () => Math.floor(random() * 2 ** 32).toString(16).padStart(8, "0")).join("");
}
