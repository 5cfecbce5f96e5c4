// The messages of one conversation that a client holds: everything from `floor` on, in the order of
// their ids. A window never changes; there is a new one.

import type { Message } from "./protocol.ts";

/** A message of the server, as it is now. */
export interface StoredMessage extends Message {
  /** For lists: it stays the same when an own message is stored, and differs from all others. */
  key: string;
  state: "stored";
}

export interface Window {
  /** Every message with this id or a higher one is held. 0: there are no older ones. */
  readonly floor: number;
  readonly items: readonly StoredMessage[];
}

export function storedMessage(message: Message, me: string): StoredMessage {
  const isOwn = message.client_id !== undefined && message.sender_username === me;
  // What others call their messages may be anything.
  return { ...message, key: isOwn ? `c${message.client_id}` : `m${message.id}`, state: "stored" };
}

/** The message with this reaction, or without it. */
export function withReaction<M extends Message>(message: M, emoji: string, username: string, on: boolean): M {
  const { [emoji]: before = [], ...others } = message.reactions ?? {};
  if (before.includes(username) === on) return message;
  const names = on ? [...before, username] : before.filter((name) => name !== username);
  // The others keep their places.
  return { ...message, reactions: names.length === 0 ? others : { ...message.reactions, [emoji]: names } };
}

/** The message once that account is deleted. */
export function withoutUser<M extends Message>(message: M, username: string): M {
  for (const emoji in message.reactions) message = withReaction(message, emoji, username, false);
  return message.sender_username === username ? { ...message, sender_username: "deleted" } : message;
}

/** The place of `id`, or the one where it belongs. */
export function indexOf(items: readonly { id: number }[], id: number): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((items[middle] as { id: number }).id < id) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function find(window: Window, id: number): StoredMessage | undefined {
  const item = window.items[indexOf(window.items, id)];
  return item?.id === id ? item : undefined;
}

/**
 * Takes messages in, each in place of what is there, unless that is newer. One below the floor belongs
 * to a part of the history that is not loaded.
 */
export function takeIn(window: Window, messages: readonly StoredMessage[]): Window {
  let items: StoredMessage[] | null = null;
  for (const message of messages) {
    if (message.id < window.floor) continue;
    const held = items ?? window.items;
    const index = indexOf(held, message.id);
    const old = held[index];
    const isHeld = old?.id === message.id;
    if (isHeld && old.rev > message.rev) continue;
    items ??= [...window.items];
    items.splice(index, isHeld ? 1 : 0, message);
  }
  return items === null ? window : { floor: window.floor, items };
}

/** Puts older messages before it; with `floor` as they reach back to. */
export function extend(window: Window, older: readonly StoredMessage[], floor: number): Window {
  return takeIn({ floor: Math.min(floor, window.floor), items: window.items }, older);
}

/** Its latest messages: at most `count`, and about `charsMax` characters. */
export function latest(window: Window, count: number, charsMax: number): Window {
  let start = window.items.length;
  let chars = 0;
  while (start > 0 && window.items.length - start < count) {
    chars += (window.items[start - 1] as StoredMessage).content.length;
    if (chars > charsMax) break;
    start -= 1;
  }
  if (start === 0) return window;
  const items = window.items.slice(start);
  const before = window.items[start - 1] as StoredMessage;
  return { floor: items[0]?.id ?? before.id + 1, items };
}
