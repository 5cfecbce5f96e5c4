// Finds out what was missed, and takes in what happens.

import type { Calls, Frame } from "./calls.ts";
import type { Clock } from "./environment.ts";
import type { Scope } from "./live.ts";
import type { People } from "./people.ts";
import type { ListedConversation, MemberLeft, Profile, ReadMark, Synced, TypingNotice } from "./protocol.ts";
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
  /** Whether the user may be another one now. If not, the connection is given up. */
  admits(username: string): boolean;
  caughtUp(): void;
  failed(error: unknown): void;
  emit(push: Frame): void;
}

/** A push that is missing may be a few milliseconds behind, if the server has several hosts. */
const HOLD_MS = 100;
/** So many pushes are held. */
const HELD_MAX = 500;
const LISTED = 1_000;
const COUNTED = 100;
/** Of those, after a new conversation, which is one of the first. */
const COUNTED_NEW = 5;
/** Counts of another moment than what is known are asked for once more, after this time. */
const COUNT_AGAIN_MS = 2_000;

export function createSync(options: SyncOptions): Sync {
  const { calls, clock, scope, rooms, people, owner } = options;
  /** Counts connections. */
  let connection = 0;
  let isOpen = false;
  let isSyncing = false;
  /** Something was dropped that only another sync brings. */
  let again = false;
  /** Pushes that came before the ones that precede them, by rev. */
  let early: { room: Room; rev: number; frame: Frame }[] = [];
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
      if (isOther && !options.admits(profile.username)) return;
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
      lost(own, error);
    }
  }

  function lost(own: number, error: unknown): void {
    // If the connection has ended, nothing is to be given up.
    if (own !== connection) return;
    isSyncing = false;
    options.failed(error);
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
        await list(LISTED, (page) => {
          page.forEach(rooms.takeListed);
          return true;
        });
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

  /** Reads the list of conversations page by page, as long as `take` wants more. */
  async function list(limit: number, take: (page: ListedConversation[]) => boolean): Promise<void> {
    const own = connection;
    let before: number | undefined;
    for (;;) {
      const page = (await calls.request("get_conversations", { limit, before }, { isUrgent: true })) as ListedConversation[];
      if (own !== connection || page.length === 0 || !scope.run(() => take(page))) return;
      before = page.at(-1)?.id;
    }
  }

  /** Reading changes no rev: asks what is unread, as far as it may be another. */
  async function count(limit = COUNTED): Promise<void> {
    const own = connection;
    const due = new Set(limit < COUNTED ? [] : rooms.known().filter((room) => room.unread > 0).map((room) => room.id));
    let isOff = false;
    await list(limit, (page) => {
      for (const conversation of page) {
        if (conversation.profile !== undefined) people.take(conversation.profile);
        if (!rooms.takeCounts(conversation)) isOff = true;
        due.delete(conversation.id);
      }
      return due.size > 0;
    });
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
      lost(own, error);
    }
  }

  function received(frame: Frame): void {
    const isReply = frame.ref !== undefined;
    if (frame.success !== true || typeof frame.data !== "object" || frame.data === null) return;
    const data = frame.data as Partial<MemberLeft>;
    const { username } = data;
    if (username !== undefined && (data.deleted || frame.type === "account_deleted")) {
      people.remove(username);
      rooms.takeDeleted(username, data.conversation_id);
    }
    // What is asked for is of any rev.
    if (typeof data.rev === "number" && !frame.type.startsWith("get_")) change(frame, isReply);
    else learn(frame, isReply);
    if (!isReply) options.emit(frame);
  }

  function change(frame: Frame, isReply: boolean): void {
    const data = frame.data as { conversation_id?: number; id?: number; rev: number };
    // Nobody knows yet whose change it is.
    if (owner.username === "") return void syncAgain();
    const room = rooms.get(data.conversation_id ?? data.id ?? 0);
    // A reply may say how the conversation is, of whatever rev: then nothing has changed, or something else has.
    const isUnclear = isReply && data.conversation_id === undefined && data.rev > 1;
    const taken = isUnclear && data.rev > room.rev ? "gap" : rooms.takeChange(frame);
    if (taken === "taken") {
      takeEarly(room);
      // The other one's profile is not in it.
      if (room.fields.direct && frame.type === "create_conversation") count(COUNTED_NEW).catch(() => {});
    } else if (taken === "gap") hold(room, frame, isReply || isSyncing);
  }

  /** Waits a moment for what is missing before it asks. */
  function hold(room: Room, frame: Frame, isAtOnce: boolean): void {
    const { rev } = frame.data as { rev: number };
    if (!isAtOnce && early.length < HELD_MAX) {
      early.push({ room, rev, frame });
      early.sort((a, b) => a.rev - b.rev);
      cancelHold ??= clock.after(HOLD_MS, () => {
        cancelHold = null;
        if (dropEarly()) void syncAgain();
      });
    } else void syncAgain();
  }

  /** Returns whether there were any that a sync has to bring. */
  function dropEarly(): boolean {
    const isAny = early.some(({ room, rev }) => rev > room.rev);
    early = [];
    return isAny;
  }

  function takeEarly(room: Room): void {
    for (const held of early) if (held.room === room) rooms.takeChange(held.frame);
  }

  /** What changes no rev. */
  function learn(frame: Frame, isReply: boolean): void {
    const { type } = frame;
    if (type === "sync") {
      if (!isReply && (frame.data as Synced).more) void syncAgain(true);
    } else if (type === "typing") {
      const { conversation_id, username, on } = frame.data as TypingNotice;
      rooms.takeTyping(rooms.get(conversation_id), username, on);
    } else if (type === "mark_read") {
      const { conversation_id, username, message_id } = frame.data as ReadMark;
      rooms.takeRead(rooms.get(conversation_id), username, message_id);
    } else {
      // Whatever it is: the profiles in it say how somebody is now.
      const data = frame.data as Partial<Profile & { contact: Profile; profiles: Profile[]; users: Profile[] }>;
      for (const profile of [data, data.contact, data.profiles, data.users].flat()) {
        if (profile?.username !== undefined && profile.is_online !== undefined) people.take(profile as Profile);
      }
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
