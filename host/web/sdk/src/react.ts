// Hooks for React 18 and newer, and for preact/compat. The client is made outside of components, so
// nothing connects twice; on the server, everything is empty.

import { createContext, createElement, useCallback, useContext, useSyncExternalStore } from "react";
import type { ReactElement, ReactNode } from "react";

import type { Chat } from "./chat.ts";
import type { ConnectionState } from "./connection_state.ts";
import type { Live } from "./live.ts";
import type { Profile } from "./protocol.ts";
import type { ConversationHandle, RoomMessages } from "./room.ts";
import type { ConversationView } from "./room_state.ts";

const Context = createContext<Chat | null>(null);

export function ChatProvider({ chat, children }: { chat: Chat; children?: ReactNode }): ReactElement {
  // Preact has other types for it.
  return createElement(Context.Provider as never, { value: chat } as never, children) as never;
}

export function useChat(): Chat {
  const chat = useContext(Context);
  if (chat === null) throw new Error("useChat needs a <ChatProvider chat={…}> around it");
  return chat;
}

/** The value of a live value; `empty` while a server renders. */
export function useLive<T>(live: Live<T>, empty: T): T {
  const subscribe = useCallback((changed: () => void) => live.subscribe(changed), [live]);
  return useSyncExternalStore(subscribe, live.get, () => empty);
}

const CONNECTING: ConnectionState = { state: "connecting" };
const NO_CONVERSATIONS: readonly ConversationView[] = [];
const NO_MESSAGES: RoomMessages = { items: [], hasOlder: false, loading: true };
const NOBODY: ReadonlyMap<string, Profile> = new Map();

export function useConnection(): ConnectionState {
  return useLive(useChat().connection, CONNECTING);
}

/** Whether the connection has been away for some seconds. */
export function useIsAway(): boolean {
  return useLive(useChat().isAway, false);
}

export function useMe(): Profile | null {
  return useLive(useChat().me, null);
}

export function useConversations(): readonly ConversationView[] {
  return useLive(useChat().conversations, NO_CONVERSATIONS);
}

export function usePeople(): ReadonlyMap<string, Profile> {
  return useLive(useChat().people, NOBODY);
}

/** Everything that a component needs to show a conversation and to write to it. */
export interface OpenConversation extends RoomMessages {
  room: ConversationHandle;
  info: ConversationView | null;
}

export function useConversation(id: number): OpenConversation {
  const room = useChat().conversation(id);
  const info = useLive(room.info, null);
  const messages = useLive(room.messages, NO_MESSAGES);
  return { room, info, ...messages };
}
