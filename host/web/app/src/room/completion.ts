// What may be meant by the word before the caret: a member after @, an emoji after :.

import { more } from "../later";

const SUGGESTIONS_MAX = 8;

export interface Suggestion {
  /** What stands for it in the list. */
  sign: string;
  label: string;
  note: string;
  /** What is put into the text. */
  insert: string;
}

export interface Completion {
  /** Where the word begins in the text. */
  start: number;
  end: number;
  suggestions: Suggestion[];
}

export interface Nameable {
  username: string;
  fullname: string;
}

const WORD = /(?:^|[^\p{L}\p{N}_])(@[^\s@]{0,40}|:[\p{L}_+-][\p{L}\p{N}_+-]{1,20})$/u;

export function complete(text: string, caret: number, people: readonly Nameable[], mayAll: boolean): Completion | null {
  const word = WORD.exec(text.slice(Math.max(0, caret - 64), caret))?.[1];
  if (!word) return null;
  const suggestions = word[0] === "@" ? members(word.slice(1), people, mayAll) : emojis(word.slice(1));
  return suggestions.length > 0 ? { start: caret - word.length, end: caret, suggestions } : null;
}

function members(begin: string, people: readonly Nameable[], mayAll: boolean): Suggestion[] {
  const wanted = begin.toLocaleLowerCase();
  const fits = (name: string) => ` ${name.toLocaleLowerCase()}`.includes(` ${wanted}`);
  const found = people.filter(({ username, fullname }) => fits(username) || fits(fullname));
  const suggestions = found.slice(0, SUGGESTIONS_MAX).map(({ username, fullname }) => ({
    sign: "@",
    label: fullname,
    note: username,
    insert: `@${username} `,
  }));
  if (mayAll && "all".startsWith(wanted)) suggestions.push({ sign: "@", label: "all", note: "everyone here", insert: "@all " });
  return suggestions;
}

function emojis(begin: string): Suggestion[] {
  const found = more.peek()?.findEmojis(begin, SUGGESTIONS_MAX) ?? [];
  return found.map(({ char, name }) => ({ sign: char, label: name, note: "", insert: `${char} ` }));
}
