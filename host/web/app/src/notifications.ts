// Being told of new messages while the page is in the background: in the title, and by notifications.

import { effect, signal } from "@preact/signals";
import { toast } from "./parts/Toast";

const KEY = "notifications";
const isAllowed = () => "Notification" in globalThis && Notification.permission === "granted";

const wanted = signal(read() && isAllowed());
/** Whether notifications are shown. */
export const notifies = wanted;

function read(): boolean {
  try {
    return localStorage.getItem(KEY) === "on";
  } catch {
    return false;
  }
}

export async function setNotifies(on: boolean): Promise<void> {
  const isOn = on && (await Notification.requestPermission()) === "granted";
  if (on && !isOn) toast("This browser does not allow notifications from this page. Its settings can change that.");
  wanted.value = isOn;
  try {
    localStorage.setItem(KEY, isOn ? "on" : "off");
  } catch {
    // It lasts as long as the tab.
  }
}

/** Those of one conversation replace each other. */
export async function notify(title: string, body: string, conversation: number): Promise<void> {
  if (!wanted.value || !document.hidden) return;
  const options = { body, tag: `conversation-${conversation}`, icon: "/icon-192.png", data: { conversation } };
  try {
    const worker = await navigator.serviceWorker?.getRegistration();
    if (worker) await worker.showNotification(title, options);
    else {
      const shown = new Notification(title, options);
      shown.onclick = () => {
        window.focus();
        location.hash = `#/c/${conversation}`;
        shown.close();
      };
    }
  } catch {
    // Some systems refuse them without saying so before.
  }
}

/** Those that are still on the screen have texts of the user who has left. */
export async function closeNotifications(): Promise<void> {
  const worker = await navigator.serviceWorker?.getRegistration().catch(() => undefined);
  for (const shown of (await worker?.getNotifications()) ?? []) shown.close();
}

/** How many conversations have something new. */
export const unreadConversations = signal(0);
/** What is open. */
export const openTitle = signal("");

export function keepTitle(): void {
  effect(() => {
    const name = openTitle.value ? `${openTitle.value} · Chat` : "Chat";
    document.title = unreadConversations.value > 0 ? `(${unreadConversations.value}) ${name}` : name;
  });
}
