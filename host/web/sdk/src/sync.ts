// Finds out what was missed, and takes in what happens.

import type { Calls, Frame } from "./calls.ts";
import type { Clock } from "./environment.ts";
import { ChatError } from "./error.ts";
import type { Scope } from "./live.ts";
import type { People } from "./people.ts";
import type { ConversationInfo, ListedConversation, Profile, ReadMark, Synced, TypingNotice } from "./protocol.ts";
import type { Room } from "./room_state.ts";
import type { Rooms } from "./rooms.ts";
import type { Owner } from "./keeper.ts";

export interface Sync {
  opened(): Promise<void>;
  ended(): void;
  /** Any frame of the server, before its answer is given to who asked. */
  received(frame: Frame): void;
}

export interface SyncOptions {
  calls: Calls;
  clock: Clock;
  scope: Scope;
  rooms: Rooms;
  people: People;
  owner: Owner;
  /** Resolves when what was stored is known. */
  loaded(): Promise<void>;
  switched(next: Owner): Promise<void>;
  caughtUp(): void;
  failed(error: unknown): void;
  emit(push: Frame): void;
}

/** A push that is missing may be a few milliseconds behind, if the server has several hosts. */
const HOLD_MS = 100;
const HELD_MAX = 50;
const LISTED = 1_000;
const COUNTED = 100;
/** Of those, after a new conversation, which is one of the first. */
const COUNTED_NEW = 5;
/** Counts of another moment than what is known are asked for once more, after this time. */
const COUNT_AGAIN_MS = 2_000;

const OF_MESSAGES = new Set(["send_message", "edit_message", "delete_message", "react"]);
const OF_MEMBERS = new Set(["remove_member", "leave_conversation"]);
const OF_CONVERSATIONS = new Set(["create_conversation", "rename_conversation", "add_members", "set_role"]);

