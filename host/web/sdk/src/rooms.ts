// The conversations that a client knows, and the rules by which it takes in what the server says: the
// loop of PROTOCOL.md, "Writing a client that never loses a message".

import type { Frame } from "./calls.ts";
import type { Clock } from "./environment.ts";
import type { Derived, Scope } from "./live.ts";
import type {
  ChangedConversation,
  Conversation,
  ConversationInfo,
  ListedConversation,
  Message,
  Profile,
} from "./protocol.ts";
import { type StoredMessage, type Window, extend, find, storedMessage, takeIn } from "./window.ts";

/** A conversation, as lists show it. Fields that this library does not know are there too. */
export interface ConversationView {
  id: number;
  name: string;
  /** What to show as its name: of a direct conversation, the other one's. */
  title: string;
  direct: boolean;
  rev: number;
  created_at?: number | null;
  member_count: number;
  /** In the order of joining, once `room.info` was watched; before, only of small ones. */
  members?: readonly string[];
  roles?: Readonly<Record<string, "owner" | "admin">>;
  /** Up to which message each has read. */
  read?: Readonly<Record<string, number>>;
  /** The other one of a direct conversation. */
  profile?: Profile;
  read_id: number;
  /** 100 stands for 100 or more. */
  unread: number;
  mentions: number;
  last_message: Message | null;
  /** Others who are typing. */
  typing: readonly string[];
}

/** What is known of one conversation. */
export interface Room {
  readonly id: number;
  /** Whether the caller is in it, as far as is known. */
  isKnown: boolean;
  /** Whether it has its place in the order. */
  isListed: boolean;
  /** Everything up to this rev is known. */
  rev: number;
  /** The rev of the latest change of a message. */
  messageRev: number;
  /** The latest message that was told of. It outlives that the user is not in it for a while. */
  toldId: number;
  /** What the server says of it, besides what has a place here. */
  fields: Partial<Conversation> & Partial<Pick<ListedConversation, "member_count" | "profile">> & Pick<ConversationInfo, "read">;
  readId: number;
  unread: number;
  mentions: number;
  last: Message | null;
  /** `null`: it is in the storage only. */
  window: Window | null;
  /** What was taken in while the window was in the storage only. */
  tail: Message[];
  /** Pushes that came before the ones that precede them, by rev. */
  early: Map<number, Frame>;
  /** Older messages that changed while a page of older messages was on its way. */
  below: Message[] | null;
  /** Own messages that are stored, but whose place is not known yet. */
  landed: StoredMessage[];
  typing: Map<string, () => void>;
  /** What is above it in lists is newer: seconds, then id. */
  activity: readonly [number, number];
  view: ConversationView | null;
}

/** The server counts no further. */
const UNREAD_MAX = 100;
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
  /** What `room.messages` shows is another. */
  messagesChanged(room: Room): void;
  infoChanged(room: Room): void;
  /** A message that this client has not seen before. */
  arrived(message: Message): void;
  /** An own message is stored. */
  landed(message: Message): void;
  /** The window of a room is to be read from the storage. */
  missing(room: Room): void;
}

export type Taken = "taken" | "known" | "gap";

export interface Rooms {
  list: Derived<readonly ConversationView[]>;
  get(id: number): Room;
  known(): Room[];
  withUser(username: string): Room | undefined;
  revs(): Record<string, number>;
  view(room: Room): ConversationView;
  /** A push or a reply with a rev. */
  takeChange(frame: Frame): Taken;
  /** A conversation of an answer to `sync`; with `isWhole` none of its messages was cut off. */
  takeSynced(synced: ChangedConversation, isWhole: boolean, isFirst: boolean): void;
  takeListed(listed: ListedConversation): void;
  takeCounts(listed: ListedConversation): boolean;
  takeInfo(info: ConversationInfo): void;
  takeMessages(room: Room, messages: readonly Message[]): void;
  takePage(room: Room, messages: readonly Message[], floor: number): void;
  takeRead(room: Room, username: string, messageId: number): void;
  takeTyping(room: Room, username: string, on: boolean): void;
  /** Puts back what was stored. */
  restore(rooms: Room[]): void;
  setWindow(room: Room, window: Window): void;
  changed(room: Room): void;
  forget(room: Room): void;
  forgetAll(): void;
  /** An own message is stored, and its place may not be known yet. */
  land(message: Message): void;
  stopAllTyping(): void;
  /** Its place in the list, from 0. */
  rank(room: Room): number;
  /** A round of syncing begins, was cut off, or has brought everything. */
  setRound(now: "begins" | "broken" | "done"): void;
}

