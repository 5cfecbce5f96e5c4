// Markdown: what is marked, and what stays text.

import assert from "node:assert/strict";
import test from "node:test";
import { build } from "esbuild";

/** The module as Node can import it. */
async function load(name) {
  const entry = new URL(`../src/text/${name}.ts`, import.meta.url).pathname;
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, format: "esm", write: false, target: "node20" });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

const { parse, safeAddress, snippet } = await load("markdown");

/** The nodes as a short text: <b>bold</b> and so on. */
const inline = (part) => {
  if (typeof part === "string") return part;
  if (part.kind === "code") return `<code>${part.text}</code>`;
  if (part.kind === "link") return `<a ${part.href}>${part.text}</a>`;
  if (part.kind === "mention") return `<@${part.username}>`;
  return `<${part.kind}>${part.inside.map(inline).join("")}</${part.kind}>`;
};
const block = (part) => {
  if (part.kind === "code") return `<pre>${part.text}</pre>`;
  const lines = part.items ?? part.lines;
  return `<${part.kind}>${lines.map((line) => line.map(inline).join("")).join("|")}</${part.kind}>`;
};
const shown = (text, mentions) => parse(text, mentions).map(block).join("").replace(/^<paragraph>|<\/paragraph>$/g, "");

// A row is a line: what is written, and what is shown.
for (const [written, expected, mentions] of [
  ["plain", "plain"],
  ["**b** *i* _i_ ~~s~~ `c`", "<bold>b</bold> <italic>i</italic> <italic>i</italic> <struck>s</struck> <code>c</code>"],
  ["**b *both* b**", "<bold>b <italic>both</italic> b</bold>"],
  ["2 * 3 * 4 and a_b_c and __init__", "2 * 3 * 4 and a_b_c and __init__"],
  ["`**not**`", "<code>**not**</code>"],
  ["unclosed **b and `c", "unclosed **b and `c"],
  ["see https://a.example/x_y_(z).", "see <a https://a.example/x_y_(z>https://a.example/x_y_(z</a>)."],
  ["(https://a.example), mailto:a@b.example!", "(<a https://a.example/>https://a.example</a>), <a mailto:a@b.example>mailto:a@b.example</a>!"],
  ["javascript:alert(1) data:text/html,x ftp://a.example", "javascript:alert(1) data:text/html,x ftp://a.example"],
  ["xhttps://a.example https://", "xhttps://a.example https://"],
  ["<b>x</b>", "<b>x</b>"],
  ["@bob and @bobby, a@bob", "<@bob> and @bobby, a@bob", ["bob"]],
  ["@bob smith! @bob", "<@bob smith>! <@bob>", ["bob", "bob smith"]],
  ["@all", "@all", []],
  ["@all", "<@all>", ["bob"]],
  ["```\na **b**\n```", "<pre>a **b**</pre>"],
  ["```rust\nlet a;\n```\nafter", "<pre>let a;</pre><paragraph>after"],
  ["```\nnever closed", "```\nnever closed".replace("\n", "|")],
  ["> one\n> *two*\nafter", "<quote>one|<italic>two</italic></quote><paragraph>after"],
  ["- one\n* two", "<list>one|two</list>"],
  ["-not a list\n- ", "-not a list|- "],
  ["one\n\nthree", "one||three"],
])
  test(JSON.stringify(written), () => assert.equal(shown(written, mentions), expected));

test("addresses that can do harm are none", () => {
  for (const address of ["javascript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "//a.example", ""])
    assert.equal(safeAddress(address), undefined, address);
});

test("a snippet is one line without marks", () => {
  assert.equal(snippet("**a**\n\n`b`  ~~c~~ ```\nd\n```"), "a b c d");
  assert.equal(snippet("x".repeat(1_000)).length, 140);
});

test("no text takes long", () => {
  for (const part of ["*", "**", "_", "`", "~~", "*a ", "_a ", "**a", "> ", "@a", "https://a.", "```\n", "- ", "* *a*"]) {
    const text = part.repeat(Math.floor(65_536 / part.length));
    const started = performance.now();
    parse(text, ["a"]);
    const milliseconds = performance.now() - started;
    assert.ok(milliseconds < 1_000, `${JSON.stringify(part)} took ${milliseconds} ms`);
  }
});
