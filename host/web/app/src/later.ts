// The part of the page that comes after the conversations are shown.

import { signal } from "@preact/signals";

type More = typeof import("./more");

const loaded = signal<More | null>(null);
/** Null until it is there. */
export const more = loaded;

let load: () => Promise<More> = () => Promise.reject(new Error("nothing to load"));
let loading: Promise<void> | null = null;

/** The first script alone names the second one: what both share cannot know the hash of either. */
export function loadWith(loader: typeof load): void {
  load = loader;
}

export function loadMore(): Promise<void> {
  loading ??= load().then(
    (module) => void (loaded.value = module),
    () => void (loading = null),
  );
  return loading;
}

/** When the browser has nothing else to do. */
export function loadMoreSoon(): void {
  if ("requestIdleCallback" in globalThis) requestIdleCallback(() => void loadMore(), { timeout: 2_000 });
  else setTimeout(() => void loadMore(), 500);
}
