// Names of people and conversations as they are shown.

/** Signs that are not seen, but change how others are shown. */
const UNSEEN = /[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** It takes much longer to make one than to use it. */
const segmenter = new Intl.Segmenter();

/** One or two letters that stand for a name. */
export function initials(name: string): string {
  const words = name.replace(UNSEEN, "").trim().split(/\s+/).filter(Boolean);
  const first = (word: string | undefined) => (word ? segmenter.segment(word).containing(0)!.segment.slice(0, 8) : "");
  const [one, other] = [first(words[0]), words.length > 1 ? first(words.at(-1)) : ""];
  const isLetter = (text: string) => /^[\p{L}\p{N}]/u.test(text);
  return (isLetter(one) && isLetter(other) ? one + other : one).toLocaleUpperCase() || "?";
}

/** Whether nothing of it can be seen. */
export const isBlank = (name: string) => name.replace(/[\p{C}\p{Z}\u115f\u1160\u3164\uffa0]/gu, "") === "";

/** One of eight hues that a name always has. */
export function hue(name: string): number {
  // FNV-1a.
  let hash = 0x811c9dc5;
  for (let at = 0; at < Math.min(name.length, 64); at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  return ((hash ^ (hash >>> 15)) >>> 0) % 8;
}

/** "Ann, Bo and 3 others". */
export function list(names: readonly string[], max = 3): string {
  if (names.length <= 1) return names[0] ?? "";
  if (names.length <= max) return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
  const others = names.length - (max - 1);
  return `${names.slice(0, max - 1).join(", ")} and ${others} others`;
}

export const count = (number: number, one: string, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;
/** The server counts up to 100, which stands for 100 or more. */
export const upTo99 = (number: number) => (number > 99 ? "99+" : String(number));
