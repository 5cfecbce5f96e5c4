// Messages, and changes of messages, that the server has not answered yet. They are sent in order, one
// of each conversation at a time: so the order stays even if the server refuses one for a while.

import type { Calls } from "./calls.ts";
import type { Environment } from "./environment.ts";
import { ChatError } from "./error.ts";
import type { Message } from "./protocol.ts";
import { OUTBOX, type Shelf } from "./keeper.ts";

/** Something on its way to the server. */
export interface Sent {
  /** Of a message, the key of its item in `room.messages`. */
  readonly key: string;
  readonly state: "pending" | "stored" | "failed" | "discarded";
  readonly error: ChatError | null;
  /** The stored message, or the error. After `retry`, a new promise. */
  readonly done: Promise<Message>;
  /** Sends a failed message again. */
  retry(): void;
  /** Takes it back, if it is not on its way right now. */
  discard(): void;
}

/** What is kept of it. */
interface Kept {
  type: string;
  fields: Record<string, unknown>;
  conversation_id: number;
  /** Unix seconds. */
  at: number;
  /** Ids of messages mean something only in the epoch that they come from. */
  epoch: string;
  error?: { code: string; message: string };
  isDiscarded?: true;
}

export interface Item {
  /** Its place in the order, and in the storage. */
  readonly place: string;
  readonly kept: Kept;
  readonly sent: Sent;
  isInFlight: boolean;
}

export interface Outbox {
  add(type: string, conversationId: number, fields: Record<string, unknown>): Item;
  of(conversationId: number): readonly Item[];
  /** An own message is stored. */
  landed(message: Message): void;
  /** How many messages and changes wait. */
  count(): number;
  /** The storage was read, or another tab has changed it. */
  refresh(): Promise<void>;
  ready(): void;
  /** Nothing can be sent for now; a lock is released. */
  ended(): void;
  /** Somebody else has logged in. */
  clear(): void;
  /** What is pending is left to the next client of this storage. */
  close(): void;
}

export interface OutboxOptions {
  environment: Environment;
  calls: Calls;
  shelf: Shelf;
  /** The name of the lock that tabs of one user share. */
  lock: string;
  epoch(): string;
  /** What is pending or failed in a conversation is another. */
  changed(conversationId: number): void;
  /** The server has answered with the stored message. */
  answered(message: Message): void;
}

