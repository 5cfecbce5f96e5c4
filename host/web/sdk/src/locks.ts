// Locks that tabs of one browser share.

import type { Clock } from "./environment.ts";

export interface Locks {
  /** Resolves with what releases the lock, or after `patienceMs` without it. */
  hold(name: string, patienceMs: number): Promise<() => void>;
}

/** Web Locks, where there are any. Without, the server sees to it that nothing is stored twice. */
export function webLocks(clock: Clock): Locks {
  return {
    hold(name, patienceMs) {
      const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
      if (locks === undefined) return Promise.resolve(() => {});
      const waiting = new AbortController();
      // A frozen tab may keep the lock.
      const cancel = clock.after(patienceMs, () => waiting.abort());
      return new Promise((resolve) => {
        const held = locks.request(name, { signal: waiting.signal }, () => {
          cancel();
          return new Promise<void>((release) => resolve(release));
        });
        held.catch(() => resolve(() => {}));
      });
    },
  };
}
