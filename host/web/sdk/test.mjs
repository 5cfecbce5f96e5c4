// Runs tests: `node test.mjs [unit | package | real | browser] [parts of names of files]`. `unit` needs nothing else; `package`
// runs the same with what `node build.mjs` has made;
// ONLY chooses tests by a part of their names. `real` needs the program `chatapp` (target/debug/chatapp, or CHATAPP), and `browser` Chromium too.
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

/** Takes what was built in place of the sources. */
function useBuilt({ onResolve }) {
  onResolve({ filter: /\/src\/\w+\.ts$|^chatapp-sdk/ }, ({ path }) => {
    const name = /^chatapp-sdk\/?(\w*)$|(\w+)\.ts$/.exec(path).slice(1).find((part) => part !== undefined) || "index";
    // `keep` is in the entry for storages.
    return { path: resolve("dist", `${name === "shelf" ? "storage" : name}.js`) };
  });
}

const FOLDERS = { unit: ["tests"], package: ["tests", "tests/package"], real: ["tests/real"], browser: ["tests/browser"] };

process.chdir(dirname(fileURLToPath(import.meta.url)));
const [kind = "unit", ...chosen] = process.argv.slice(2);
const folders = FOLDERS[kind];
if (folders === undefined) throw new Error(`no such tests: ${kind}`);
const files = folders.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)));
const due = files.filter((name) => /\.test\.tsx?$/.test(name)).filter((name) => chosen.length === 0 || chosen.some((part) => name.includes(part)));
const outdir = join(".build", kind);
await build({
  absWorkingDir: process.cwd(),
  entryPoints: due,
  outbase: "tests",
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
  plugins: kind === "package" ? [{ name: "package", setup: useBuilt }] : [],
});
const tests = due.map((name) => join(outdir, relative("tests", name).replace(/\.tsx?$/, ".mjs")));
// What a failed test leaves open does not keep this running.
const options = ["--enable-source-maps", "--test", "--test-force-exit", "--test-timeout=600000"];
if (process.env.ONLY !== undefined) options.push(`--test-name-pattern=${process.env.ONLY}`);
const { status } = spawnSync(process.execPath, [...options, ...tests], { stdio: "inherit" });
process.exit(status ?? 1);
