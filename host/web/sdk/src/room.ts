// One conversation, as an app uses it.

import type { Clock } from "./environment.ts";
import type { Derived, Live, Scope } from "./live.ts";
import type { Item, Outbox, Sending } from "./outbox.ts";
import type { Events, History, Message } from "./protocol.ts";
import type { ConversationView, Room } from "./room_state.ts";
import type { Rooms } from "./rooms.ts";
import { type StoredMessage, find, withReaction } from "./window.ts";

/** A message that is not stored yet. */
export interface PendingMessage extends Omit<Message, "id" | "rev" | "client_id"> {
  id: null;
  rev: null;
  client_id: string;
  key: string;
  state: "pending" | "failed";
  sent: Sending;
}

/** A stored message, and a change of it that is on its way. */
export interface ChangingMessage extends StoredMessage {
  change: Sending;
}

export type RoomMessage = (StoredMessage & { change?: Sending }) | PendingMessage;

export interface RoomMessages {
  /** Oldest first; what is not stored yet is at the end. */
  items: readonly RoomMessage[];
  /** Whether `loadOlder` would bring more. */
  hasOlder: boolean;
  /** Whether some are on their way. */
  loading: boolean;
}

export interface SendOptions {
  /** The id of the message that this one answers. */
  replyTo?: number | null;
  /** 1 to 64 characters. The same again is stored once. Without it, a random one. */
  clientId?: string;
}

export interface ConversationHandle {
  readonly id: number;
  /** `null` while the user is not in it, as far as is known. While it is watched, it has all members. */
  readonly info: Live<ConversationView | null>;
  /** While it is watched, the latest messages are loaded. */
  readonly messages: Live<RoomMessages>;
  /** It is in `messages` at once. */
  send(content: string, options?: SendOptions): Sending;
  edit(messageId: number, content: string): Sending;
  delete(messageId: number): Sending;
  react(messageId: number, emoji: string, on: boolean): Sending;
  /** The user has read up to this message, or all. */
  markRead(messageId?: number): void;
  /** The user is typing, or has stopped. Call it at each key: it is sent now and then. */
  typing(on?: boolean): void;
  /** Loads older messages, if there are any. */
  loadOlder(): Promise<void>;
  /** Loads older messages until this one is there. Resolves to whether it is. */
  loadUntil(messageId: number): Promise<boolean>;
}

export interface HandleOptions {
  id: number;
  scope: Scope;
  clock: Clock;
  rooms: Rooms;
  outbox: Outbox;
  uniqueId(): string;
  me(): string;
  request<T extends keyof Events>(type: T, fields: Events[T]["request"]): Promise<Events[T]["data"]>;
  isLive(): boolean;
  /** Reads the window from the storage, if it is not here. */
  need(room: Room): Promise<void>;
}

/** What the client needs of a handle. */
export interface OwnHandle extends ConversationHandle {
  readonly messages: Derived<RoomMessages>;
  readonly info: Derived<ConversationView | null>;
  /** Whether its messages have to stay in memory. */
  isWatched(): boolean;
  /** The client is live: what is watched is completed. */
  refresh(): void;
  /** The window was read from the storage. */
  windowRead(): void;
}

const PAGE = 100;
/** So many messages are there when a conversation is opened. */
const OPEN_MIN = 30;
/** Others forget after 6 s who types. */
const TYPING_AGAIN_MS = 4_000;

