// Keeps the page's own files, so that it opens without a connection. What people wrote is kept by the
// page itself.

export {};

declare const self: ServiceWorkerGlobalScope;
/** The hash of all files; another release has another one. */
declare const VERSION: string;
/** The page's files, with their hashes. */
declare const FILES: string[];

const CACHE = `page-${VERSION}`;
/** A server that takes longer than this to answer is not waited for. */
const PATIENCE_MILLISECONDS = 3_000;
/** A proxy may add to the headers by which answers vary: a file is the same for all. */
const SAME: MultiCacheQueryOptions = { ignoreVary: true, cacheName: CACHE };

self.addEventListener("install", (event) => {
  event.waitUntil(fill().then(() => self.skipWaiting()));
});

/** Fails if a file is not of this release: in an upgrade, a host of the other one may answer. The browser tries again later. */
async function fill(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES);
  const read = async (file: string) => (await cache.match(file, SAME))!.arrayBuffer();
  const page = new TextDecoder().decode(await read("/"));
  for (const file of FILES) {
    const [, hash] = file.split("?v=");
    const isOfRelease = hash === undefined || hash === (await hashOf(await read(file)));
    // A script names the files that come later.
    const isNamed = hash === undefined || page.includes(file) || file.startsWith("/more.js");
    if (isOfRelease && isNamed) continue;
    await caches.delete(CACHE);
    throw new Error(`${file} is of another release`);
  }
}

/** As `host/web/app/build.mjs` makes it. */
async function hashOf(bytes: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest.slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => Promise.all(names.filter((name) => name !== CACHE).map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname, search } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin) return;
  if (!FILES.includes(pathname + search)) return;
  event.respondWith(pathname === "/" ? newest(request) : kept(request));
});

/** A file with its hash in its address never changes. */
async function kept(request: Request): Promise<Response> {
  return (await caches.match(request, SAME)) ?? fetch(request);
}

/** The page as the server has it now or, without the server, as it was. */
async function newest(request: Request): Promise<Response> {
  const old = await caches.match("/", SAME);
  if (!old) return fetch(request);
  const late = new Promise<Response>((resolve) => setTimeout(() => resolve(old.clone()), PATIENCE_MILLISECONDS));
  const fresh = fetch(request).then((answer) => (answer.ok ? answer : old.clone()), () => old.clone());
  return Promise.race([fresh, late]);
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const hash = `#/c/${(event.notification.data as { conversation: number }).conversation}`;
  const show = async () => {
    const [client] = await self.clients.matchAll({ type: "window" });
    if (!client) return self.clients.openWindow(`/${hash}`);
    client.postMessage({ hash });
    return client.focus();
  };
  event.waitUntil(show());
});
