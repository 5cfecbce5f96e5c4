// What a client asks of the place where it keeps what it knows, and that place in memory.

import type { Clock } from "./environment.ts";
import type { Cell } from "./live.ts";
import type { Profile } from "./protocol.ts";
import type { Room } from "./rooms.ts";
import type { Window } from "./window.ts";

/**
 * - `ok`: what the client knows is stored
 * - `full`: there is no room; the client goes on, and tries again later
 * - `refused`: nothing can be stored, for example in a private window
 */
export type StorageState = "ok" | "full" | "refused";

/** Whose conversations they are, and of which database. */
export interface Owner {
  username: string;
  epoch: string;
}

/** One thing that is kept. `value` is JSON. */
export interface Entry {
  key: string;
  /** An entry of a lower rev never replaces one of a higher rev. */
  rev: number;
  /** `undefined` deletes the entry, whatever its rev. */
  value: unknown;
}

export interface Kept {
  owner: Owner;
  rooms: Room[];
  profiles: readonly Profile[];
}

/** Writing is behind: nobody waits for it. */
export interface Shelf {
  load(): Promise<Kept>;
  /** Whose it is now, perhaps by another tab. */
  storedOwner(): Promise<Owner>;
  loadWindow(room: Room): Promise<Window>;
  touched(room: Room): void;
  forgotten(room: Room): void;
  peopleChanged(): void;
  /** Whether what is known of it can be read again. */
  isStored(room: Room): boolean;
  /** From now on it belongs to somebody else; what belonged to others is deleted. */
  own(owner: Owner): Promise<void>;
  read(prefix: string): Promise<readonly Entry[]>;
  /** Writes soon, in the order of the calls. */
  put(entries: readonly Entry[]): void;
  flush(): Promise<void>;
  /** Calls `told` with the keys that another tab has written. Returns what ends that. */
  watch(told: (keys: readonly string[]) => void): () => void;
}

export interface ShelfOptions {
  clock: Clock;
  state: Cell<StorageState>;
  me(): string;
  room(id: number): Room;
  /** Its place in the list, from 0. */
  rank(room: Room): number;
  profiles(): readonly Profile[];
}

/** A place to keep things in, for one client. */
export type Keeper = (options: ShelfOptions) => Shelf;

export const META = "meta";
/** The keys of the outbox begin so. */
export const OUTBOX = "o|";

/** Keeps everything until the page or the program ends. */
export function memory(): Keeper {
  return () => {
    const entries = new Map<string, Entry>();
    const owner = { username: "", epoch: "" };
    return {
      load: async () => ({ owner, rooms: [], profiles: [] }),
      storedOwner: async () => owner,
      // It never leaves the memory of the client.
      loadWindow: async () => ({ floor: 0, items: [] }),
      touched() {},
      forgotten() {},
      peopleChanged() {},
      isStored: () => false,
      async own() {},
      read: async () => [...entries.values()],
      put(changes) {
        for (const change of changes) {
          if (change.value === undefined) entries.delete(change.key);
          else entries.set(change.key, change);
        }
      },
      async flush() {},
      watch: () => () => {},
    };
  };
}
