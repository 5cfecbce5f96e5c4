// The package as `npm pack` makes it: what is in it, how large it is, and that it does nothing by itself.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { createContext, runInContext } from "node:vm";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

/** Bytes of each entry with all that it needs, minified, gzip -9. */
const BYTES_MAX: Record<string, number> = {
  index: 10_240,
  account: 1_600,
  contacts: 900,
  indexeddb: 2_800,
  storage: 2_300,
  files: 2_600,
  react: 600,
};

interface Manifest {
  exports: Record<string, Record<string, string>>;
  dependencies?: object;
}

const manifest = JSON.parse(readFileSync("package.json", "utf8")) as Manifest;

async function bundle(contents: string, format: "esm" | "iife" = "esm"): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: process.cwd() },
    bundle: true,
    minify: true,
    write: false,
    format,
    external: ["react", "node:*"],
  });
  return outputFiles[0]?.text ?? "";
}

const compressed = (text: string) => gzipSync(text, { level: 9 }).length;

test("each entry is small", async (context) => {
  const all = Object.keys(manifest.exports).map((path) => (path === "." ? "index" : path.slice(2)));
  assert.deepEqual(all.sort(), Object.keys(BYTES_MAX).sort());
  for (const name of all) {
    const bytes = compressed(await bundle(`export * from "./dist/${name}.js"`));
    context.diagnostic(`${name}: ${bytes} bytes`);
    assert.ok(bytes <= (BYTES_MAX[name] ?? 0), `${name} has ${bytes} bytes`);
  }
});

test("what is not used is left out", async () => {
  const bytes = compressed(await bundle(`import { ChatError } from "./dist/index.js"; console.log(ChatError)`));
  assert.ok(bytes < 300, String(bytes));
});

test("an import touches nothing", async () => {
  for (const name of ["index", "account", "contacts", "indexeddb", "storage"]) {
    const script = await bundle(`import * as all from "./dist/${name}.js"; globalThis.names = Object.keys(all)`, "iife");
    // No document, no timers, no WebSocket, no console.
    const context = createContext({});
    runInContext(script, context);
    assert.deepEqual(Object.keys(context), ["names"]);
  }
});

test("it has no dependency, and is typed, with maps and its sources", () => {
  assert.equal(manifest.dependencies, undefined);
  const [packed] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { stdio: ["ignore", "pipe", "ignore"] }).toString()) as [
    { files: { path: string }[] },
  ];
  const paths = new Set(packed.files.map(({ path }) => path));
  for (const file of ["README.md", "LICENSE", "package.json"]) assert.ok(paths.has(file), file);
  for (const { types, default: script, source } of Object.values(manifest.exports)) {
    for (const file of [types, script, `${script}.map`, source]) assert.ok(paths.has(String(file).slice(2)), file);
  }
  assert.ok(![...paths].some((path) => path.startsWith("tests/")), "no tests");
  const maps = readdirSync("dist").filter((name) => name.endsWith(".js.map"));
  for (const name of maps) {
    const { sources } = JSON.parse(readFileSync(`dist/${name}`, "utf8")) as { sources: string[] };
    for (const source of sources) assert.ok(paths.has(source.replace("../", "")), `${name}: ${source}`);
  }
});

test("imports have no cycles", () => {
  const imports = new Map(
    readdirSync("src").map((name) => [name, [...readFileSync(`src/${name}`, "utf8").matchAll(/from "\.\/(\w+\.ts)"/g)].map(([, other]) => String(other))]),
  );
  const done = new Set<string>();
  const visit = (name: string, path: string[]): void => {
    assert.ok(!path.includes(name), [...path, name].join(" → "));
    if (done.has(name)) return;
    for (const other of imports.get(name) ?? []) visit(other, [...path, name]);
    done.add(name);
  };
  for (const name of imports.keys()) visit(name, []);
});

test("README begins with lines that are checked", () => {
  const [, example] = /```js\n([^]*?)```/.exec(readFileSync("README.md", "utf8")) ?? [];
  assert.ok(example !== undefined);
  assert.ok(example.trim().split("\n").length <= 11);
  // Types of the published package; tests/browser runs it.
  for (const [, path] of example.matchAll(/from "chatapp-sdk(?:\/(\w+))?"/g)) {
    assert.ok(manifest.exports[path === undefined ? "." : `./${path}`] !== undefined);
  }
});
