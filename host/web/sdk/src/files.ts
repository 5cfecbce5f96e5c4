// The storage of programs in Node: one file. Only one program may use it at a time.

import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";

import type { Entry, Keeper } from "./keeper.ts";
import { keep } from "./shelf.ts";

/** Kept in this file, as JSON. */
export function file(path: string): Keeper {
  let entries: Map<string, Entry> | null = null;

  async function load(): Promise<Map<string, Entry>> {
    if (entries !== null) return entries;
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "[]";
      throw error;
    });
    return (entries = new Map((JSON.parse(text) as Entry[]).map((entry) => [entry.key, entry])));
  }

  return keep({
    async read(prefix) {
      return [...(await load()).values()].filter((entry) => entry.key.startsWith(prefix));
    },
    async write(changes) {
      const next = new Map(await load());
      for (const change of changes) {
        if (change.value === undefined) next.delete(change.key);
        else if (change.rev >= (next.get(change.key)?.rev ?? 0)) next.set(change.key, change);
      }
      // A crash leaves the old file or the new one.
      await mkdir(dirname(path), { recursive: true });
      const handle = await open(`${path}.new`, "w");
      try {
        await handle.writeFile(JSON.stringify([...next.values()]));
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(`${path}.new`, path);
      entries = next;
    },
    // Nobody else writes.
    watch: () => () => {},
  });
}
