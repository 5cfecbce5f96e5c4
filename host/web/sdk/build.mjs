// Builds the package: small JavaScript with source maps (esbuild, then terser), and types (tsc), in dist/.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { minify } from "terser";

const ENTRIES = ["index", "account", "contacts", "indexeddb", "storage", "files", "react"];

// Properties that only the modules of this library see. They get short names, the same in all files. Nothing that is stored,
// sent, given by or to an app, or known to browsers may be here: `node test.mjs package` runs all tests with them.
const INTERNAL = `
  again answer answered arrived beforeRound below calls caughtUp cell changed count derived emit ended endsWithSocket
  failed forgetAll forgotten hide infoChanged isInFlight isKnown isLive isReading isRepeatable isSent isStored
  isUrgent isWaiting isWatched isWhole kept known land landed load loaded messagesChanged need opened openSocket
  outboxChanged own owner ownerChanged peopleChanged place profileChanged rank readOutbox ready received refresh
  refusal release renew restart restore room rooms run scope setRound setWindow shelf show signOut stale stopAllTyping
  switched tail take takeChange takeCounts takeDeleted takeInfo takeListed takePage takeRead takeSynced takeTyping
  timeoutMs told toldId top touched turn view window windowRead
`;

process.chdir(dirname(fileURLToPath(import.meta.url)));
rmSync("dist", { recursive: true, force: true });
await build({
  absWorkingDir: process.cwd(),
  entryPoints: ENTRIES.map((name) => `src/${name}.ts`),
  outdir: "dist",
  bundle: true,
  splitting: true,
  chunkNames: "shared-[hash]",
  format: "esm",
  target: "es2022",
  platform: "neutral",
  external: ["react", "node:*"],
  minify: true,
  mangleProps: new RegExp(`^(${INTERNAL.trim().split(/\s+/).join("|")})$`),
  sourcemap: true,
});
for (const name of readdirSync("dist").filter((name) => name.endsWith(".js"))) {
  const file = join("dist", name);
  const { code, map } = await minify(readFileSync(file, "utf8"), {
    module: true,
    ecma: 2020,
    // Functions that are not inlined compress better.
    compress: {
      passes: 3,
      reduce_funcs: false,
      hoist_funs: true,
      keep_fargs: false,
      pure_getters: true,
      unsafe_arrows: true,
      unsafe_comps: true,
    },
    sourceMap: { content: readFileSync(`${file}.map`, "utf8"), url: `${name}.map` },
  });
  writeFileSync(file, code);
  writeFileSync(`${file}.map`, map);
}
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
execFileSync(process.execPath, [tsc, "--emitDeclarationOnly"], { stdio: "inherit" });
