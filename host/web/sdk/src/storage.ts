// Where a client keeps what it knows, and what it has not sent yet.

/** One thing that is kept. `value` is JSON. */
export interface Entry {
  key: string;
  /** An entry of a lower rev never replaces one of a higher rev. */
  rev: number;
  /** `undefined` deletes the entry, whatever its rev. */
  value: unknown;
}

/**
 * Three functions. Several tabs may use the same storage at once, each with a client of its own: so a
 * write is one transaction that compares revs.
 */
export interface Storage {
  /** All entries whose keys begin with `prefix`, in the order of their keys. */
  read(prefix: string): Promise<readonly Entry[]>;
  /** Stores all of them or, if that fails, none. */
  write(entries: readonly Entry[]): Promise<void>;
  /** Calls `told` with the keys that somebody else has written. Returns what ends that. */
  watch(told: (keys: readonly string[]) => void): () => void;
}

/** Keeps everything until the page or program ends. */
export function memory(): Storage {
  const entries = new Map<string, Entry>();
  return {
    async read(prefix) {
      const found = [...entries.values()].filter((entry) => entry.key.startsWith(prefix));
      return found.sort((a, b) => (a.key < b.key ? -1 : 1));
    },
    async write(changes) {
      for (const change of changes) {
        if (change.value === undefined) entries.delete(change.key);
        else if (change.rev >= (entries.get(change.key)?.rev ?? 0)) entries.set(change.key, change);
      }
    },
    watch: () => () => {},
  };
}
