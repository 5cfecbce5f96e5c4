// The conversations that a client knows, and the rules by which it takes in what the server says: the
// loop of PROTOCOL.md, "Writing a client that never loses a message".

import type { Frame } from "./calls.ts";
import type { Clock } from "./environment.ts";
import type { Derived, Scope } from "./live.ts";
import type { ChangedConversation, Conversation, ConversationInfo, ListedConversation, Message, Profile } from "./protocol.ts";
import {
  type ConversationView,
  type Room,
  changeMembers,
  count,
  emptyRoom,
  makeView,
  merge,
  newestFirst,
  otherOf,
  recount,
} from "./room_state.ts";
import { type Window, extend, find, storedMessage, takeIn, withoutUser } from "./window.ts";

/** Somebody who types says so again within this time. */
const TYPING_MS = 6_000;
/** The most conversations whose revs `sync` takes. */
const REVS_MAX = 20_000;
/** A conversation that was never seen gets so many messages at most. */
const FIRST_MESSAGES = 100;

export interface RoomsOptions {
  scope: Scope;
  clock: Clock;
  /** The user's own name; empty until it is known. */
  me(): string;
  profile(username: string): Profile | undefined;
  /** What is to be stored is another. */
  touched(room: Room): void;
  forgotten(room: Room): void;
  messagesChanged(room: Room): void;
  infoChanged(room: Room): void;
  /** A message that this client has not seen before. */
  arrived(message: Message): void;
  /** An own message is stored. */
  landed(message: Message): void;
  /** Whether an own read mark is on its way. */
  isReading(room: Room): boolean;
  /** Reads the window of a room, if it is in the storage only. */
  need(room: Room): Promise<void>;
}

export type Taken = "taken" | "known" | "gap";

export interface Rooms {
  /** Most recent first. */
  list: Derived<readonly ConversationView[]>;
  get(id: number): Room;
  known(): readonly Room[];
  revs(): Record<string, number>;
  view(room: Room): ConversationView;
  /** A push or a reply with a rev. */
  takeChange(frame: Frame): Taken;
  /** A conversation of an answer to `sync`; with `isWhole` none of its messages was cut off. */
  takeSynced(synced: ChangedConversation, isWhole: boolean, isFirst: boolean): void;
  takeListed(listed: ListedConversation): void;
  /** Returns false if the counts are of another moment than what is known. */
  takeCounts(listed: ListedConversation): boolean;
  takeInfo(info: ConversationInfo): void;
  takePage(room: Room, messages: readonly Message[], floor: number): void;
  takeRead(room: Room, username: string, messageId: number): void;
  takeTyping(room: Room, username: string, on: boolean): void;
  /** Puts back what was stored. */
  restore(rooms: readonly Room[]): void;
  setWindow(room: Room, window: Window): void;
  /** Somebody's profile is another. */
  profileChanged(username: string): void;
  /** Somebody's account is deleted, as was heard in that conversation or in none. */
  takeDeleted(username: string, id: number | undefined): void;
  forget(room: Room): void;
  forgetAll(): void;
  /** An own message is stored, and its place may not be known yet. */
  land(message: Message): void;
  stopAllTyping(): void;
  /** A round of syncing begins, was cut off, or has brought everything. */
  setRound(now: "begins" | "broken" | "done"): void;
}

/** How a room was when a round of syncing began. */
interface Before {
  isKnown: boolean;
  /** Its latest message. */
  top: number;
  /** The latest one that was told of. */
  told: number;
}

