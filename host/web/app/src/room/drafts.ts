// What was begun to be written, for each conversation: kept through a reload and a closed tab.

import { signal } from "@preact/signals";

export interface Draft {
  text: string;
  /** The message that it answers. */
  replyTo?: number;
}

const KEY = "drafts";
/** The user who logged in last. */
const OWNER_KEY = "drafts-of";
/** Drafts that are kept: the latest ones. */
const DRAFTS_MAX = 100;
const WRITE_MILLISECONDS = 400;

export const drafts = signal<ReadonlyMap<number, Draft>>(read());

function read(): Map<number, Draft> {
  try {
    return new Map(JSON.parse(localStorage.getItem(KEY) ?? "[]") as [number, Draft][]);
  } catch {
    return new Map();
  }
}

let timer: ReturnType<typeof setTimeout> | undefined;

function write(): void {
  clearTimeout(timer);
  timer = undefined;
  try {
    localStorage.setItem(KEY, JSON.stringify([...drafts.value].slice(-DRAFTS_MAX)));
  } catch {
    // Without storage, drafts last as long as the tab.
  }
}

export function keepDraft(conversation: number, draft: Draft): void {
  const next = new Map(drafts.value);
  next.delete(conversation);
  if (draft.text || draft.replyTo !== undefined) next.set(conversation, draft);
  drafts.value = next;
  timer ??= setTimeout(write, WRITE_MILLISECONDS);
}

export function forgetDrafts(): void {
  drafts.value = new Map();
  write();
}

/** The drafts of another user, whose login ended without a logout, are forgotten. */
export function ownDrafts(username: string): void {
  try {
    if ((localStorage.getItem(OWNER_KEY) ?? username) !== username) forgetDrafts();
    localStorage.setItem(OWNER_KEY, username);
  } catch {
    forgetDrafts();
  }
}

addEventListener("pagehide", () => timer !== undefined && write());
addEventListener("storage", (event) => {
  if (event.key === KEY) drafts.value = read();
});
