// Short words about what could not be done, or was done out of sight; and the one voice for screen readers.

import { signal } from "@preact/signals";

const TOAST_MILLISECONDS = 6_000;
/** New messages that come within this time are read out together. */
const ANNOUNCE_MILLISECONDS = 700;
/** More than this many at once are counted instead. */
const ANNOUNCED_MAX = 3;

const toasts = signal<{ id: number; text: string }[]>([]);
let ids = 0;

export function toast(text: string): void {
  const id = ++ids;
  toasts.value = [...toasts.value.slice(-2), { id, text }];
  setTimeout(() => (toasts.value = toasts.value.filter((toast) => toast.id !== id)), TOAST_MILLISECONDS);
}

export function forgetToasts(): void {
  toasts.value = [];
}

/** Shows why something failed; for `catch`. */
export const toastError = (error: unknown) => toast((error as Error).message);

export function Toasts() {
  return (
    <div class="toasts" role="status">
      {toasts.value.map(({ id, text }) => (
        <div class="toast" key={id}>
          {text}
        </div>
      ))}
    </div>
  );
}

const announced = signal("");
let waiting: string[] = [];
let timer: ReturnType<typeof setTimeout> | undefined;

/** Lets a screen reader say it once it is free. */
export function announce(text: string): void {
  waiting.push(text);
  timer ??= setTimeout(() => {
    timer = undefined;
    const left = waiting.length - ANNOUNCED_MAX;
    announced.value = left > 0 ? [...waiting.slice(0, ANNOUNCED_MAX), `and ${left} more`].join(". ") : waiting.join(". ");
    waiting = [];
  }, ANNOUNCE_MILLISECONDS);
}

/** The next user of the browser is not told of it. */
export function forgetAnnounced(): void {
  clearTimeout(timer);
  timer = undefined;
  waiting = [];
  announced.value = "";
}

export function Announcer() {
  return (
    <div class="unseen" aria-live="polite">
      {announced.value}
    </div>
  );
}
