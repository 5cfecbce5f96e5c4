// What a client knows of one conversation, and how lists show it.

import type { Conversation, ConversationInfo, ListedConversation, Message, Profile } from "./protocol.ts";
import type { StoredMessage, Window } from "./window.ts";

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
  /** In the order of joining, once `info` of its handle was watched; before, only of small ones. */
  members?: readonly string[];
  roles?: Readonly<Record<string, "owner" | "admin">>;
  /** Up to which message each has read. */
  read?: Readonly<Record<string, number>>;
  /** The other one of a direct conversation. */
  profile: Profile | undefined;
  read_id: number;
  /** 100 stands for 100 or more. */
  unread: number;
  mentions: number;
  last_message: Message | null;
  /** Others who are typing. */
  typing: readonly string[];
}

export interface Room {
  readonly id: number;
  /** Whether the caller is in it, as far as is known. */
  isKnown: boolean;
  /** Everything up to this rev is known. */
  rev: number;
  /** The rev of the latest change of a message. */
  messageRev: number;
  /** What the server says of it, besides what has a place here. A new object at each change. */
  fields: Partial<Conversation & Pick<ListedConversation, "member_count" | "profile"> & Pick<ConversationInfo, "read">>;
  readId: number;
  unread: number;
  mentions: number;
  last: Message | null;
  /** When something was said last, in Unix seconds. */
  at: number;
  /** The latest message that was told of. It outlives that the user is not in it for a while. */
  toldId: number;
  /** `null`: it is in the storage only. */
  window: Window | null;
  /** What was taken in while the window was in the storage only. */
  tail: Message[];
  /** Older messages that changed while a page of older messages was on its way. */
  below: Message[] | null;
  /** Own messages that are stored, but whose place is not known yet. */
  landed: StoredMessage[];
  /** Who is typing, and what stops the timer that ends it. */
  typing: Map<string, () => void>;
  view: ConversationView | null;
}

/** The server counts no further. */
export const UNREAD_MAX = 100;

export function emptyRoom(id: number): Room {
  return {
    id,
    isKnown: false,
    rev: 0,
    messageRev: 0,
    fields: {},
    readId: 0,
    unread: 0,
    mentions: 0,
    last: null,
    at: 0,
    toldId: 0,
    window: null,
    tail: [],
    below: null,
    landed: [],
    typing: new Map(),
    view: null,
  };
}

export function newestFirst(a: Room, b: Room): number {
  return b.at - a.at || (b.last?.id ?? 0) - (a.last?.id ?? 0) || b.id - a.id;
}

/** The other member of a direct conversation. */
export function otherOf({ fields }: Room, me: string): string | undefined {
  return fields.profile?.username ?? (fields.direct ? fields.members?.find((name) => name !== me) : undefined);
}

export function makeView(room: Room, me: string, profileOf: (username: string) => Profile | undefined): ConversationView {
  const { id, fields, rev, readId, unread, mentions, last } = room;
  const other = otherOf(room, me);
  const profile = profileOf(other ?? "") ?? fields.profile;
  return {
    name: "",
    direct: false,
    member_count: 0,
    ...fields,
    id,
    title: profile?.fullname || other || fields.name || "",
    rev,
    read_id: readId,
    unread,
    mentions,
    last_message: last,
    typing: [...room.typing.keys()],
    profile,
  };
}

/** What has a place of its own, or is of one moment only. */
const ELSEWHERE = ["id", "rev", "messages", "read_id", "unread", "mentions", "last_message", "added", "profiles"];

/** What the server says of a conversation replaces what was there; what it leaves out stays. */
export function merge(room: Room, said: object): void {
  const fields: Record<string, unknown> = { ...room.fields, ...said };
  for (const key of ELSEWHERE) delete fields[key];
  const { members } = said as Partial<Conversation>;
  if (members !== undefined && !("member_count" in said)) fields["member_count"] = members.length;
  // The account of the other one may be deleted.
  if (members?.includes((fields["profile"] as Profile | undefined)?.username ?? "") === false) delete fields["profile"];
  room.fields = fields;
  if (room.last === null) room.at = room.fields.created_at ?? room.at;
}

/** Changes of large conversations say only who came or went. */
export function changeMembers(room: Room, added: readonly string[], gone?: string): void {
  const { members, member_count = 0 } = room.fields;
  const count = member_count + added.length - (gone === undefined ? 0 : 1);
  room.fields = { ...room.fields, member_count: count };
  if (members !== undefined) room.fields.members = [...new Set([...members, ...added])].filter((name) => name !== gone);
}

/** One more message, or one less, that is not read. */
export function count(room: Room, message: Message, by: 1 | -1, me: string): void {
  if (message.sender_username === me) return;
  const bound = (number: number) => Math.max(0, Math.min(UNREAD_MAX, number));
  room.unread = bound(room.unread + by);
  if (message.mentions?.includes(me)) room.mentions = bound(room.mentions + by);
}

/** Counts what is not read, if all of it is here. */
export function recount(room: Room, me: string): void {
  const { window, readId } = room;
  if (window === null || window.floor > readId) return;
  room.unread = room.mentions = 0;
  for (let index = window.items.length - 1; index >= 0 && room.unread < UNREAD_MAX; index -= 1) {
    const message = window.items[index] as StoredMessage;
    if (message.id <= readId) break;
    if (message.deleted !== true) count(room, message, 1, me);
  }
}
