// The client library, as the screens of this page use it.

import { createChat, type ConversationView, type Live, type Profile, type RoomMessage } from "chatapp-sdk";
import { browserAuth } from "chatapp-sdk/account";
import { createContacts } from "chatapp-sdk/contacts";
import { indexedDb } from "chatapp-sdk/indexeddb";
import { useLive as useLiveOr } from "chatapp-sdk/react";
import { inNextFrame } from "./frames";
import { notify } from "./notifications";
import { announce } from "./parts/Toast";
import { route } from "./route";
import { snippet } from "./text/markdown";
import { isBlank } from "./text/names";

export type { ConversationView, Message, Profile } from "chatapp-sdk";
export type Role = NonNullable<ConversationView["roles"]>[string];
export type Item = RoomMessage;
export type StoredItem = Extract<RoomMessage, { state: "stored" }>;

export const chat = createChat({ auth: browserAuth(localStorage), storage: indexedDb() });

export const request = chat.request;

const calm = new WeakMap<Live<unknown>, Live<unknown>>();

/** Many messages may arrive between two frames: they are drawn once. */
export function useLive<T>(live: Live<T>): T {
  let own = calm.get(live) as Live<T> | undefined;
  if (!own) calm.set(live, (own = { get: live.get, subscribe: (changed) => live.subscribe(() => inNextFrame(changed)) }));
  return useLiveOr(own, live.get());
}

export type Identity =
  | { is: "unknown" }
  /** `notice`: why, where somebody was logged in. */
  | { is: "nobody"; notice: string | null }
  | { is: "somebody"; username: string };

/** Whether somebody is logged in on this device. */
export function useIdentity(): Identity {
  const connection = useLive(chat.connection);
  const me = useLive(chat.me);
  if (connection.state === "needs-auth") return { is: "nobody", notice: me && `Your login has ended. Log in again to go on as ${me.username}.` };
  return me ? { is: "somebody", username: me.username } : { is: "unknown" };
}

const NOBODY: Profile = { username: "", fullname: "", is_online: false, last_online: 0, created_at: 0 };

/** The own profile says a little more. */
export type Me = Profile & { reachable_by?: "everyone" | "contacts" };

export const useMe = (): Me => useLive(chat.me) ?? NOBODY;
export const useConversations = () => ({ conversations: useLive(chat.conversations), isLoaded: useLive(chat.isLoaded) });
export const useConversation = (id: number): ConversationView | null => useLive(chat.conversation(id).info);
export const usePeople = () => useLive(chat.people);
export const usePerson = (username: string): Profile | undefined => useLive(chat.people).get(username);

/** The server's name for all whose accounts are deleted; nobody else can have it. */
export const DELETED: Profile = { ...NOBODY, username: "deleted", fullname: "Deleted account" };

const unknown = new Map<string, Profile>();

/** Somebody who was not heard of yet, or whose name cannot be seen, goes by the username. */
export function personOf(username: string): Profile {
  if (username === DELETED.username) return DELETED;
  const known = chat.people.get().get(username);
  if (known && !isBlank(known.fullname)) return known;
  if (!known) lookUp(username);
  let made = unknown.get(username);
  if (!made) unknown.set(username, (made = { ...NOBODY, username, fullname: username }));
  return made;
}

const lookedUp = new Set<string>();

/** Asks who that is, once. The library keeps what it hears. */
function lookUp(username: string): void {
  if (username === "" || lookedUp.has(username)) return;
  lookedUp.add(username);
  request("get_user", { username }).catch(() => {});
}

/** What a conversation is called. */
export const titleOf = (conversation: ConversationView): string => {
  const { title, profile, id } = conversation;
  if (isAbandoned(conversation)) return DELETED.fullname;
  return isBlank(title) ? (profile?.username ?? `Conversation ${id}`) : title;
};

/** Whether it is one of two, and the other one has deleted the account. */
export const isAbandoned = ({ direct, members }: ConversationView): boolean => direct && members?.includes(DELETED.username) === true;

export const fullnameOf = (username: string) => personOf(username).fullname;

/** Usernames may be `constructor` or `toString`, which every object has. */
export const roleOf = ({ roles = {} }: ConversationView, username: string): Role | undefined =>
  Object.hasOwn(roles, username) ? roles[username] : undefined;

/** Opens the conversation of two, or makes it. */
export async function openDirect(username: string): Promise<number> {
  const { id } = await request("create_conversation", { members: [username], direct: true });
  return id;
}

const contacts = createContacts(chat);

export const useContacts = () => useLive(contacts.list);
export const useBlocked = () => useLive(contacts.blocked);
export const usePending = () => useLive(chat.pending);

export const { add: addContact, remove: removeContact, block, unblock } = contacts;

/** Tells of new messages: aloud in the open conversation, by a notification in the background. */
export function start(): void {
  chat.on("message", (message) => {
    const me = chat.me.get()?.username;
    if (message.sender_username === me) return;
    const conversation = chat.conversations.get().find(({ id }) => id === message.conversation_id);
    const who = fullnameOf(message.sender_username);
    const text = snippet(message.content);
    const now = route.peek();
    if (now.screen === "room" && now.id === message.conversation_id && !document.hidden) announce(`${who}: ${text}`);
    const title = !conversation || conversation.direct ? who : `${who} in ${titleOf(conversation)}`;
    void notify(title, text, message.conversation_id);
  });
}
