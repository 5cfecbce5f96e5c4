// The user's contacts, and whom the user has blocked. They are loaded while somebody watches them.

import type { Chat } from "./chat.ts";
import { type Derived, type Live, createScope } from "./live.ts";
import type { Profile } from "./protocol.ts";

export interface Contacts {
  /** Oldest first, with who is online. */
  list: Live<readonly Profile[]>;
  blocked: Live<readonly string[]>;
  add(username: string): Promise<void>;
  remove(username: string): Promise<void>;
  block(username: string): Promise<void>;
  unblock(username: string): Promise<void>;
}

export function createContacts(chat: Chat): Contacts {
  const scope = createScope((error) => console.error(error));
  let names: readonly string[] = [];
  let blockedNames: readonly string[] = [];

  /** Other tabs are not told by the server what this one does. */
  const openChannel = () => (typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("chatapp contacts"));

  function changed(value: Derived<unknown>): void {
    value.stale();
    const own = openChannel();
    own?.postMessage(null);
    own?.close();
  }

  /** Runs `load` at each connect while somebody watches. */
  function watched(load: () => Promise<void>): (isWatched: boolean) => void {
    let end = () => {};
    return (isWatched) => {
      end();
      if (!isWatched) return;
      // The next connect tries again.
      let channel: BroadcastChannel | null = null;
      const stop = () => {
        channel?.close();
        channel = null;
      };
      // A `sync` that nobody asked for: the server has missed something, perhaps about contacts.
      const look = () => {
        // An open channel may keep a page out of the back/forward cache.
        if (chat.connection.get().state !== "live") return stop();
        channel ??= openChannel();
        if (channel !== null) channel.onmessage = look;
        // It keeps no program in Node running.
        (channel as { unref?(): void } | null)?.unref?.();
        load().catch(() => {});
      };
      const ends = [chat.connection.subscribe(look), chat.people.subscribe(list.stale), chat.on("contact_added", look), chat.on("sync", look), stop];
      end = () => ends.forEach((end) => end());
      look();
    };
  }

  async function loadList(): Promise<void> {
    names = (await chat.request("get_contacts")).contacts;
    list.stale();
  }

  async function loadBlocked(): Promise<void> {
    blockedNames = ((await chat.request("get_blocked")) as { usernames: string[] }).usernames;
    blocked.stale();
  }

  const list = scope.derived<readonly Profile[]>(() => {
    const people = chat.people.get();
    return names.flatMap((name) => people.get(name) ?? []);
  }, watched(loadList));
  const blocked = scope.derived(() => blockedNames, watched(loadBlocked));

  return {
    list,
    blocked,
    async add(username) {
      await chat.request("add_contact", { contact_username: username });
      names = [...names.filter((name) => name !== username), username];
      changed(list);
    },
    async remove(username) {
      await chat.request("remove_contact", { contact_username: username });
      names = names.filter((name) => name !== username);
      changed(list);
    },
    async block(username) {
      await chat.request("block_user", { username });
      blockedNames = [...blockedNames.filter((name) => name !== username), username];
      changed(blocked);
    },
    async unblock(username) {
      await chat.request("unblock_user", { username });
      blockedNames = blockedNames.filter((name) => name !== username);
      changed(blocked);
    },
  };
}
