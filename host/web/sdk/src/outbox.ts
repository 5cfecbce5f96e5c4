// Messages, and changes of messages, that the server has not answered yet. They are sent in order, one
// of each conversation at a time: so the order stays even if the server refuses one for a while.

import type { Calls } from "./calls.ts";
import type { Environment } from "./environment.ts";
import { ChatError } from "./error.ts";
import type { Message } from "./protocol.ts";
import { type Entry, OUTBOX, type Shelf } from "./keeper.ts";

/** Something on its way to the server. */
export interface Sending {
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
  /** Ids mean something only in the epoch that they come from. */
  epoch: string;
  error?: { code: string; message: string } | undefined;
  isDiscarded?: true;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface Item {
  /** Its place in the order, and in the storage. */
  readonly place: string;
  kept: Kept;
  readonly sent: Mutable<Sending>;
  resolve(message: Message): void;
  reject(error: ChatError): void;
  isInFlight: boolean;
  /** Whether it was seen in the storage: if it is not there any more, another tab has sent it. */
  isStored: boolean;
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
  close(error: ChatError): void;
}

export interface OutboxOptions {
  environment: Environment;
  calls: Calls;
  shelf: Shelf;
  epoch(): string;
  /** What is pending or failed in a conversation is another. */
  changed(conversationId: number): void;
  /** The server has answered with the stored message. */
  answered(message: Message): void;
}

/** The most conversations that are written to at once. */
const IN_FLIGHT_MAX = 8;

const isMessage = ({ type }: Kept) => type === "send_message";
const isPending = ({ sent }: Item) => sent.state === "pending";

export function createOutbox(options: OutboxOptions): Outbox {
  const { environment, calls, shelf, changed } = options;
  const { clock } = environment;
  /** In the order of `place`. */
  let items: Item[] = [];
  let lastTime = 0;
  let isReady = false;
  /** The turn of this client to send, and what ends it; without that, it is waited for. */
  let turn: { release?: () => void } | null = null;
  let inFlight = 0;
  let reading: Promise<void> | undefined;
  /** The places of those that have ended: what was read may still have them. */
  const past = new Set<string>();

  function makeItem(place: string, kept: Kept, isStored: boolean): Item {
    const { fields, error } = kept;
    const sent = {
      key: isMessage(kept) ? `c${fields["client_id"] as string}` : place,
      state: "pending",
      error: null,
      retry: () => retry(item),
      discard: () => discard(item),
    } as Mutable<Sending>;
    const item = { place, kept, sent, isInFlight: false, isStored } as Item;
    begin(item);
    if (error) {
      sent.state = "failed";
      item.reject((sent.error = new ChatError(error.code, error.message)));
    }
    items = [...items, item].sort((a, b) => (a.place < b.place ? -1 : 1));
    changed(kept.conversation_id);
    return item;
  }

  function begin(item: Item): void {
    const { sent } = item;
    sent.state = "pending";
    sent.error = null;
    sent.done = new Promise((resolve, reject) => Object.assign(item, { resolve, reject }));
    // Not everybody asks how it ended.
    sent.done.catch(() => {});
  }

  function put(place: string, value: Kept | undefined): void {
    shelf.put([{ key: place, rev: 0, value }]);
  }

  function add(type: string, conversationId: number, fields: Record<string, unknown>): Item {
    // Later ones come later, also those of another tab, and if the clock is set back.
    lastTime = Math.max(lastTime + 1, Math.floor(clock.now()));
    const place = `${OUTBOX}${lastTime.toString(36).padStart(10, "0")}.${environment.uniqueId()}`;
    const at = Math.floor(lastTime / 1000);
    const kept = { type, fields, conversation_id: conversationId, at, epoch: options.epoch() };
    const item = makeItem(place, kept, false);
    put(place, kept);
    pump();
    return item;
  }

  const of = (conversationId: number) => items.filter((item) => item.kept.conversation_id === conversationId);

  /** With `kept`, that stays of it. */
  function end(item: Item, state: Sending["state"], outcome: Message | ChatError, kept?: Kept): void {
    if (!items.includes(item)) return;
    item.sent.state = state;
    if (!kept?.error) items = items.filter((other) => other !== item);
    if (!kept) past.add(item.place);
    put(item.place, kept);
    if (outcome instanceof ChatError) item.reject((item.sent.error = outcome));
    else item.resolve(outcome);
    changed(item.kept.conversation_id);
  }

  function fail(item: Item, error: ChatError): void {
    const { code, message } = error;
    // A message stays, with what its user wrote. A change is undone.
    end(item, "failed", error, isMessage(item.kept) ? (item.kept = { ...item.kept, error: { code, message } }) : undefined);
  }

  function retry(item: Item): void {
    if (item.sent.state !== "failed" || !items.includes(item)) return;
    begin(item);
    put(item.place, (item.kept = { ...item.kept, error: undefined }));
    changed(item.kept.conversation_id);
    pump();
  }

  function discard(item: Item): void {
    if (item.isInFlight) return;
    const kept: Kept | undefined = isMessage(item.kept) ? { ...item.kept, error: undefined, isDiscarded: true } : undefined;
    // Other tabs have to hear that it was not sent.
    end(item, "discarded", new ChatError("discarded", "discarded"), kept);
  }

  function pump(): void {
    // Items that were written before any epoch was known belong to the first one.
    for (const { kept } of items) kept.epoch ||= options.epoch();
    const due = items.filter(isPending);
    if (due.length === 0 && inFlight === 0) giveUpTurn();
    if (due.length === 0 || !isReady) return;
    if (!turn) return void takeTurn();
    if (!turn.release) return;
    const busy = new Set<number>();
    for (const item of due) {
      const { conversation_id: lane } = item.kept;
      if (!busy.has(lane) && !item.isInFlight && inFlight < IN_FLIGHT_MAX) void send(item);
      busy.add(lane);
    }
  }

  async function takeTurn(): Promise<void> {
    const own: NonNullable<typeof turn> = (turn = {});
    const release = await shelf.turn();
    // Another tab may have sent, or written, something meanwhile.
    await refresh();
    // It comes too late.
    if (turn !== own) return release();
    own.release = release;
    pump();
  }

  function giveUpTurn(): void {
    // The next tab that has the turn reads the storage first.
    if (turn?.release) void shelf.flush().then(turn.release);
    turn = null;
  }

  async function send(item: Item): Promise<void> {
    const { type, fields, epoch } = item.kept;
    item.isInFlight = true;
    inFlight += 1;
    let outcome;
    if (epoch === options.epoch()) {
      const asked = calls.request(type, fields, { isRepeatable: true, endsWithSocket: true });
      outcome = await asked.catch((error: ChatError) => error);
    } else {
      // Its conversation, or who is in it, may be another now. Only its user can say whether it still belongs there; then
      // it is of this epoch, in which nobody knows what it answered.
      item.kept = { ...item.kept, epoch: options.epoch(), fields: { ...fields, reply_id: null } };
      outcome = await new ChatError("conflict", "a backup was restored");
    }
    item.isInFlight = false;
    inFlight -= 1;
    if (outcome instanceof ChatError) {
      // What the connection has lost stays, for the next one.
      if (outcome.code !== "disconnected" && outcome.code !== "closed") fail(item, outcome);
    } else {
      const { duplicate: _, ...message } = outcome as Message & { duplicate?: true };
      if (isMessage(item.kept) && items.includes(item)) options.answered(message);
      end(item, "stored", message);
    }
    pump();
  }

  function refresh(): Promise<void> {
    // A later read has seen more.
    const own: Promise<void> = shelf.readOutbox().then((entries) => (own === reading ? take(entries) : reading), pump);
    return (reading = own);
  }

  function take(entries: readonly Entry[]): void {
    const found = new Map(entries.map(({ key, value }) => [key, value as Kept]));
    for (const [place, kept] of found) {
      if (past.has(place)) continue;
      const known = items.find((item) => item.place === place);
      if (kept.isDiscarded) {
        put(place, undefined);
        if (known) end(known, "discarded", new ChatError("discarded", "discarded"));
      } else if (!known) makeItem(place, kept, true);
      else if (kept.error && isPending(known) && !known.isInFlight) {
        known.kept = kept;
        fail(known, new ChatError(kept.error.code, kept.error.message));
      }
    }
    for (const item of items) {
      if (found.has(item.place)) item.isStored = true;
      // A message of this tab comes as a push.
      else if (item.isStored && !item.isInFlight && !isMessage(item.kept)) end(item, "stored", {} as Message);
    }
    pump();
  }

  return {
    add,
    of,
    landed(message) {
      for (const item of of(message.conversation_id)) {
        if (item.kept.fields["client_id"] === message.client_id) end(item, "stored", message);
      }
    },
    // Nobody waits for a read mark.
    count: () => items.filter((item) => isPending(item) && item.kept.type !== "mark_read").length,
    refresh,
    ready() {
      isReady = true;
      pump();
    },
    ended() {
      isReady = false;
      giveUpTurn();
    },
    clear() {
      for (const item of items) end(item, "discarded", new ChatError("closed", "somebody else has logged in"));
    },
    close(error) {
      for (const item of items) item.reject(error);
    },
  };
}