const LISTED_ELSEWHERE = ["id", "rev", "messages", "read_id", "unread", "mentions", "last_message", "added", "profiles"];

export function createRooms(options: RoomsOptions): Rooms {
  const { scope, clock, me, touched } = options;
  const rooms = new Map<number, Room>();
  /** Known ones, most recent first. */
  let order: Room[] = [];
  /** Direct conversations by the other member. */
  const direct = new Map<string, Room>();
  /** In a round of syncing: the latest message of each room at its beginning, and what came since. */
  let round: { tops: Map<Room, number>; seen: Set<number> } | null = null;
  /** The time of the latest message when everything was known the last time. */
  let seenAt = 0;
  const list = scope.derived<readonly ConversationView[]>(() => order.map(view));

  function get(id: number): Room {
    let room = rooms.get(id);
    if (room === undefined) rooms.set(id, (room = emptyRoom(id)));
    return room;
  }

  function view(room: Room): ConversationView {
    return (room.view ??= makeView(room));
  }

  function makeView(room: Room): ConversationView {
    const { fields } = room;
    const other = fields.profile === undefined ? otherOf(room) : fields.profile.username;
    const profile = other === undefined ? undefined : (options.profile(other) ?? fields.profile);
    const name = fields.name ?? "";
    const made: ConversationView = {
      ...fields,
      id: room.id,
      name,
      title: profile?.fullname ?? other ?? name,
      direct: fields.direct ?? false,
      rev: room.rev,
      member_count: fields.member_count ?? fields.members?.length ?? 0,
      read_id: room.readId,
      unread: room.unread,
      mentions: room.mentions,
      last_message: room.last,
      typing: [...room.typing.keys()],
    };
    if (profile !== undefined) made.profile = profile;
    return made;
  }

  function otherOf(room: Room): string | undefined {
    return room.fields.direct === true ? room.fields.members?.find((name) => name !== me()) : undefined;
  }

  function changed(room: Room): void {
    room.view = null;
    place(room);
    list.stale();
    options.infoChanged(room);
  }

  /** Puts a room where it belongs in the order. */
  function place(room: Room): void {
    const old = room.isListed ? order.indexOf(room) : -1;
    room.isListed = room.isKnown;
    if (!room.isKnown) {
      if (old >= 0) order.splice(old, 1);
      return;
    }
    if (room.last !== null) room.activity = [room.last.sent_at, room.last.id];
    if (old >= 0) {
      const [above, below] = [order[old - 1], order[old + 1]];
      if ((above === undefined || isNewer(above, room)) && (below === undefined || isNewer(room, below))) return;
      order.splice(old, 1);
    }
    let [low, high] = [0, order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isNewer(order[middle] as Room, room)) low = middle + 1;
      else high = middle;
    }
    order.splice(low, 0, room);
  }

  function know(room: Room): void {
    room.isKnown = true;
    const other = room.fields.profile?.username ?? otherOf(room);
    if (other !== undefined) direct.set(other, room);
  }

  /** What the server says of a conversation replaces what was there; what it leaves out stays. */
  function merge(room: Room, said: object): void {
    const fields: Record<string, unknown> = { ...room.fields, ...said };
    for (const key of LISTED_ELSEWHERE) delete fields[key];
    room.fields = fields as Room["fields"];
    if (room.fields.members !== undefined && "members" in said && !("member_count" in said)) {
      room.fields.member_count = room.fields.members.length;
    }
    if (room.last === null && typeof room.fields.created_at === "number") {
      room.activity = [room.fields.created_at, room.activity[1]];
    }
  }

  function takeMessages(room: Room, messages: readonly Message[]): void {
    if (messages.length === 0) return;
    for (const message of messages) {
      room.messageRev = Math.max(room.messageRev, message.rev);
      const isLast = room.last === null || message.id > room.last.id;
      if (isLast || (message.id === room.last?.id && message.rev >= room.last.rev)) room.last = message;
      if (message.client_id !== undefined && message.sender_username === me()) options.landed(message);
    }
    if (room.window === null) {
      room.tail.push(...messages);
      options.missing(room);
      return;
    }
    const own = messages.map((message) => storedMessage(message, me()));
    if (room.below !== null) room.below.push(...messages.filter((message) => message.id < (room.window as Window).floor));
    room.window = takeIn(room.window, own);
    if (room.landed.length > 0) {
      const ids = new Set(messages.map((message) => message.id));
      room.landed = room.landed.filter((message) => !ids.has(message.id));
    }
    options.messagesChanged(room);
  }

  function takeChange(frame: Frame): Taken {
    const data = frame.data as Partial<Message & Conversation & { username: string; added: string[] }>;
    const id = data.conversation_id ?? data.id;
    const rev = data.rev;
    if (typeof id !== "number" || typeof rev !== "number") return "gap";
    const room = get(id);
    if (rev <= room.rev) return "known";
    if (rev > room.rev + 1) return "gap";
    const isDeparture = frame.type === "remove_member" || frame.type === "leave_conversation";
    if (isDeparture && data.username === me()) {
      forget(room);
      return "taken";
    }
    switch (frame.type) {
      case "send_message":
      case "edit_message":
      case "delete_message":
      case "react":
        takeMessage(room, frame.type, data as Message);
        break;
      case "create_conversation":
        if (rev === 1) room.window = { floor: 0, items: [] };
        merge(room, data);
        break;
      case "add_members":
        if (data.members === undefined) addMembers(room, data.added ?? []);
        merge(room, data);
        break;
      case "rename_conversation":
      case "set_role":
        merge(room, data);
        break;
      case "remove_member":
      case "leave_conversation":
        removeMember(room, data.username ?? "");
        if (data.roles !== undefined) merge(room, { roles: data.roles });
        break;
      default:
        // A lasting change that this client does not know.
        return "gap";
    }
    room.rev = rev;
    know(room);
    touched(room);
    changed(room);
    return "taken";
  }

  function takeMessage(room: Room, type: string, data: Message): void {
    const { duplicate: _, ...message } = data as Message & { duplicate?: true };
    const top = room.last?.id ?? 0;
    const old = room.window === null ? undefined : room.window.items.at(-1);
    takeMessages(room, [message]);
    stopTyping(room, message.sender_username);
    if (type === "send_message" && message.id > top) {
      count(room, message, 1);
      announce(room, message, top);
    } else if (type === "delete_message" && message.id > room.readId && (old === undefined || room.unread < UNREAD_MAX)) {
      count(room, message, -1);
    }
    recount(room);
  }

  /** Each message is told once, whether it comes by a push or by a sync. */
  function announce(room: Room, message: Message, top: number): void {
    if (round !== null) {
      if (!round.tops.has(room)) round.tops.set(room, top);
      round.seen.add(message.id);
    }
    room.toldId = Math.max(room.toldId, message.id);
    options.arrived(message);
  }

  function count(room: Room, message: Message, by: 1 | -1): void {
    if (message.sender_username === me()) return;
    const bound = (number: number) => Math.max(0, Math.min(UNREAD_MAX, number));
    room.unread = bound(room.unread + by);
    if (message.mentions?.includes(me())) room.mentions = bound(room.mentions + by);
  }

  /** Counts what is unread, if all of it is here. */
  function recount(room: Room): void {
    const { window, readId } = room;
    if (window === null || (window.floor > readId && window.floor > 0)) return;
    let [unread, mentions] = [0, 0];
    for (let index = window.items.length - 1; index >= 0; index -= 1) {
      const message = window.items[index] as StoredMessage;
      if (message.id <= readId || unread === UNREAD_MAX) break;
      if (message.deleted === true || message.sender_username === me()) continue;
      unread += 1;
      if (message.mentions?.includes(me())) mentions += 1;
    }
    room.unread = unread;
    room.mentions = mentions;
  }

  function addMembers(room: Room, added: readonly string[]): void {
    const { members, member_count } = room.fields;
    if (members !== undefined) room.fields = { ...room.fields, members: [...new Set([...members, ...added])] };
    if (member_count !== undefined) room.fields.member_count = member_count + added.length;
  }

  function removeMember(room: Room, username: string): void {
    const { members, member_count } = room.fields;
    const fields = { ...room.fields };
    if (members !== undefined) fields.members = members.filter((name) => name !== username);
    if (member_count !== undefined) fields.member_count = member_count - 1;
    room.fields = fields;
    stopTyping(room, username);
  }

  function takeSynced(synced: ChangedConversation, isWhole: boolean, isFirst: boolean): void {
    const room = get(synced.id);
    const { messages } = synced;
    const wasKnown = room.isKnown;
    const top = round?.tops.get(room) ?? room.last?.id ?? 0;
    const told = room.toldId;
    round?.tops.set(room, top);
    if (!wasKnown) {
      const isAll = isWhole && messages.length < FIRST_MESSAGES;
      const floor = isAll ? 0 : Math.min(...messages.map((message) => message.id));
      room.window = { floor: Number.isFinite(floor) ? floor : 0, items: [] };
    }
    takeMessages(room, messages);
    // If pushes were faster, what they said is newer.
    if (synced.rev >= room.rev) {
      room.rev = synced.rev;
      merge(room, synced);
      room.readId = Math.max(room.readId, synced.read_id);
      room.unread = synced.unread;
    }
    recount(room);
    know(room);
    touched(room);
    changed(room);
    if (isFirst) return;
    const news = messages.filter((message) => message.id > top && !message.deleted && !round?.seen.has(message.id));
    // Of a conversation that is new to this client, what was said since it was last here.
    const due = wasKnown ? news : news.filter((message) => message.sent_at >= seenAt && message.id > told);
    for (const message of due.sort((a, b) => a.id - b.id)) announce(room, message, top);
  }

  function takeListed(listed: ListedConversation): void {
    const room = get(listed.id);
    if (room.isKnown && room.rev >= listed.rev) return;
    const last = listed.last_message;
    room.rev = listed.rev;
    merge(room, listed);
    room.window = { floor: last?.id ?? 0, items: last === null ? [] : [storedMessage(last, me())] };
    room.last = last;
    room.messageRev = listed.rev;
    // The list is sorted: without messages it stays below the one before.
    if (last === null) room.activity = [order.at(-1)?.activity[0] ?? clock.now() / 1000, 0];
    room.readId = listed.read_id;
    room.unread = listed.unread;
    room.mentions = listed.mentions;
    know(room);
    touched(room);
    changed(room);
  }

  /** Returns false if the counts are of another moment than what is known. */
  function takeCounts(listed: ListedConversation): boolean {
    const room = rooms.get(listed.id);
    if (room === undefined || !room.isKnown) return true;
    if (room.rev !== listed.rev) return false;
    if (listed.profile !== undefined) room.fields = { ...room.fields, profile: listed.profile };
    room.fields.member_count = listed.member_count;
    room.readId = Math.max(room.readId, listed.read_id);
    // An own mark that is still on its way is further.
    if (listed.read_id === room.readId) {
      room.unread = listed.unread;
      room.mentions = listed.mentions;
    }
    touched(room);
    changed(room);
    return true;
  }

  function takeInfo(info: ConversationInfo): void {
    const room = get(info.id);
    if (!room.isKnown || info.rev < room.rev) return;
    merge(room, info);
    touched(room);
    changed(room);
  }

  function takePage(room: Room, messages: readonly Message[], floor: number): void {
    if (room.window === null) return;
    const older = [...messages, ...(room.below ?? [])].map((message) => storedMessage(message, me()));
    room.window = extend(room.window, older, floor);
    recount(room);
    touched(room);
    changed(room);
    options.messagesChanged(room);
  }

  function takeRead(room: Room, username: string, messageId: number): void {
    if (!room.isKnown) return;
    const { read } = room.fields;
    if (read !== undefined && messageId > (read[username] ?? 0)) {
      room.fields = { ...room.fields, read: { ...read, [username]: messageId } };
    }
    if (username === me() && messageId > room.readId) {
      room.readId = messageId;
      if (room.last === null || messageId >= room.last.id) room.unread = room.mentions = 0;
      else recount(room);
      touched(room);
    }
    changed(room);
  }

  function takeTyping(room: Room, username: string, on: boolean): void {
    if (!room.isKnown || username === me()) return;
    const cancel = room.typing.get(username);
    cancel?.();
    if (on) room.typing.set(username, clock.after(TYPING_MS, () => scope.run(() => stopTyping(room, username))));
    else room.typing.delete(username);
    if (on !== (cancel !== undefined)) changed(room);
  }

  function stopTyping(room: Room, username: string): void {
    const cancel = room.typing.get(username);
    if (cancel === undefined) return;
    cancel();
    room.typing.delete(username);
    changed(room);
  }

  function saw(): void {
    seenAt = Math.max(seenAt, order[0]?.activity[0] ?? 0);
  }

  function forget(room: Room): void {
    const other = room.fields.profile?.username ?? otherOf(room);
    if (other !== undefined) direct.delete(other);
    for (const cancel of room.typing.values()) cancel();
    const { isKnown: wasKnown, isListed, toldId } = room;
    Object.assign(room, emptyRoom(room.id), { isListed, toldId });
    if (!wasKnown) return;
    options.forgotten(room);
    changed(room);
    options.messagesChanged(room);
  }

  return {
    list,
    get,
    known: () => [...order],
    withUser: (username) => direct.get(username),
    revs() {
      const newest = order.length > REVS_MAX ? order.slice(0, REVS_MAX) : order;
      return Object.fromEntries(newest.map((room) => [room.id, room.rev]));
    },
    view,
    takeChange,
    takeSynced,
    takeListed,
    takeCounts,
    takeInfo,
    takeMessages,
    takePage,
    takeRead,
    takeTyping,
    restore(stored) {
      for (const room of stored) {
        know(room);
        room.isListed = true;
        options.infoChanged(room);
      }
      order = [...order, ...stored].sort((a, b) => (isNewer(a, b) ? -1 : 1));
      saw();
      list.stale();
    },
    setWindow(room, window) {
      room.window = window;
      const tail = room.tail;
      room.tail = [];
      takeMessages(room, tail);
      options.messagesChanged(room);
    },
    changed,
    forget,
    forgetAll() {
      for (const room of [...order]) forget(room);
      for (const room of rooms.values()) room.toldId = 0;
      seenAt = 0;
    },
    land(message) {
      const room = get(message.conversation_id);
      if (!room.isKnown || room.window === null || find(room.window, message.id) !== undefined) return;
      room.landed = [...room.landed, storedMessage(message, me())];
      options.messagesChanged(room);
    },
    stopAllTyping() {
      for (const room of order) for (const username of [...room.typing.keys()]) stopTyping(room, username);
    },
    rank: (room) => order.indexOf(room),
    setRound(now) {
      round = now === "begins" ? { tops: new Map(), seen: new Set() } : null;
      if (now === "done") saw();
    },
  };
}

function isNewer(a: Room, b: Room): boolean {
  const [[aTime, aMessage], [bTime, bMessage]] = [a.activity, b.activity];
  if (aTime !== bTime) return aTime > bTime;
  return aMessage === bMessage ? a.id > b.id : aMessage > bMessage;
}

function emptyRoom(id: number): Room {
  return {
    id,
    isKnown: false,
    isListed: false,
    rev: 0,
    messageRev: 0,
    toldId: 0,
    fields: {},
    readId: 0,
    unread: 0,
    mentions: 0,
    last: null,
    window: null,
    tail: [],
    early: new Map(),
    below: null,
    landed: [],
    typing: new Map(),
    activity: [0, 0],
    view: null,
  };
}
