// What a client asks of the place where it keeps what it knows, and that place in memory.

import type { Clock } from "./environment.ts";
import type { Cell } from "./live.ts";
import type { Profile } from "./protocol.ts";
import type { Room } from "./room_state.ts";
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
  /** Reads the messages of a room, if they are in the storage only. */
  need(room: Room): Promise<void>;
  touched(room: Room): void;
  forgotten(room: Room): void;
  peopleChanged(): void;
  /** From now on it belongs to somebody else; what belonged to others is deleted. */
  own(owner: Owner): Promise<void>;
  /** Reads the outbox. The order is not defined. Rejects if the storage cannot be read. */
  readOutbox(): Promise<readonly Entry[]>;
  /** Writes soon, in the order of the calls. */
  put(entries: readonly Entry[]): void;
  /** Resolves with what ends the turn of this client to send, among those with the same storage. */
  turn(): Promise<() => void>;
  flush(): Promise<void>;
  /** The page goes away, perhaps into the back/forward cache. */
  hide(): void;
  /** It is back. */
  show(): void;
  close(): Promise<void>;
}

export interface ShelfOptions {
  clock: Clock;
  state: Cell<StorageState>;
  me(): string;
  room(id: number): Room;
  /** Its place in the list, from 0. */
  rank(room: Room): number;
  /** Whether its messages have to stay in memory. */
  isWatched(room: Room): boolean;
  setWindow(room: Room, window: Window): void;
  profiles(): readonly Profile[];
  /** Another tab has written or sent something. */
  outboxChanged(): void;
  /** Another tab has logged in or out. */
  ownerChanged(owner: Owner): void;
}

/** A place to keep things in, for one client. */
export type Keeper = (options: ShelfOptions) => Shelf;

/** The keys of the outbox begin so. */
export const OUTBOX = "o|";

/** Keeps nothing: all there is, the outbox too, is in the memory of the client. */
export function memory(): Keeper {
  return () => {
    const nothing = () => {};
    const done = async () => {};
    return {
      load: async () => ({ owner: { username: "", epoch: "" }, rooms: [], profiles: [] }),
      need: done,
      touched: nothing,
      forgotten: nothing,
      peopleChanged: nothing,
      own: done,
      readOutbox: async () => [],
      put: nothing,
      turn: async () => nothing,
      flush: done,
      hide: nothing,
      show: nothing,
      close: done,
    };
  };
}
