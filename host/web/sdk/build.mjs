// Builds the package: JavaScript with source maps (esbuild) and types (tsc), in dist/.
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

export const ENTRIES = ["index", "account", "indexeddb", "storage", "files", "react", "contacts"];

const here = dirname(fileURLToPath(import.meta.url));
process.chdir(here);
rmSync("dist", { recursive: true, force: true });
await build({
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
  sourcemap: true,
});
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin/tsc");
execFileSync(process.execPath, [tsc, "--emitDeclarationOnly"], { stdio: "inherit" });