export function createRooms(options: RoomsOptions): Rooms {
  const { scope, clock, touched } = options;
  const rooms = new Map<number, Room>();
  /** Known ones; most recent first after each look at the list. */
  let order: Room[] = [];
  /** In a round of syncing, which messages were told in it. */
  let round: { before: Map<Room, Before>; told: Set<number> } | null = null;
  /** The time of the latest message when everything was known the last time. */
  let seenAt = 0;
  const list = scope.derived<readonly ConversationView[]>(() => order.sort(newestFirst).map(view));

  function get(id: number): Room {
    let room = rooms.get(id);
    if (room === undefined) rooms.set(id, (room = emptyRoom(id)));
    return room;
  }

  function view(room: Room): ConversationView {
    return (room.view ??= makeView(room, options.me(), options.profile));
  }

  function changed(room: Room): void {
    room.view = null;
    list.stale();
    options.infoChanged(room);
  }

  /** Something lasting is known of it. */
  function update(room: Room): void {
    if (!room.isKnown) order.push(room);
    room.isKnown = true;
    touched(room);
    changed(room);
  }

  function takeMessages(room: Room, messages: readonly Message[]): void {
    const me = options.me();
    for (const message of messages) {
      room.messageRev = Math.max(room.messageRev, message.rev);
      const { last } = room;
      if (last === null || message.id > last.id || (message.id === last.id && message.rev >= last.rev)) {
        room.last = message;
        room.at = message.sent_at;
      }
      if (message.client_id !== undefined && message.sender_username === me) options.landed(message);
      room.landed = room.landed.filter((landed) => landed.id !== message.id);
    }
    const { window } = room;
    if (window === null) {
      room.tail.push(...messages);
      if (messages.length > 0) void options.need(room);
      return;
    }
    room.below?.push(...messages.filter((message) => message.id < window.floor));
    room.window = takeIn(window, messages.map((message) => storedMessage(message, me)));
    options.messagesChanged(room);
  }

  function takeChange(frame: Frame): Taken {
    const { type } = frame;
    const data = frame.data as Partial<Message & Conversation & { username: string; added: string[] }>;
    const id = data.conversation_id ?? data.id;
    const rev = data.rev;
    if (id === undefined || rev === undefined) return "gap";
    const room = get(id);
    if (rev <= room.rev) return "known";
    if (rev > room.rev + 1) return "gap";
    switch (type) {
      case "send_message":
      case "edit_message":
      case "delete_message":
      case "react":
        takeMessage(room, type, data as Message);
        break;
      case "create_conversation":
      case "rename_conversation":
      case "set_role":
      case "add_members":
        if (type === "create_conversation") room.window = { floor: 0, items: [] };
        changeMembers(room, data.added ?? []);
        merge(room, data);
        break;
      case "remove_member":
      case "leave_conversation":
        if (data.username === options.me()) {
          forget(room);
          return "taken";
        }
        changeMembers(room, [], data.username);
        merge(room, { roles: data.roles });
        stopTyping(room, data.username ?? "");
        break;
      default:
        // A lasting change that this client does not know.
        return "gap";
    }
    room.rev = rev;
    update(room);
    return "taken";
  }

  function takeMessage(room: Room, type: string, data: Message): void {
    const { duplicate: _, ...message } = data as Message & { duplicate?: true };
    beforeRound(room);
    const isNew = message.id > (room.last?.id ?? 0);
    takeMessages(room, [message]);
    stopTyping(room, message.sender_username);
    if (type === "send_message" && isNew) {
      count(room, message, 1, options.me());
      announce(room, message);
    } else if (type === "delete_message" && message.id > room.readId) count(room, message, -1, options.me());
    recount(room, options.me());
  }

  function beforeRound(room: Room): Before {
    const now = { isKnown: room.isKnown, top: room.last?.id ?? 0, told: room.toldId };
    const before = round?.before.get(room) ?? now;
    round?.before.set(room, before);
    return before;
  }

  /** Each message is told once, whether it comes by a push or by a sync. */
  function announce(room: Room, message: Message): void {
    round?.told.add(message.id);
    room.toldId = Math.max(room.toldId, message.id);
    options.arrived(message);
  }

  /** It goes back only for somebody who left and was added again. */
  function readUpTo(room: Room, readId: number): void {
    room.readId = options.isReading(room) ? Math.max(room.readId, readId) : readId;
  }

  function takeSynced(synced: ChangedConversation, isWhole: boolean, isFirst: boolean): void {
    const room = get(synced.id);
    const { messages } = synced;
    const before = beforeRound(room);
    if (!room.isKnown) {
      const isAll = messages.length === 0 || (isWhole && messages.length < FIRST_MESSAGES);
      room.window = { floor: isAll ? 0 : Math.min(...messages.map((message) => message.id)), items: [] };
    }
    takeMessages(room, messages);
    // If pushes were faster, what they said is newer.
    if (synced.rev >= room.rev) {
      room.rev = synced.rev;
      merge(room, synced);
      readUpTo(room, synced.read_id);
      room.unread = synced.unread;
    }
    recount(room, options.me());
    update(room);
    if (isFirst) return;
    for (const message of messages.sort((a, b) => a.id - b.id)) {
      const { id, sent_at } = message;
      if (id <= before.top || message.deleted || round?.told.has(id)) continue;
      // Of a conversation that is new to this client, what was said since it was last here.
      if (before.isKnown || (sent_at >= seenAt && id > before.told)) announce(room, message);
    }
  }

  function takeListed(listed: ListedConversation): void {
    const room = get(listed.id);
    if (room.rev >= listed.rev) return;
    const last = listed.last_message;
    room.rev = room.messageRev = listed.rev;
    room.last = last;
    // The list is sorted: without messages it stays below the one before.
    room.at = last?.sent_at ?? order.at(-1)?.at ?? clock.now() / 1000;
    merge(room, listed);
    room.window = { floor: last?.id ?? 0, items: last === null ? [] : [storedMessage(last, options.me())] };
    update(room);
    takeCounts(listed);
  }

  function takeCounts({ id, rev, read_id, unread, mentions, profile, member_count }: ListedConversation): boolean {
    const room = get(id);
    if (!room.isKnown) return true;
    if (room.rev !== rev) return false;
    merge(room, profile === undefined ? { member_count } : { member_count, profile });
    readUpTo(room, read_id);
    // An own mark that is on its way is further.
    if (read_id === room.readId) [room.unread, room.mentions] = [unread, mentions];
    update(room);
    return true;
  }

  function takeRead(room: Room, username: string, messageId: number): void {
    if (!room.isKnown) return;
    const { read } = room.fields;
    if (read !== undefined && messageId > (read[username] ?? 0)) merge(room, { read: { ...read, [username]: messageId } });
    if (username === options.me() && messageId > room.readId) {
      room.readId = messageId;
      if (messageId >= (room.last?.id ?? 0)) room.unread = room.mentions = 0;
      recount(room, username);
    }
    update(room);
  }

  function takeTyping(room: Room, username: string, on: boolean): void {
    if (!room.isKnown || username === options.me()) return;
    if (!on) return stopTyping(room, username);
    room.typing.get(username)?.();
    room.typing.set(username, clock.after(TYPING_MS, () => scope.run(() => stopTyping(room, username))));
    changed(room);
  }

  function stopTyping(room: Room, username: string): void {
    room.typing.get(username)?.();
    if (room.typing.delete(username)) changed(room);
  }

  function forget(room: Room): void {
    const { isKnown, toldId, typing } = room;
    for (const cancel of typing.values()) cancel();
    Object.assign(room, emptyRoom(room.id), { toldId });
    if (!isKnown) return;
    order = order.filter((other) => other !== room);
    options.forgotten(room);
    changed(room);
    options.messagesChanged(room);
  }

  function saw(): void {
    seenAt = order.reduce((at, room) => Math.max(at, room.at), seenAt);
  }

  return {
    list,
    get,
    known: () => order,
    revs: () => Object.fromEntries(order.sort(newestFirst).slice(0, REVS_MAX).map((room) => [room.id, room.rev])),
    view,
    takeChange,
    takeSynced,
    takeListed,
    takeCounts,
    takeInfo(info) {
      const room = get(info.id);
      if (!room.isKnown || info.rev < room.rev) return;
      merge(room, info);
      update(room);
    },
    takePage(room, messages, floor) {
      if (room.window === null) return;
      const older = [...messages, ...(room.below ?? [])].map((message) => storedMessage(message, options.me()));
      room.window = extend(room.window, older, floor);
      recount(room, options.me());
      update(room);
      options.messagesChanged(room);
    },
    takeRead,
    takeTyping,
    restore(stored) {
      order.push(...stored);
      for (const room of stored) {
        room.isKnown = true;
        options.infoChanged(room);
        options.messagesChanged(room);
      }
      saw();
      list.stale();
    },
    setWindow(room, window) {
      room.window = window;
      takeMessages(room, room.tail.splice(0));
    },
    profileChanged(username) {
      for (const room of order) if (otherOf(room, options.me()) === username) changed(room);
    },
    takeDeleted(username, id) {
      for (const room of order) {
        // Of those in the storage only, where the user was.
        if (room.window === null && room.id !== id && room.fields.members?.includes(username) !== true) continue;
        void options.need(room).then(() => {
          const { window, last } = room;
          if (window === null || !room.isKnown) return;
          room.last = last && withoutUser(last, username);
          room.window = { floor: window.floor, items: window.items.map((item) => withoutUser(item, username)) };
          scope.run(() => update(room));
          options.messagesChanged(room);
        });
      }
    },
    forget,
    forgetAll() {
      order.forEach(forget);
      for (const room of rooms.values()) room.toldId = 0;
      seenAt = 0;
    },
    land(message) {
      const room = get(message.conversation_id);
      if (!room.isKnown || room.window === null || find(room.window, message.id) !== undefined) return;
      room.landed = [...room.landed, storedMessage(message, options.me())];
      options.messagesChanged(room);
    },
    stopAllTyping() {
      for (const room of order) for (const username of [...room.typing.keys()]) stopTyping(room, username);
    },
    setRound(now) {
      round = now === "begins" ? { before: new Map(), told: new Set() } : null;
      if (now === "done") saw();
    },
  };
}