export function createHandle(options: HandleOptions): OwnHandle {
  const { id, scope, clock, rooms, outbox, me } = options;
  const room = rooms.get(id);
  let watchers = 0;
  let hasAsked = false;
  /** Older messages were asked for, so they stay. */
  let hasLoaded = false;
  let loading: Promise<void> | null = null;
  let typing: { cancel(): void; again: number } | null = null;

  const messages = scope.derived(makeMessages, watched);
  const info = scope.derived(() => (room.isKnown ? rooms.view(room) : null), watched);

  function watched(isWatched: boolean): void {
    watchers += isWatched ? 1 : -1;
    if (isWatched) {
      void options.need(room);
      complete();
    } else if (watchers === 0) hasAsked = hasLoaded = false;
  }

  /** Asks for what an open conversation shows: all members, and enough messages. */
  function complete(): void {
    if (watchers === 0 || !options.isLive() || !room.isKnown) return;
    if (!hasAsked) {
      hasAsked = true;
      const asked = options.request("get_conversation_info", { id });
      asked.then((found) => scope.run(() => rooms.takeInfo(found))).catch(() => (hasAsked = false));
    }
    if (room.window !== null && room.window.floor > 0 && room.window.items.length < OPEN_MIN) loadOlder().catch(() => {});
  }

  function makeMessages(): RoomMessages {
    if (room.isKnown && room.window === null) void options.need(room);
    const { window, landed } = room;
    const stored: readonly StoredMessage[] = window?.items ?? [];
    const own = outbox.of(id);
    const changes = own.filter(({ kept }) => kept.type !== "send_message" && kept.type !== "mark_read");
    const held = new Set(stored.slice(-PAGE).map((item) => item.key));
    const pending = own.filter(({ kept, sent }) => kept.type === "send_message" && !held.has(sent.key)).map(pendingOf);
    const items = changes.reduce(withChange, stored);
    const extra = [...landed.filter((message) => !held.has(message.key)), ...pending];
    return {
      items: extra.length === 0 ? items : [...items, ...extra],
      hasOlder: window !== null && window.floor > 0,
      loading: room.isKnown && (window === null || loading !== null),
    };
  }

  const pendings = new WeakMap<Item, PendingMessage>();

  /** The same object as long as it says the same. */
  function pendingOf(item: Item): PendingMessage {
    // What is stored or discarded is not in the outbox any more.
    const state = item.sent.state as PendingMessage["state"];
    const old = pendings.get(item);
    if (old?.state === state) return old;
    const { fields, at } = item.kept;
    const made: PendingMessage = {
      id: null,
      rev: null,
      conversation_id: id,
      sender_username: me(),
      content: fields["content"] as string,
      reply_id: fields["reply_id"] as number | null,
      sent_at: at,
      client_id: fields["client_id"] as string,
      key: item.sent.key,
      state,
      sent: item.sent,
    };
    pendings.set(item, made);
    return made;
  }

  /** Shows a change as if it were stored. */
  function withChange(items: readonly StoredMessage[], { kept: { type, fields }, sent }: Item): readonly StoredMessage[] {
    return items.map((item) => (item.id === fields["message_id"] ? { ...changed(item, type, fields), change: sent } : item));
  }

  function changed(item: StoredMessage, type: string, fields: Record<string, unknown>): StoredMessage {
    if (type === "edit_message") return { ...item, content: fields["content"] as string };
    if (type === "delete_message") {
      const { reactions: _reactions, mentions: _mentions, ...rest } = item;
      return { ...rest, content: "", deleted: true };
    }
    return withReaction(item, fields["emoji"] as string, me(), fields["on"] === true);
  }

  function change(type: string, fields: Record<string, unknown>): Sending {
    return scope.run(() => outbox.add(type, id, fields).sent);
  }

  function send(content: string, { replyTo, clientId }: SendOptions = {}): Sending {
    const fields = { conversation_id: id, content, reply_id: replyTo ?? null, client_id: clientId ?? options.uniqueId() };
    typing?.cancel();
    typing = null;
    return change("send_message", fields);
  }

  function markRead(messageId = room.window?.items.at(-1)?.id ?? room.last?.id): void {
    if (messageId === undefined || messageId <= room.readId) return;
    scope.run(() => {
      rooms.takeRead(room, me(), messageId);
      // It stands for those before it, perhaps of another tab.
      for (const { kept, sent } of outbox.of(id)) {
        if (kept.type === "mark_read" && (kept.fields["message_id"] as number) < messageId) sent.discard();
      }
      outbox.add("mark_read", id, { conversation_id: id, message_id: messageId });
    });
  }

  function sendTyping(on: boolean): void {
    if (options.isLive()) options.request("typing", { conversation_id: id, on }).catch(() => {});
  }

  function setTyping(on = true): void {
    const again = typing?.again ?? 0;
    typing?.cancel();
    if (!on) {
      if (typing !== null) sendTyping(false);
      typing = null;
      return;
    }
    const now = clock.now();
    if (now >= again) sendTyping(true);
    // Nobody types for ever.
    typing = { again: now >= again ? now + TYPING_AGAIN_MS : again, cancel: clock.after(TYPING_AGAIN_MS, () => setTyping(false)) };
  }

  function loadOlder(): Promise<void> {
    if (loading !== null) return loading;
    hasLoaded = true;
    loading = loadPage().finally(() =>
      scope.run(() => {
        loading = null;
        room.below = null;
        messages.stale();
      }),
    );
    messages.stale();
    return loading;
  }

  async function loadPage(): Promise<void> {
    await options.need(room);
    const { window } = room;
    if (window === null || window.floor === 0) return;
    // What changes there meanwhile may be newer than the answer.
    room.below = [];
    const page: History = await options.request("get_messages", { conversation_id: id, before: window.floor, limit: PAGE });
    scope.run(() => {
      // It was left, or forgotten, meanwhile.
      if (room.window === null || room.window.floor !== window.floor) return;
      rooms.takePage(room, page.messages, page.has_more ? (page.messages.at(-1)?.id ?? 0) : 0);
    });
  }

  async function loadUntil(messageId: number): Promise<boolean> {
    await options.need(room);
    for (;;) {
      const { window } = room;
      if (window !== null && window.floor <= messageId) return find(window, messageId) !== undefined;
      const before = window?.floor;
      await loadOlder();
      if (room.window === null || room.window.floor === before) return false;
    }
  }

  return {
    id,
    info,
    messages,
    send,
    edit: (messageId, content) => change("edit_message", { message_id: messageId, content }),
    delete: (messageId) => change("delete_message", { message_id: messageId }),
    react: (messageId, emoji, on) => change("react", { message_id: messageId, emoji, on }),
    markRead,
    typing: setTyping,
    loadOlder,
    loadUntil,
    isWatched: () => watchers > 0 || hasLoaded,
    refresh() {
      hasAsked = false;
      complete();
    },
    windowRead: complete,
  };
}
