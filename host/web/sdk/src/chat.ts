// The client: puts its parts together.

import type { Auth } from "./auth.ts";
import { type Frame, createCalls } from "./calls.ts";
import { createConnection } from "./connection.ts";
import type { ConnectionState } from "./connection_state.ts";
import { type EnvironmentOptions, createEnvironment } from "./environment.ts";
import { ChatError } from "./error.ts";
import { type Keeper, type Owner, type StorageState, memory } from "./keeper.ts";
import { type Live, callAll, createScope } from "./live.ts";
import { createOutbox } from "./outbox.ts";
import { createPeople } from "./people.ts";
import type { Events, Message, Profile, Pushes } from "./protocol.ts";
import { type ConversationHandle, type OwnHandle, createHandle } from "./room.ts";
import type { ConversationView, Room } from "./room_state.ts";
import { createRooms } from "./rooms.ts";
import { createSync } from "./sync.ts";

export interface ChatOptions<Extra extends object = object> extends EnvironmentOptions {
  /** The server, such as `https://chat.example`. In a browser, the page's own without it. */
  url?: string;
  auth: Auth<Extra>;
  /** Where it keeps what it knows and what it has not sent. Without it, in memory. */
  storage?: Keeper;
  /** Hears what the app's own functions throw. Without it, the console does. */
  report?(error: unknown): void;
}

/** The fields of a request; without required ones, they may be left out. */
export type RequestFields<T extends keyof Events> = Record<never, never> extends Events[T]["request"]
  ? [fields?: Events[T]["request"]]
  : [fields: Events[T]["request"]];

export interface Chat {
  readonly connection: Live<ConnectionState>;
  /** Whether the connection has been away for some seconds: what to tell people. */
  readonly isAway: Live<boolean>;
  /** The user, once known. */
  readonly me: Live<Profile | null>;
  /** Most recent first. */
  readonly conversations: Live<readonly ConversationView[]>;
  /** Who was heard of, by username: names, who is online. */
  readonly people: Live<ReadonlyMap<string, Profile>>;
  readonly storage: Live<StorageState>;
  /** Whether the conversations are known, from the storage or the server: before, an empty list says nothing. */
  readonly isLoaded: Live<boolean>;
  /** How many messages and changes wait for the server. */
  readonly pending: Live<number>;
  conversation(id: number): ConversationHandle;
  /** Sends any event, as soon as the client is live. Rejects with `ChatError`. */
  request<T extends keyof Events>(type: T, ...fields: RequestFields<T>): Promise<Events[T]["data"]>;
  /** Also events that this library does not know. */
  request<T extends string>(type: T extends keyof Events ? never : T, fields?: object): Promise<unknown>;
  /**
   * `message`: once for each new message, after it is stored; also for those of the time when the
   * client was away. Messages from before a device was first used are history, and not told.
   * Others: each push of that type. `push`: each push.
   */
  on(event: "message", told: (message: Message) => void): () => void;
  on(event: "push", told: (push: { type: string; data: unknown }) => void): () => void;
  on<T extends keyof Pushes>(event: T, told: (data: Pushes[T]) => void): () => void;
  on(event: string, told: (data: unknown) => void): () => void;
  /** Tries to connect now. */
  connect(): void;
  /** Resolves when everything that changed is stored on this device. */
  flush(): Promise<void>;
  /** Ends it. What is stored stays. */
  close(): Promise<void>;
}

const REQUEST_MS = 30_000;
/** A connection that is away for less is not worth a word. */
const AWAY_MS = 3_000;
/** A conversation that nobody watches keeps so many messages in memory, or up to twice as many. */
const IDLE_MESSAGES_MAX = 100;
/** What may be sent again if the answer was lost: doing it twice is doing it once. */
const REPEATABLE = /^(ping|self|sync|react|(get|search|mark|rename|set|update|block|unblock|edit|delete)_.*)$/;

