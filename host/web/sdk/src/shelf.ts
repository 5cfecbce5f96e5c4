// What a client puts into its storage, and how it finds it again. Writing is behind: the client never
// waits for it, and what a failed write was to store is written again later.

import { type Entry, type Keeper, OUTBOX, type Owner, type Shelf, type ShelfOptions } from "./keeper.ts";
import { type Locks, webLocks } from "./locks.ts";
import type { Message, Profile } from "./protocol.ts";
import type { Room } from "./room_state.ts";
import { type Window, latest, storedMessage } from "./window.ts";

/** Changes are collected for so long. */
const DELAY_MS = 250;
const RETRY_MS = 30_000;
/** A storage that does not answer in this time is not waited for. A busy disk may take seconds. */
const PATIENCE_MS = 10_000;
/** The most messages of a conversation that are stored, and about how many characters. */
const MESSAGES_MAX = 100;
const CHARS_MAX = 200_000;
/** So many conversations that nobody watches keep their messages in memory. */
const WINDOWS_MAX = 50;
/** A frozen tab may hold the lock; without it, `client_id` still prevents doubles. */
const LOCK_MS = 3_000;
/** The most profiles that are stored. */
const PROFILES_MAX = 500;
/** The most conversations whose messages are stored; of the others, the latest one. */
const ROOMS_MAX = 500;
/** The same, if the storage is full. */
const ROOMS_MAX_FULL = 20;

interface Summary {
  fields: Room["fields"];
  readId: number;
  unread: number;
  mentions: number;
  last: Message | null;
  messageRev: number;
  at: number;
}

interface Block {
  floor: number;
  messages: Message[];
}

/**
 * Where entries are stored: three functions. Several tabs may use the same storage at once, each with a
 * client of its own: so a write is one transaction that compares revs.
 */
export interface Storage {
  /** All entries whose keys begin with `prefix`. */
  read(prefix: string): Promise<readonly Entry[]>;
  /** Stores all of them or, if that fails, none. */
  write(entries: readonly Entry[]): Promise<void>;
  /** Calls `told` with the keys that somebody else has written. Returns what ends that. */
  watch(told: (keys: readonly string[]) => void): () => void;
}

export interface KeepOptions {
  /** The name of the storage, for a lock that its tabs share. */
  name?: string;
  /** Without it, Web Locks where there are any. */
  locks?: Locks;
}

/** Lets a client keep what it knows in `storage`. */
export function keep(storage: Storage, options: KeepOptions = {}): Keeper {
  return (shelf) => createShelf(storage, shelf, options);
}

const META = "meta";