export function createSync(options: SyncOptions): Sync {
  const { calls, clock, scope, rooms, people, owner } = options;
  /** Counts connections. */
  let connection = 0;
  let isOpen = false;
  let isSyncing = false;
  /** Something was dropped that only another sync brings. */
  let again = false;
  /** Those with pushes that wait for the ones before them. */
  const holding = new Set<Room>();
  let cancelHold: (() => void) | null = null;
  let cancelCount: (() => void) | null = null;

  async function opened(): Promise<void> {
    const own = (connection += 1);
    isOpen = isSyncing = true;
    try {
      const self = calls.request("self", {}, { isUrgent: true }) as Promise<Profile>;
      // It may end while the storage is read.
      self.catch(() => {});
      await options.loaded();
      if (own !== connection) return;
      const first = ask();
      first.catch(() => {});
      const profile = await self;
      const isOther = owner.username !== profile.username;
      const isUseless = isOther && rooms.known().length > 0;
      if (isOther) await options.switched({ username: profile.username, epoch: "" });
      scope.run(() => people.take(profile));
      const answer = await first;
      if (own !== connection) return;
      // The answer to the revs of somebody else is of no use.
      await round(own, isUseless ? null : answer);
      if (own !== connection) return;
      options.caughtUp();
      // Without it, the counts are those of the sync.
      await count().catch(() => {});
    } catch (error) {
      if (own === connection) lost(error);
    }
  }

  function lost(error: unknown): void {
    isSyncing = false;
    const isGone = error instanceof ChatError && (error.code === "disconnected" || error.code === "closed");
    if (!isGone) options.failed(error);
  }

  function ask(): Promise<Synced> {
    again = false;
    const revs = rooms.revs();
    return calls.request("sync", { revs, epoch: owner.epoch }, { isUrgent: true }) as Promise<Synced>;
  }

  /** Syncs until nothing is missing. */
  async function round(own: number, first: Synced | null): Promise<void> {
    rooms.setRound("begins");
    let answer = first ?? (await ask());
    let isFirst = owner.epoch === "";
    for (;;) {
      if (own !== connection) return;
      const epoch = answer.epoch ?? "";
      if (epoch !== owner.epoch) {
        // Ids and revs mean something else now.
        isFirst = true;
        await options.switched({ username: owner.username, epoch });
      }
      if (isFirst && answer.more) {
        // It would bring the latest messages of every conversation. The list is much shorter.
        await list(own);
        isFirst = false;
      } else {
        take(answer, isFirst);
        if (!answer.more && !again) break;
      }
      if (own !== connection) return;
      answer = await ask();
    }
    rooms.setRound("done");
    isSyncing = false;
  }

  function take(answer: Synced, isFirst: boolean): void {
    scope.run(() => {
      answer.conversations.forEach((synced, index) => {
        // Only the last one may be cut short.
        const isWhole = !answer.more || index < answer.conversations.length - 1;
        rooms.takeSynced(synced, isWhole, isFirst);
        takeEarly(rooms.get(synced.id));
      });
      for (const id of answer.left) rooms.forget(rooms.get(id));
    });
  }

  /** Learns of all conversations with their latest messages. */
  async function list(own: number): Promise<void> {
    let before: number | undefined;
    for (;;) {
      const page = await listed(LISTED, before);
      if (own !== connection || page.length === 0) return;
      scope.run(() => page.forEach(rooms.takeListed));
      before = page.at(-1)?.id;
    }
  }

  async function listed(limit: number, before: number | undefined): Promise<ListedConversation[]> {
    const fields = before === undefined ? { limit } : { limit, before };
    return (await calls.request("get_conversations", fields, { isUrgent: true })) as ListedConversation[];
  }

  /** Reading changes no rev: asks what is unread, as far as it may be another. */
  async function count(limit = COUNTED): Promise<void> {
    const own = connection;
    const due = new Set(limit < COUNTED ? [] : rooms.known().filter((room) => room.unread > 0).map((room) => room.id));
    let before: number | undefined;
    let isOff = false;
    do {
      const page = await listed(limit, before);
      if (own !== connection || page.length === 0) break;
      scope.run(() => {
        for (const conversation of page) {
          if (conversation.profile !== undefined) people.take(conversation.profile);
          if (!rooms.takeCounts(conversation)) isOff = true;
          due.delete(conversation.id);
        }
      });
      before = page.at(-1)?.id;
    } while (due.size > 0);
    if (isOff && own === connection) cancelCount = clock.after(COUNT_AGAIN_MS, () => void count().catch(() => {}));
  }

  /** Syncs once more, while the client is live. */
  async function syncAgain(alsoCounts = false): Promise<void> {
    again = true;
    if (!isOpen || isSyncing) return;
    isSyncing = true;
    const own = connection;
    try {
      await round(own, null);
      if (alsoCounts) await count().catch(() => {});
    } catch (error) {
      if (own === connection) lost(error);
    }
  }

  function received(frame: Frame): void {
    const isReply = frame.ref !== undefined;
    if (frame.success !== true || typeof frame.data !== "object" || frame.data === null) return;
    const data = frame.data as { rev?: unknown };
    const { type } = frame;
    const isChange = isReply
      ? OF_MESSAGES.has(type) || OF_MEMBERS.has(type) || OF_CONVERSATIONS.has(type)
      : typeof data.rev === "number";
    if (isChange) change(frame, isReply);
    else learn(frame, isReply);
    if (!isReply) options.emit(frame);
  }

  function change(frame: Frame, isReply: boolean): void {
    const data = frame.data as { conversation_id?: number; id?: number; rev: number };
    // Nobody knows yet whose change it is.
    if (owner.username === "") return void syncAgain();
    const room = rooms.get(data.conversation_id ?? data.id ?? 0);
    // A reply may say how it is, of whatever rev: then nothing has changed, or something else has.
    const isUnclear = isReply && OF_CONVERSATIONS.has(frame.type) && data.rev > 1;
    const taken = isUnclear && data.rev > room.rev ? "gap" : rooms.takeChange(frame);
    if (taken === "taken") {
      takeEarly(room);
      // The other one's profile is not in it.
      if (room.fields.direct === true && frame.type === "create_conversation") count(COUNTED_NEW).catch(() => {});
    } else if (taken === "gap") hold(room, frame, isReply || isSyncing);
  }

  /** Waits a moment for what is missing before it asks. */
  function hold(room: Room, frame: Frame, isAtOnce: boolean): void {
    const { rev } = frame.data as { rev: number };
    if (!isAtOnce && room.early.size < HELD_MAX) {
      room.early.set(rev, frame);
      holding.add(room);
      cancelHold ??= clock.after(HOLD_MS, () => {
        cancelHold = null;
        if (dropEarly()) void syncAgain();
      });
    } else void syncAgain();
  }

  /** Returns whether there were any that a sync has to bring. */
  function dropEarly(): boolean {
    const isAny = [...holding].some((room) => room.early.size > 0);
    for (const room of holding) room.early.clear();
    holding.clear();
    return isAny;
  }

  function takeEarly(room: Room): void {
    for (;;) {
      const next = room.early.get(room.rev + 1);
      if (next === undefined || rooms.takeChange(next) !== "taken") break;
    }
    for (const rev of room.early.keys()) if (rev <= room.rev) room.early.delete(rev);
  }

  /** What changes no rev. */
  function learn(frame: Frame, isReply: boolean): void {
    const { type } = frame;
    const data = frame.data as object;
    switch (type) {
      case "sync":
        if (!isReply && (data as Synced).more) void syncAgain(true);
        break;
      case "typing": {
        const { conversation_id, username, on } = data as TypingNotice;
        rooms.takeTyping(rooms.get(conversation_id), username, on);
        break;
      }
      case "mark_read": {
        const { conversation_id, username, message_id } = data as ReadMark;
        rooms.takeRead(rooms.get(conversation_id), username, message_id);
        break;
      }
      case "add_contact":
        people.take((data as { contact: Profile }).contact);
        break;
      case "user_status":
      case "contact_added":
      case "profile_updated":
      case "update_profile":
      case "get_user":
      case "self":
        people.take(data as Profile);
        break;
      case "get_contacts":
      case "get_conversation_info":
        for (const profile of (data as ConversationInfo).profiles ?? []) people.take(profile);
        break;
      case "search_users":
        for (const profile of (data as { users: Profile[] }).users) people.take(profile);
        break;
    }
  }

  return {
    opened,
    ended() {
      connection += 1;
      isOpen = isSyncing = false;
      cancelHold?.();
      cancelCount?.();
      cancelHold = cancelCount = null;
      dropEarly();
      rooms.setRound("broken");
      scope.run(() => rooms.stopAllTyping());
    },
    received,
  };
}
