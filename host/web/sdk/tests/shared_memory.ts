// A storage that several clients of one test share, as tabs do.

import type { Entry, Keeper } from "../src/keeper.ts";
import type { Locks } from "../src/locks.ts";
import { keep } from "../src/shelf.ts";

export interface SharedMemory {
  entries: Map<string, Entry>;
  /** One for each tab. */
  tab(): Keeper;
  /** Thrown by the next writes. */
  fails: Error | null;
  /** Thrown by the next reads. */
  unreadable: Error | null;
  /** Thrown by writes that would leave more entries than there is room for. */
  full: Error | null;
  room: number;
}

/** With `locks`, its tabs send in turn. `delay`: before and after each access. */
export function createSharedMemory(locks?: Locks, delay = async () => {}): SharedMemory {
  const entries = new Map<string, Entry>();
  const watchers = new Set<{ told: (keys: readonly string[]) => void }>();
  const shared: SharedMemory = {
    entries,
    fails: null,
    unreadable: null,
    full: null,
    room: Infinity,
    tab() {
      let own: { told: (keys: readonly string[]) => void } | null = null;
      return keep({
        async read(prefix) {
          await delay();
          if (shared.unreadable !== null) throw shared.unreadable;
          const found = [...entries.values()].filter((entry) => entry.key.startsWith(prefix));
          const read = structuredClone(found);
          await delay();
          return read;
        },
        async write(changes) {
          await delay();
          if (shared.fails !== null) throw shared.fails;
          const after = new Set(entries.keys());
          for (const { key, value } of changes) value === undefined ? after.delete(key) : after.add(key);
          if (shared.full !== null && after.size > shared.room && after.size > entries.size) throw shared.full;
          for (const change of structuredClone(changes)) {
            if (change.value === undefined) entries.delete(change.key);
            else if (change.rev >= (entries.get(change.key)?.rev ?? 0)) entries.set(change.key, change);
          }
          await delay();
          for (const watcher of watchers) if (watcher !== own) watcher.told(changes.map(({ key }) => key));
        },
        watch(told) {
          const watcher = (own = { told });
          watchers.add(watcher);
          return () => void watchers.delete(watcher);
        },
      }, locks === undefined ? {} : { locks });
    },
  };
  return shared;
}

export const sharedMemory = (): Keeper => createSharedMemory().tab();
