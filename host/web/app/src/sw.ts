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
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(FILES))
      .then(() => self.skipWaiting()),
  );
});

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
