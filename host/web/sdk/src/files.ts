// The storage of programs in Node: one file. Only one program may use it at a time.

import { mkdir, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";

import type { Entry, Storage } from "./storage.ts";
import { memory } from "./storage.ts";

/** Kept in this file, as JSON. */
export function file(path: string): Storage {
  const held = memory();
  let loading: Promise<void> | null = null;

  async function load(): Promise<void> {
    const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "[]";
      throw error;
    });
    await held.write(JSON.parse(text) as Entry[]);
  }

  return {
    async read(prefix) {
      await (loading ??= load());
      return held.read(prefix);
    },
    async write(entries) {
      await (loading ??= load());
      await held.write(entries);
      // A crash leaves the old file or the new one.
      await mkdir(dirname(path), { recursive: true });
      const next = await open(`${path}.new`, "w");
      try {
        await next.writeFile(JSON.stringify(await held.read("")));
        await next.sync();
      } finally {
        await next.close();
      }
      await rename(`${path}.new`, path);
    },
    watch: held.watch,
  };
}
