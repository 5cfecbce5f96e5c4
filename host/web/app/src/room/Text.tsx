// The content of a message, with its marks.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { parse, type Block, type Inline } from "../text/markdown";

/** A longer text is cut, until somebody wants all of it. */
const CHARS_SHOWN_MAX = 3_000;
const LINES_SHOWN_MAX = 30;
/** A longer text is shown as it was written. To draw thousands of marks takes seconds. */
const MARKED_CHARS_MAX = 16_000;

const TAGS = { bold: "strong", italic: "em", struck: "s" } as const;

function inline(part: Inline, key: number, me: string): JSX.Element | string {
  if (typeof part === "string") return part;
  switch (part.kind) {
    case "code":
      return <code key={key}>{part.text}</code>;
    case "link":
      return (
        <a key={key} href={part.href} target="_blank" rel="noopener noreferrer nofollow">
          {part.text}
        </a>
      );
    case "mention":
      return (
        <bdi key={key} class={part.username === me || part.username === "all" ? "mention is-me" : "mention"}>
          @{part.username}
        </bdi>
      );
    default: {
      const Tag = TAGS[part.kind];
      return <Tag key={key}>{part.inside.map((inside, at) => inline(inside, at, me))}</Tag>;
    }
  }
}

const line = (parts: Inline[], me: string) => parts.map((part, at) => inline(part, at, me));

/** Lines that a person has separated stay separate. Text that follows text is one node: to remove many takes long. */
function lines(all: Inline[][], me: string) {
  const parts: Inline[] = [];
  for (const part of all.flatMap((parts, at) => (at === 0 ? parts : ["\n", ...parts]))) {
    const last = parts.at(-1);
    if (typeof part === "string" && typeof last === "string") parts[parts.length - 1] = last + part;
    else parts.push(part);
  }
  return line(parts, me);
}

function block(part: Block, key: number, me: string) {
  switch (part.kind) {
    case "code":
      return (
        <pre key={key} tabIndex={0} role="group" aria-label="Code" dir="ltr">
          <code>{part.text}</code>
        </pre>
      );
    case "list":
      return (
        <ul key={key} dir="auto">
          {part.items.map((item, at) => (
            <li key={at}>{line(item, me)}</li>
          ))}
        </ul>
      );
    case "quote":
      return (
        <blockquote key={key} dir="auto">
          {lines(part.lines, me)}
        </blockquote>
      );
    default:
      return (
        <p key={key} dir="auto">
          {lines(part.lines, me)}
        </p>
      );
  }
}

export function Text({ content, mentions, me }: { content: string; mentions?: readonly string[] | undefined; me: string }) {
  const [whole, setWhole] = useState(false);
  const isLong = content.length > CHARS_SHOWN_MAX || newlines(content) > LINES_SHOWN_MAX;
  const shown = isLong && !whole ? content.slice(0, CHARS_SHOWN_MAX) : content;
  const blocks: Block[] = shown.length > MARKED_CHARS_MAX ? [{ kind: "paragraph", lines: [[shown]] }] : parse(shown, mentions);
  return (
    <>
      <div class={isLong && !whole ? "text is-cut" : "text"}>{blocks.map((part, at) => block(part, at, me))}</div>
      {isLong && (
        <button type="button" class="link-button" onClick={() => setWhole(!whole)}>
          {whole ? "Show less" : "Show all"}
        </button>
      )}
    </>
  );
}

function newlines(text: string): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0 && count <= LINES_SHOWN_MAX; at = text.indexOf("\n", at + 1)) count++;
  return count;
}

const EMOJIS_ONLY = /^(?:\p{RGI_Emoji}|\s)+$/v;
/** One to three emojis alone are shown large. */
export function isBig(content: string): boolean {
  return content.length <= 40 && EMOJIS_ONLY.test(content) && [...new Intl.Segmenter().segment(content.replace(/\s/g, ""))].length <= 3;
}
