// Runs tests: `node test.mjs [unit | real | browser] [parts of names of files]`. `unit` needs nothing else;
// `real` needs the program `chatapp` (target/debug/chatapp, or CHATAPP), and `browser` Chromium too.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const FOLDERS = { unit: "tests", real: "tests/real", browser: "tests/browser" };

process.chdir(dirname(fileURLToPath(import.meta.url)));
const [kind = "unit", ...chosen] = process.argv.slice(2);
const folder = FOLDERS[kind];
if (folder === undefined) throw new Error(`no such tests: ${kind}`);
const files = readdirSync(folder).filter((name) => /\.test\.tsx?$/.test(name));
const due = files.filter((name) => chosen.length === 0 || chosen.some((part) => name.includes(part)));
const outdir = join(".build", kind);
await build({
  entryPoints: due.map((name) => join(folder, name)),
  outdir,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  external: ["react", "react-dom", "ws", "fake-indexeddb", "playwright-core", "esbuild"],
  conditions: ["source"],
  format: "esm",
  platform: "node",
  target: "node20",
  jsx: "automatic",
  sourcemap: true,
});
const tests = due.map((name) => join(outdir, name.replace(/\.tsx?$/, ".mjs")));
// What a failed test leaves open does not keep this running.
const options = ["--enable-source-maps", "--test", "--test-force-exit", "--test-timeout=600000"];
const { status } = spawnSync(process.execPath, [...options, ...tests], { stdio: "inherit" });
process.exit(status ?? 1);