/** The most conversations that are written to at once. */
const IN_FLIGHT_MAX = 8;
/** A frozen tab may hold the lock; without it, `client_id` still prevents doubles. */
const LOCK_MS = 3_000;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export function createOutbox(options: OutboxOptions): Outbox {
  const { environment, calls, shelf, changed } = options;
  const { clock } = environment;
  /** In the order of `place`. */
  let items: Item[] = [];
  const settlers = new WeakMap<Item, { resolve(message: Message): void; reject(error: ChatError): void }>();
  let lastPlace = "";
  let counter = 0;
  let isReady = false;
  let lock: { release: () => void } | "waiting" | null = null;
  let inFlight = 0;

  /** Later ones come later, also those of another tab. */
  function nextPlace(): string {
    counter += 1;
    const time = Math.max(0, Math.floor(clock.now())).toString(36).padStart(10, "0");
    const place = `${OUTBOX}${time}.${counter.toString(36).padStart(6, "0")}.${environment.uniqueId().slice(0, 8)}`;
    // The clock may have been set back.
    lastPlace = place > lastPlace ? place : `${lastPlace}~`;
    return lastPlace;
  }

  function makeItem(place: string, kept: Kept): Item {
    const error = kept.error === undefined ? null : new ChatError(kept.error.code, kept.error.message);
    const clientId = kept.fields["client_id"];
    const sent: Mutable<Sent> = {
      key: typeof clientId === "string" ? `c${clientId}` : place,
      state: error === null ? "pending" : "failed",
      error,
      done: Promise.resolve() as never,
      retry: () => retry(item),
      discard: () => discard(item),
    };
    const item: Item = { place, kept, sent, isInFlight: false };
    promise(item);
    if (error !== null) settlers.get(item)?.reject(error);
    return item;
  }

  function promise(item: Item): void {
    const done = new Promise<Message>((resolve, reject) => settlers.set(item, { resolve, reject }));
    // Not everybody asks how it ended.
    done.catch(() => {});
    (item.sent as Mutable<Sent>).done = done;
  }

  function insert(item: Item): void {
    const index = items.findIndex((other) => other.place > item.place);
    items = index < 0 ? [...items, item] : [...items.slice(0, index), item, ...items.slice(index)];
  }

  function keep(item: Item): void {
    shelf.put([{ key: item.place, rev: 0, value: { ...item.kept } }]);
  }

  function add(type: string, conversationId: number, fields: Record<string, unknown>): Item {
    const at = Math.floor(clock.now() / 1000);
    const item = makeItem(nextPlace(), { type, fields, conversation_id: conversationId, at, epoch: options.epoch() });
    insert(item);
    keep(item);
    changed(conversationId);
    pump();
    return item;
  }

  function settle(item: Item, state: "stored" | "discarded", outcome: Message | ChatError): void {
    if (!items.includes(item)) return;
    items = items.filter((other) => other !== item);
    (item.sent as Mutable<Sent>).state = state;
    shelf.put([{ key: item.place, rev: 0, value: undefined }]);
    if (outcome instanceof ChatError) settlers.get(item)?.reject(outcome);
    else settlers.get(item)?.resolve(outcome);
    changed(item.kept.conversation_id);
  }

  function fail(item: Item, error: ChatError): void {
    if (!items.includes(item)) return;
    const sent = item.sent as Mutable<Sent>;
    sent.error = error;
    sent.state = "failed";
    // A message stays, with what its user wrote. A change is undone.
    if (item.kept.type === "send_message") {
      item.kept.error = { code: error.code, message: error.message };
      keep(item);
    } else {
      items = items.filter((other) => other !== item);
      shelf.put([{ key: item.place, rev: 0, value: undefined }]);
    }
    settlers.get(item)?.reject(error);
    changed(item.kept.conversation_id);
  }

  function retry(item: Item): void {
    const sent = item.sent as Mutable<Sent>;
    if (sent.state !== "failed" || !items.includes(item)) return;
    sent.state = "pending";
    sent.error = null;
    delete item.kept.error;
    promise(item);
    keep(item);
    changed(item.kept.conversation_id);
    pump();
  }

  function discard(item: Item): void {
    if (item.isInFlight || !items.includes(item)) return;
    settle(item, "discarded", new ChatError("discarded", "it was discarded before it was sent"));
    // Other tabs have to hear that it was not sent.
    if (item.kept.type === "send_message") {
      shelf.put([{ key: item.place, rev: 0, value: { ...item.kept, isDiscarded: true } satisfies Kept }]);
    }
  }

  function pump(): void {
    const due = items.filter((item) => item.sent.state === "pending");
    if (due.length === 0) return release();
    if (!isReady || lock === "waiting") return;
    if (lock === null) return void acquire();
    const busy = new Set<number>();
    for (const item of due) {
      const lane = item.kept.conversation_id;
      if (busy.has(lane)) continue;
      busy.add(lane);
      if (!item.isInFlight && inFlight < IN_FLIGHT_MAX) void send(item);
    }
  }

  async function acquire(): Promise<void> {
    const asked = (lock = "waiting" as const);
    const free = await environment.locks.hold(options.lock, LOCK_MS);
    if (lock !== asked || !isReady) {
      if (lock === asked) lock = null;
      return free();
    }
    lock = { release: free };
    // Another tab may have sent, or written, something meanwhile.
    await refresh();
  }

  function release(): void {
    if (lock === "waiting" || lock === null || inFlight > 0) return;
    lock.release();
    lock = null;
  }

  async function send(item: Item): Promise<void> {
    const { type, fields, epoch } = item.kept;
    if (type !== "send_message" && epoch !== "" && epoch !== options.epoch()) {
      return fail(item, new ChatError("conflict", "a backup was restored since"));
    }
    item.isInFlight = true;
    inFlight += 1;
    try {
      const data = await calls.request(type, fields, { isRepeatable: true, endsWithSocket: true });
      item.isInFlight = false;
      inFlight -= 1;
      const { duplicate: _, ...message } = data as Message & { duplicate?: true };
      if (type === "send_message" && items.includes(item)) options.answered(message);
      settle(item, "stored", message);
    } catch (error) {
      item.isInFlight = false;
      inFlight -= 1;
      const why = error as ChatError;
      // It stays, for the next connection.
      if (why.code !== "disconnected" && why.code !== "closed") fail(item, why);
    }
    pump();
  }

  async function refresh(): Promise<void> {
    const before = new Set(items);
    const found = new Map((await shelf.read(OUTBOX)).map((entry) => [entry.key, entry.value as Kept]));
    const gone: string[] = [];
    for (const [place, kept] of found) {
      const known = items.find((item) => item.place === place);
      if (kept.isDiscarded === true) {
        gone.push(place);
        if (known !== undefined) settle(known, "discarded", new ChatError("discarded", "it was discarded in another tab"));
      } else if (known === undefined) {
        insert(makeItem(place, kept));
        changed(kept.conversation_id);
      } else if (kept.error !== undefined && known.sent.state === "pending" && !known.isInFlight) {
        fail(known, new ChatError(kept.error.code, kept.error.message));
      }
    }
    shelf.put(gone.map((key) => ({ key, rev: 0, value: undefined })));
    pump();
    for (const item of before) {
      // Another tab has sent it. A message of this tab comes as a push.
      if (!found.has(item.place) && !item.isInFlight && item.kept.type !== "send_message") {
        settle(item, "stored", {} as Message);
      }
    }
  }

  return {
    add,
    of: (conversationId) => items.filter((item) => item.kept.conversation_id === conversationId),
    landed(message) {
      const item = items.find(({ kept }) => kept.type === "send_message" && kept.fields["client_id"] === message.client_id);
      if (item?.kept.conversation_id === message.conversation_id) settle(item, "stored", message);
    },
    count: () => items.filter((item) => item.sent.state === "pending").length,
    refresh,
    ready() {
      isReady = true;
      pump();
    },
    ended() {
      isReady = false;
      if (lock !== null && lock !== "waiting") lock.release();
      lock = null;
    },
    clear() {
      for (const item of items) {
        (item.sent as Mutable<Sent>).state = "discarded";
        settlers.get(item)?.reject(new ChatError("closed", "somebody else has logged in"));
        changed(item.kept.conversation_id);
        shelf.put([{ key: item.place, rev: 0, value: undefined }]);
      }
      items = [];
    },
    close() {
      const error = new ChatError("closed", "the client was closed: the next one with the same storage sends it");
      for (const item of items) settlers.get(item)?.reject(error);
    },
  };
}