export function createChat<Extra extends object = object>(options: ChatOptions<Extra>): Chat & Extra {
  const environment = createEnvironment(options);
  const { clock, random } = environment;
  const report = options.report ?? console.error;
  const url = (options.url ?? location.origin).replace(/\/+$/, "");
  const scope = createScope(report);
  const listeners = new Map<string, Set<(data: never) => void>>();
  const handles = new Map<number, OwnHandle>();
  const state = scope.cell<ConnectionState>({ state: "connecting" });
  const isAway = scope.cell(false);
  const storageState = scope.cell<StorageState>("ok");
  const isLoaded = scope.cell(false);
  const owner: Owner = { username: "", epoch: "" };
  const me = () => owner.username;
  const isLive = () => state.get().state === "live";

  const people = createPeople(scope, (username) => {
    rooms.profileChanged(username);
    if (username === owner.username) profile.stale();
    shelf.peopleChanged();
  });
  const profile = scope.derived(() => people.get(owner.username) ?? null);
  const calls = createCalls(clock, random);
  const shelf = (options.storage ?? memory())({
    clock,
    state: storageState,
    me,
    room: (id) => rooms.get(id),
    rank: (room) => rooms.known().indexOf(room),
    profiles: people.list,
    isWatched: (room) => handles.get(room.id)?.isWatched() === true,
    setWindow(room, window) {
      scope.run(() => rooms.setWindow(room, window));
      handles.get(room.id)?.windowRead();
    },
    outboxChanged: () => void outbox.refresh(),
    ownerChanged,
  });
  const rooms = createRooms({
    scope,
    clock,
    me,
    profile: people.get,
    touched(room) {
      bound(room);
      shelf.touched(room);
    },
    forgotten: shelf.forgotten,
    messagesChanged: (room) => handles.get(room.id)?.messages.stale(),
    infoChanged: (room) => handles.get(room.id)?.info.stale(),
    arrived: (message) => emit("message", message),
    landed: (message) => outbox.landed(message),
    isReading: (room) => outbox.of(room.id).some((item) => item.kept.type === "mark_read"),
    need: (room) => shelf.need(room),
  });
  const pending = scope.cell(0);
  const outbox = createOutbox({
    environment,
    calls,
    shelf,
    epoch: () => owner.epoch,
    changed(id) {
      pending.set(outbox.count());
      handles.get(id)?.messages.stale();
    },
    answered: (message) => scope.run(() => rooms.land(message)),
  });
  const sync = createSync({
    calls,
    clock,
    scope,
    rooms,
    people,
    owner,
    loaded: () => loaded,
    switched,
    admits(username) {
      const isFor = options.auth.isFor?.(username) ?? true;
      if (!isFor) connection.signOut("somebody else is logged in");
      return isFor;
    },
    caughtUp() {
      connection.caughtUp();
      calls.ready();
      outbox.ready();
      isLoaded.set(true);
      for (const handle of handles.values()) handle.refresh();
    },
    failed: (error) => connection.restart(String(error)),
    emit: emitPush,
  });
  const connection = createConnection({
    environment,
    auth: options.auth,
    url: `${url.replace(/^http/, "ws")}/ws`,
    calls,
    state,
    opened: () => void sync.opened(),
    ended() {
      sync.ended();
      outbox.ended();
    },
    received: (frame: Frame) => scope.run(() => sync.received(frame)),
    hide: shelf.hide,
    show: shelf.show,
  });
  let cancelAway: (() => void) | null = null;
  const stopAway = state.subscribe(() => {
    const { state: now } = state.get();
    if (now === "live") {
      cancelAway?.();
      cancelAway = null;
      isAway.set(false);
    } else cancelAway ??= clock.after(AWAY_MS, () => isAway.set(now !== "closed"));
  });

  const loaded = load();
  connection.renew();

  async function load(): Promise<void> {
    const kept = await shelf.load();
    scope.run(() => {
      Object.assign(owner, kept.owner);
      // Who is online will be told.
      for (const profile of kept.profiles) people.take({ ...profile, is_online: false });
      rooms.restore(kept.rooms);
      profile.stale();
      if (kept.rooms.length > 0) isLoaded.set(true);
    });
    await outbox.refresh();
  }

  /** Somebody else has logged in, or a backup was restored. */
  async function switched(next: Owner): Promise<void> {
    const isOther = owner.username !== "" && owner.username !== next.username;
    scope.run(() => {
      rooms.forgetAll();
      if (isOther) {
        outbox.clear();
        people.forget();
      }
      Object.assign(owner, next);
      profile.stale();
    });
    await shelf.own(next);
  }

  /** Another tab has logged in or out. */
  function ownerChanged({ username }: Owner): void {
    if (username === "" && owner.username !== "") {
      connection.signOut("logged out in another tab");
      void switched({ username, epoch: "" });
    } else if (state.get().state === "needs-auth") connection.connect();
  }

  /** What nobody looks at does not grow for ever. */
  function bound(room: Room): void {
    if (room.window === null || room.window.items.length <= 2 * IDLE_MESSAGES_MAX || handles.get(room.id)?.isWatched()) return;
    const items = room.window.items.slice(-IDLE_MESSAGES_MAX);
    room.window = { floor: items[0]?.id ?? 0, items };
  }

  function emit(event: string, data: unknown): void {
    callAll(listeners.get(event) ?? [], report, data as never);
  }

  function emitPush(frame: Frame): void {
    emit(frame.type, frame.data);
    emit("push", { type: frame.type, data: frame.data });
  }

  function request(type: string, fields: object = {}): Promise<unknown> {
    const isRepeatable = REPEATABLE.test(type) || (fields as { direct?: boolean }).direct === true;
    return calls.request(type, fields, { isRepeatable, timeoutMs: REQUEST_MS });
  }

  function conversation(id: number): OwnHandle {
    let handle = handles.get(id);
    if (handle === undefined) {
      const { uniqueId } = environment;
      handle = createHandle({ id, scope, clock, rooms, outbox, uniqueId, me, request: request as Chat["request"], isLive, need: shelf.need });
      handles.set(id, handle);
    }
    return handle;
  }

  const chat: Chat = {
    connection: state,
    isAway,
    me: profile,
    conversations: rooms.list,
    people: people.all,
    storage: storageState,
    isLoaded,
    pending,
    conversation,
    request: request as Chat["request"],
    on(event: string, told: (data: never) => void) {
      const list = listeners.get(event) ?? new Set();
      listeners.set(event, list);
      list.add(told);
      return () => void list.delete(told);
    },
    connect: connection.connect,
    flush: shelf.flush,
    async close() {
      const error = new ChatError("closed", "the client was closed");
      connection.close(error.message);
      calls.close(error);
      outbox.ended();
      outbox.close(error);
      cancelAway?.();
      stopAway();
      await shelf.close();
    },
  };
  const extra = options.auth.extend?.({
    environment,
    url,
    connection: state,
    loggedIn: connection.renew,
    async forget() {
      connection.signOut("logged out");
      await switched({ username: "", epoch: "" });
    },
  });
  return { ...chat, ...(extra as Extra) };
}
