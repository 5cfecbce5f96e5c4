// What the pages of the browser tests can use: the library, and a React app.

import { StrictMode, createElement } from "react";
import { createRoot } from "react-dom/client";

import { Conversation } from "../../examples/Conversation.tsx";
import { type Account, browserAuth, cookieAuth, keptTokenAuth } from "../../src/account.ts";
import { type Chat, createChat, tokenAuth } from "../../src/index.ts";
import { indexedDb } from "../../src/indexeddb.ts";
import { ChatProvider, useConversations } from "../../src/react.ts";

/** A small app: the first conversation. */
function App() {
  const [first] = useConversations();
  return first === undefined ? createElement("p", null, "Nobody is here yet.") : createElement(Conversation, { id: first.id });
}

const sdk = {
  createChat,
  tokenAuth,
  cookieAuth,
  keptTokenAuth,
  browserAuth,
  indexedDb,
  /** Shows the app, as React checks it while it is developed. */
  show(chat: Chat): void {
    const app = createElement(StrictMode, null, createElement(ChatProvider, { chat }, createElement(App)));
    createRoot(document.getElementById("app") as HTMLElement).render(app);
  },
};

declare global {
  interface Window {
    sdk: typeof sdk;
    chat: Chat & Account;
    notes: unknown[];
  }
}

window.sdk = sdk;
window.notes = [];
