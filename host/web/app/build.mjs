// Builds the page into host/web/dist, always the same bytes from the same sources.

import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const dist = process.argv[2] ?? path("../dist");
/** The server makes the same (host/src/http/page.rs). */
const hash = (bytes) => createHash("sha256").update(bytes).digest("hex").slice(0, 16);

const common = {
  absWorkingDir: path("."),
  bundle: true,
  minify: true,
  write: false,
  outdir: dist,
  format: "esm",
  target: ["chrome119", "firefox120", "safari17.5"],
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  charset: "utf8",
  define: { "process.env.NODE_ENV": '"production"' },
  // The library's sources, so that it need not be built first.
  conditions: ["source"],
  alias: { react: "preact/compat" },
  logLevel: "warning",
};

/** The licences of the packages that these files are from. */
async function licences(inputs) {
  const found = inputs.map((input) => /^(.*node_modules\/((?:@[^/]+\/)?[^/]+))\//.exec(input)).filter(Boolean);
  const packages = new Map(found.map(([, folder, name]) => [name, folder]));
  const texts = [...packages].sort().map(async ([name, folder]) => `${name}\n\n${await readFile(path(`${folder}/LICENSE`), "utf8")}`);
  return Buffer.from((await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`));
}

const read = (name) => readFile(path(`src/${name}`));
// app.js begins, more.js comes later, chunk.js is what both need.
const page = await build({ ...common, metafile: true, banner: { js: "/* licences.txt has the licences of what is in here. */" }, splitting: true, chunkNames: "[name]", entryPoints: { app: path("src/main.tsx") } });
const files = new Map(page.outputFiles.map((file) => [file.path.split("/").at(-1), Buffer.from(file.contents)]));
const expected = ["app.css", "app.js", "chunk.js", "more.js"];
if ([...files.keys()].sort().join() !== expected.join()) throw new Error(`expected ${expected}, built ${[...files.keys()]}`);
files.set("licences.txt", await licences(Object.keys(page.metafile.inputs)));
for (const name of ["app.webmanifest", "icon.svg", "icon-192.png", "icon-512.png"]) files.set(name, await read(name));

const named = (name) => `${name}?v=${hash(files.get(name))}`;
/** Lets a script import another one by its hash. */
const link = (name, imported) => {
  const text = files.get(name).toString();
  const linked = text.replaceAll(`"./${imported}"`, `"./${named(imported)}"`);
  if (linked === text) throw new Error(`${name} does not import ${imported}`);
  files.set(name, Buffer.from(linked));
};
link("more.js", "chunk.js");
link("app.js", "chunk.js");
link("app.js", "more.js");

const html = (await read("index.html")).toString().replace(/\{(\w+\.(?:js|css))\}/g, (_, name) => named(name).split("=")[1]);
files.set("index.html", Buffer.from(html));

const kept = ["/", ...expected.map((name) => `/${named(name)}`), "/icon.svg", "/icon-192.png", "/app.webmanifest"];
const version = hash([...files.values()].map(hash).join());
const define = { VERSION: JSON.stringify(version), FILES: JSON.stringify(kept) };
const worker = await build({ ...common, format: "iife", define, entryPoints: { sw: path("src/sw.ts") } });
files.set("sw.js", Buffer.from(worker.outputFiles[0].contents));

await rm(dist, { recursive: true, force: true });
await mkdir(dist, { recursive: true });
for (const [name, bytes] of files) await writeFile(`${dist}/${name}`, bytes);
