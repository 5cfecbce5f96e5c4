// Runs the tests of tests/*.test.ts; arguments choose files by a part of their names.
import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

process.chdir(dirname(fileURLToPath(import.meta.url)));
const chosen = process.argv.slice(2);
const files = readdirSync("tests").filter((name) => name.endsWith(".test.ts"));
const due = files.filter((name) => chosen.length === 0 || chosen.some((part) => name.includes(part)));
const outdir = ".build";
rmSync(outdir, { recursive: true, force: true });
await build({
  entryPoints: due.map((name) => join("tests", name)),
  outdir,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  packages: "external",
  format: "esm",
  platform: "node",
  target: "node20",
  jsx: "automatic",
  sourcemap: true,
});
const tests = due.map((name) => join(outdir, name.replace(/\.ts$/, ".mjs")));
const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...tests], { stdio: "inherit" });
process.exit(status ?? 1);
