// The storage of browsers. If the browser refuses it (a private window, a full disk), the client goes
// on without.

import type { Entry, Keeper } from "./keeper.ts";
import { keep } from "./shelf.ts";

export interface IndexedDbOptions {
  /** The name of the database: one for each user, if several use the app in one browser at once. */
  name?: string;
}

const STORE = "entries";

/** Kept in the browser, and shared by all its tabs. */
export function indexedDb({ name = "chatapp" }: IndexedDbOptions = {}): Keeper {
  let opening: Promise<IDBDatabase> | null = null;
  let channel: BroadcastChannel | null = null;

  function open(): Promise<IDBDatabase> {
    opening ??= new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "key" });
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const db = request.result;
        // Somebody deletes it, or the browser does.
        const forget = () => (opening = null);
        db.onversionchange = () => (db.close(), forget());
        db.onclose = forget;
        resolve(db);
      };
    }).catch((error: unknown) => {
      // It may work the next time.
      opening = null;
      throw error;
    });
    return opening;
  }

  /** One transaction. */
  async function transact<T>(mode: IDBTransactionMode, use: (store: IDBObjectStore) => IDBRequest<T> | null): Promise<T | undefined> {
    const db = await open();
    return new Promise((resolve, reject) => {
      const transaction = db.transaction(STORE, mode);
      const request = use(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request?.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error ?? request?.error);
    });
  }

  const openChannel = () => (typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(`chatapp ${name}`));

  return keep({
    async read(prefix) {
      const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
      return (await transact<Entry[]>("readonly", (store) => store.getAll(range) as IDBRequest<Entry[]>)) ?? [];
    },
    async write(entries) {
      await transact("readwrite", (store) => {
        for (const entry of entries) {
          if (entry.value === undefined) store.delete(entry.key);
          else if (entry.rev === 0) store.put(entry);
          else {
            const held = store.get(entry.key) as IDBRequest<Entry | undefined>;
            held.onsuccess = () => {
              if (entry.rev >= (held.result?.rev ?? 0)) store.put(entry);
            };
          }
        }
        return null;
      });
      const keys = entries.map((entry) => entry.key);
      if (channel !== null) return channel.postMessage(keys);
      // A page that is going into the back/forward cache: a channel that hears something would end that.
      const own = openChannel();
      own?.postMessage(keys);
      own?.close();
    },
    watch(told) {
      const own = (channel = openChannel());
      if (own !== null) own.onmessage = ({ data }) => told(data as string[]);
      return () => {
        own?.close();
        if (channel === own) channel = null;
      };
    },
  }, { name });
}
