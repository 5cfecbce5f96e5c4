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

  function tell(): BroadcastChannel | null {
    if (typeof BroadcastChannel !== "undefined") channel ??= new BroadcastChannel(`chatapp ${name}`);
    return channel;
  }

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
      tell()?.postMessage(entries.map((entry) => entry.key));
    },
    watch(told) {
      const from = tell();
      const hear = ({ data }: MessageEvent<string[]>) => told(data);
      from?.addEventListener("message", hear);
      return () => {
        from?.removeEventListener("message", hear);
        from?.close();
        channel = null;
      };
    },
  });
}
