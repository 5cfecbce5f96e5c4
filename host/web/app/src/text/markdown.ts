// A small part of Markdown, parsed into nodes: never into HTML. What is not understood stays text.
//
// Blocks: code between lines of ```, quotes (> …), lists (- … or * …), paragraphs.
// In a line: `code`, **bold**, *italic* or _italic_, ~~struck~~, addresses, and mentions.

export type Inline =
  | string
  | { kind: "code"; text: string }
  | { kind: "bold" | "italic" | "struck"; inside: Inline[] }
  | { kind: "link"; text: string; href: string }
  | { kind: "mention"; username: string };

export type Block =
  | { kind: "code"; text: string }
  | { kind: "quote" | "paragraph"; lines: Inline[][] }
  | { kind: "list"; items: Inline[][] };

/** Deeper nesting is shown as it was typed. */
const DEPTH_MAX = 4;
/** Longest line that is searched for marks; a longer one is not written by a person. */
const LINE_CHARS_MAX = 2_000;

const FENCE = /^ {0,3}```/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^ {0,3}[-*] +(?=\S)/;

export function parse(text: string, mentions: readonly string[] = []): Block[] {
  const blocks: Block[] = [];
  const lines = text.split("\n");
  const names = [...mentions].sort((a, b) => b.length - a.length);
  let at = 0;
  const take = (is: RegExp) => {
    const taken: Inline[][] = [];
    while (at < lines.length && is.test(lines[at]!)) taken.push(parseInline(lines[at++]!.replace(is, ""), names));
    return taken;
  };
  while (at < lines.length) {
    const line = lines[at]!;
    const close = FENCE.test(line) ? lines.findIndex((other, index) => index > at && FENCE.test(other)) : -1;
    if (close > at) {
      blocks.push({ kind: "code", text: lines.slice(at + 1, close).join("\n") });
      at = close + 1;
    } else if (QUOTE.test(line)) {
      blocks.push({ kind: "quote", lines: take(QUOTE) });
    } else if (ITEM.test(line)) {
      blocks.push({ kind: "list", items: take(ITEM) });
    } else {
      const paragraph: Inline[][] = [];
      do paragraph.push(parseInline(lines[at++]!, names));
      while (at < lines.length && !startsBlock(lines[at]!));
      blocks.push({ kind: "paragraph", lines: paragraph });
    }
  }
  return blocks;
}

const startsBlock = (line: string) => FENCE.test(line) || QUOTE.test(line) || ITEM.test(line);

/** What may begin at a place of a line. The address ends before punctuation that ends a sentence. */
const CODE = /`([^`]+)`/y;
const BOLD = /\*\*(?=\S)(.+?\S|\S)\*\*/y;
const STAR = /\*(?=[^\s*])(.*?[^\s*])\*(?!\*)|\*([^\s*])\*(?!\*)/y;
const LINE = /_(?=[^\s_])(.*?[^\s_]|)_(?![\p{L}\p{N}_])/uy;
const STRUCK = /~~(?=\S)(.+?\S|\S)~~/y;
const ADDRESS = /(?:https?:\/\/|mailto:)[^\s<>"`]*[^\s<>"`.,:;!?'*_~)\]}]/iy;
const WORD = /[\p{L}\p{N}_]/u;

function parseInline(line: string, names: readonly string[], depth = 0): Inline[] {
  if (line.length > LINE_CHARS_MAX || depth > DEPTH_MAX) return [line];
  const parts: Inline[] = [];
  let plain = "";
  let at = 0;
  const push = (part: Inline, length: number) => {
    if (plain) parts.push(plain);
    plain = "";
    parts.push(part);
    at += length;
  };
  const match = (expression: RegExp) => {
    expression.lastIndex = at;
    return expression.exec(line);
  };
  const within = (kind: "bold" | "italic" | "struck", found: RegExpExecArray) =>
    push({ kind, inside: parseInline(found[1] ?? found[2] ?? "", names, depth + 1) }, found[0].length);
  while (at < line.length) {
    const char = line[at]!;
    const afterWord = at > 0 && WORD.test(line[at - 1]!);
    let found: RegExpExecArray | null = null;
    if (char === "`" && (found = match(CODE))) push({ kind: "code", text: found[1]! }, found[0].length);
    else if (char === "*" && (found = match(BOLD))) within("bold", found);
    else if (char === "*" && (found = match(STAR))) within("italic", found);
    else if (char === "_" && !afterWord && (found = match(LINE)) && found[1]) within("italic", found);
    else if (char === "~" && (found = match(STRUCK))) within("struck", found);
    else if (/[hm]/i.test(char) && !afterWord && (found = match(ADDRESS))) {
      const href = safeAddress(found[0]);
      if (href) push({ kind: "link", text: found[0], href }, found[0].length);
      else ((plain += found[0]), (at += found[0].length));
    } else if (char === "@" && !afterWord) {
      const name = mentioned(line.slice(at + 1), names);
      if (name) push({ kind: "mention", username: name }, 1 + name.length);
      else ((plain += char), at++);
    } else ((plain += char), at++);
  }
  if (plain) parts.push(plain);
  return parts;
}

/** The longest name that begins here and ends before a character that is no letter, digit or `_`. */
function mentioned(rest: string, names: readonly string[]): string | undefined {
  const isWhole = (name: string) => rest.startsWith(name) && !(rest[name.length] && WORD.test(rest[name.length]!));
  return names.find(isWhole) ?? (isWhole("all") && names.length > 0 ? "all" : undefined);
}

/** The address, if a click on it can do no harm here. */
export function safeAddress(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const { protocol, href } = new URL(text);
  return ["http:", "https:", "mailto:"].includes(protocol) ? href : undefined;
}

/** A line that stands for the message in a list, without marks. */
export function snippet(text: string, chars = 140): string {
  const begin = text.slice(0, 4 * chars).replace(/```\w*\n?|^> ?|\*\*|~~|`/gm, "");
  return begin.replace(/\s+/g, " ").trim().slice(0, chars);
}
