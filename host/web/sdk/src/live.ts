// Values that change and can be watched. A snapshot never changes: `get` gives the same object until
// there is a new one. That is what React's useSyncExternalStore, signals, Svelte and Vue take.

export interface Live<T> {
  get(): T;
  /** Calls `changed` after each change. Returns what ends that. */
  subscribe(changed: () => void): () => void;
}

export interface Cell<T> extends Live<T> {
  set(value: T): void;
}

/** A value that is made when somebody asks, and made again once it is stale. */
export interface Derived<T> extends Live<T> {
  stale(): void;
}

/** The cells of one client. What changes within `run` is told once, at its end. */
export interface Scope {
  run<T>(action: () => T): T;
  cell<T>(value: T): Cell<T>;
  /** `watched` is told when the first one subscribes, and when the last one has gone. */
  derived<T>(make: () => T, watched?: (isWatched: boolean) => void): Derived<T>;
}

/** `failed` hears what one of them throws, so that the others and the client go on. */
export function callAll<T>(list: Iterable<(data: T) => void>, failed: (error: unknown) => void, data?: T): void {
  for (const told of [...list]) {
    try {
      told(data as T);
    } catch (error) {
      failed(error);
    }
  }
}

/** `failed` hears what a subscriber throws. */
export function createScope(failed: (error: unknown) => void): Scope {
  const due = new Set<Set<() => void>>();
  let depth = 0;

  function run<T>(action: () => T): T {
    depth += 1;
    try {
      return action();
    } finally {
      depth -= 1;
      if (depth === 0) tell();
    }
  }

  function tell(): void {
    // A subscriber may change something again: that is added at the end.
    for (const list of due) {
      due.delete(list);
      callAll(list, failed);
    }
  }

  function derived<T>(make: () => T, watched?: (isWatched: boolean) => void): Derived<T> {
    const list = new Set<() => void>();
    let made: { value: T } | null = null;
    return {
      get: () => (made ??= { value: make() }).value,
      stale() {
        made = null;
        // Told at the end of the outermost `run`.
        run(() => due.add(list));
      },
      subscribe(changed) {
        // The same function may subscribe twice.
        const own = () => changed();
        list.add(own);
        if (list.size === 1) watched?.(true);
        return () => {
          if (list.delete(own) && list.size === 0) watched?.(false);
        };
      },
    };
  }

  return {
    run,
    derived,
    cell(value) {
      const { get, stale, subscribe } = derived(() => value);
      return {
        get,
        set(next) {
          if (next === value) return;
          value = next;
          stale();
        },
        subscribe,
      };
    },
  };
}