function createShelf(storage: Storage, options: ShelfOptions, { name = "", locks }: KeepOptions): Shelf {
  const { clock, state } = options;
  const { hold } = locks ?? webLocks(clock);
  /** Those whose messages are in memory, least recently used first. */
  const windows = new Set<Room>();
  const reading = new Map<Room, Promise<void>>();
  let unwatch = watch();

  function watch(): () => void {
    return storage.watch((keys) => {
      if (keys.some((key) => key.startsWith(OUTBOX))) options.outboxChanged();
      if (keys.includes(META)) void storedOwner().then(options.ownerChanged);
    });
  }

  const dirty = new Set<Room>();
  /** What the storage has of each. */
  const stored = new WeakMap<Room, Window>();
  let waiting = new Map<string, Entry>();
  let isHanging = false;
  let arePeopleDirty = false;
  let writing: Promise<void> | null = null;
  let cancelTimer: (() => void) | null = null;
  let owner: Owner = { username: "", epoch: "" };

  const prefix = (kind: string) => `${kind}|${encodeURIComponent(owner.username)}|${owner.epoch}|`;

  /** A storage that hangs is like one that refuses. */
  function patient<T>(work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const cancel = clock.after(PATIENCE_MS, () => {
        isHanging = true;
        reject();
      });
      work.then(resolve, reject).finally(cancel);
    });
  }

  /** If the storage cannot be read, what was not written yet; or, if all is needed, an error. */
  async function read(from: string, needsAll?: boolean): Promise<readonly Entry[]> {
    const found = new Map<string, Entry>();
    // Not every storage reads after the writes before it.
    while (writing !== null) await writing;
    try {
      for (const entry of await patient(isHanging ? Promise.reject<readonly Entry[]>() : storage.read(from))) found.set(entry.key, entry);
    } catch (error) {
      state.set("refused");
      if (needsAll) throw error;
    }
    for (const entry of waiting.values()) {
      if (!entry.key.startsWith(from)) continue;
      if (entry.value === undefined) found.delete(entry.key);
      else found.set(entry.key, entry);
    }
    return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  function schedule(ms: number): void {
    cancelTimer ??= clock.after(ms, () => {
      cancelTimer = null;
      void flush();
    });
  }

  function entriesOf(room: Room, roomsMax: number): Entry[] {
    const { fields, readId, unread, mentions, last, messageRev, at, rev, window } = room;
    const value: Summary = { fields, readId, unread, mentions, last, messageRev, at };
    const entries: Entry[] = [{ key: `${prefix("c")}${room.id}|`, rev, value }];
    if (window === null || window === stored.get(room)) return entries;
    const key = `${prefix("m")}${room.id}|`;
    const isMore = window.floor < (last?.id ?? 0) || window.items.length > 1;
    if (!isMore || options.rank(room) >= roomsMax) return [...entries, { key, rev, value: undefined }];
    const { floor, items } = latest(window, MESSAGES_MAX, CHARS_MAX);
    const messages = items.map(({ key: _key, state: _state, ...message }) => message);
    return [...entries, { key, rev, value: { floor, messages } satisfies Block }];
  }

  async function flush(): Promise<void> {
    while (writing !== null) await writing;
    cancelTimer?.();
    cancelTimer = null;
    // What is in the storage only has to be read first.
    if (arePeopleDirty && owner.username !== "") {
      const key = prefix("p");
      waiting.set(key, { key, rev: 0, value: options.profiles().slice(-PROFILES_MAX) });
      arePeopleDirty = false;
    }
    const rooms = [...dirty].filter((room) => room.isKnown && room.tail.length === 0);
    if (rooms.length === 0 && waiting.size === 0) return;
    const others = waiting;
    waiting = new Map();
    for (const room of rooms) dirty.delete(room);
    const write = (roomsMax: number) =>
      patient(storage.write([...others.values(), ...rooms.flatMap((room) => entriesOf(room, roomsMax))]));
    const windows = rooms.map((room) => room.window);
    writing = (async () => {
      try {
        await write(state.get() === "full" ? ROOMS_MAX_FULL : ROOMS_MAX).catch(async (error: unknown) => {
          if (!isFull(error)) throw error;
          state.set("full");
          await makeRoom();
          await write(ROOMS_MAX_FULL);
        });
        rooms.forEach((room, index) => {
          const window = windows[index];
          if (window != null) stored.set(room, window);
        });
        if (state.get() !== "full") state.set("ok");
      } catch (error) {
        state.set(isFull(error) ? "full" : "refused");
        // Newer ones stay.
        waiting = new Map([...others, ...waiting]);
        for (const room of rooms) dirty.add(room);
        schedule(RETRY_MS);
      }
    })();
    await writing;
    writing = null;
    if ((dirty.size > 0 || waiting.size > 0) && cancelTimer === null) schedule(DELAY_MS);
  }

  /** Deletes the messages of all but a few conversations. */
  async function makeRoom(): Promise<void> {
    const blocks = await storage.read("m|");
    await storage.write(blocks.map(({ key }) => ({ key, rev: 0, value: undefined })));
  }

  async function loadWindow(room: Room): Promise<Window> {
    const [entry] = await read(`${prefix("m")}${room.id}|`);
    const block = entry?.value as Block | undefined;
    const me = options.me();
    // Another tab may have stored less than is known.
    if (entry !== undefined && block !== undefined && entry.rev >= room.messageRev) {
      const window = { floor: block.floor, items: block.messages.map((message) => storedMessage(message, me)) };
      stored.set(room, window);
      return window;
    }
    return { floor: room.last?.id ?? 0, items: room.last === null ? [] : [storedMessage(room.last, me)] };
  }

  async function storedOwner(): Promise<Owner> {
    const [entry] = await read(META);
    return { username: "", epoch: "", ...(entry?.value as Partial<Owner> | undefined) };
  }

  async function loadRooms(): Promise<Room[]> {
    const start = prefix("c");
    const loaded: Room[] = [];
    for (const { key, rev, value } of await read(start)) {
      const room = options.room(Number(key.slice(start.length, -1)));
      // What the server has said meanwhile is newer.
      if (room.isKnown) continue;
      Object.assign(room, value as Summary, { rev });
      loaded.push(room);
    }
    return loaded;
  }

  function need(room: Room): Promise<void> {
    if (room.window !== null || !room.isKnown) {
      windows.delete(room);
      windows.add(room);
      return Promise.resolve();
    }
    let promise = reading.get(room);
    if (promise === undefined) {
      promise = readWindow(room).finally(() => reading.delete(room));
      reading.set(room, promise);
    }
    return promise;
  }

  async function readWindow(room: Room): Promise<void> {
    const window = await loadWindow(room);
    if (room.window !== null || !room.isKnown) return;
    options.setWindow(room, window);
    windows.add(room);
    for (const other of windows) {
      if (windows.size <= WINDOWS_MAX) break;
      // What is not written yet cannot be read again.
      if (options.isWatched(other) || dirty.has(other) || writing !== null) continue;
      windows.delete(other);
      other.window = null;
    }
  }

  return {
    async load() {
      owner = await storedOwner();
      const rooms = await loadRooms();
      const [people] = await read(prefix("p"));
      return { owner, rooms, profiles: (people?.value as Profile[] | undefined) ?? [] };
    },
    need,
    touched(room) {
      dirty.add(room);
      schedule(DELAY_MS);
    },
    forgotten(room) {
      dirty.delete(room);
      for (const kind of ["c", "m"]) {
        const key = `${prefix(kind)}${room.id}|`;
        waiting.set(key, { key, rev: 0, value: undefined });
      }
      schedule(DELAY_MS);
    },
    peopleChanged() {
      arePeopleDirty = true;
      schedule(DELAY_MS);
    },
    async own(next) {
      const isOther = owner.username !== "" && owner.username !== next.username;
      owner = next;
      dirty.clear();
      windows.clear();
      const own = [prefix("c"), prefix("m"), prefix("p"), ...(isOther ? [] : [OUTBOX])];
      const isGone = (key: string) => key !== META && !own.some((start) => key.startsWith(start));
      for (const key of waiting.keys()) if (isGone(key)) waiting.delete(key);
      waiting.set(META, { key: META, rev: 0, value: next });
      for (const { key } of await read("")) if (isGone(key)) waiting.set(key, { key, rev: 0, value: undefined });
      void flush();
    },
    readOutbox: () => read(OUTBOX, true),
    turn: () => hold(`chatapp ${name}`, LOCK_MS),
    put(entries) {
      for (const entry of entries) waiting.set(entry.key, entry);
      void flush();
    },
    flush,
    hide() {
      unwatch();
      void flush();
    },
    show() {
      unwatch();
      unwatch = watch();
      options.outboxChanged();
      void storedOwner().then(options.ownerChanged);
    },
    async close() {
      unwatch();
      // What came for a conversation whose messages are in the storage only.
      await Promise.all(reading.values());
      await flush();
    },
  };
}

function isFull(error: unknown): boolean {
  return (error as { name?: string } | null)?.name === "QuotaExceededError";
}
