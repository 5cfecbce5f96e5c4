// The frames of the socket, as ../../../../handler/PROTOCOL.md describes them.

/** What a program may do about an error. */
export type ErrorCode =
  | "invalid"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "too_large"
  | "rate_limited"
  | "unavailable"
  | "internal";

export type Role = "owner" | "admin";

/** What everybody may know of a user. */
export interface Profile {
  username: string;
  fullname: string;
  is_online: boolean;
  /** Unix seconds. `null` if the other one has blocked the caller. */
  last_online: number | null;
  created_at: number;
  /** Only in the caller's own. */
  reachable_by?: "everyone" | "contacts";
}

export interface Message {
  id: number;
  conversation_id: number;
  /** The conversation's rev at the message's latest change. */
  rev: number;
  sender_username: string;
  /** Never empty, unless it is deleted. */
  content: string;
  reply_id: number | null;
  /** Unix seconds. */
  sent_at: number;
  client_id?: string;
  edited_at?: number;
  deleted?: true;
  /** For each emoji the usernames of those who reacted with it. */
  reactions?: Record<string, string[]>;
  mentions?: string[];
}

export interface Sent extends Message {
  /** It was stored before; nothing is stored now. */
  duplicate?: true;
}

export interface Conversation {
  id: number;
  name: string;
  rev: number;
  direct: boolean;
  created_at: number | null;
  /** In the order of joining. A change of a conversation of more than 100 members leaves it out. */
  members?: string[];
  roles: Record<string, Role>;
}

export interface ListedConversation {
  id: number;
  name: string;
  rev: number;
  direct: boolean;
  member_count: number;
  /** If there are at most ten, in any order. */
  members?: string[];
  /** The other member of a direct conversation. */
  profile?: Profile;
  read_id: number;
  /** 100 stands for 100 or more. */
  unread: number;
  mentions: number;
  last_message: Message | null;
}

export interface ConversationInfo extends Conversation {
  members: string[];
  /** Up to which message each has read; with at most 100 members. */
  read?: Record<string, number>;
  profiles?: Profile[];
}

export interface ChangedConversation extends Conversation {
  read_id: number;
  unread: number;
  messages: Message[];
}

export interface MemberLeft {
  conversation_id: number;
  username: string;
  rev: number;
  roles?: Record<string, Role>;
}

export interface Synced {
  conversations: ChangedConversation[];
  left: number[];
  more: boolean;
  epoch?: string;
}

export interface History {
  conversation_id: number;
  messages: Message[];
  has_more: boolean;
}

export interface MentionList {
  messages: Message[];
  has_more: boolean;
}

export interface TypingNotice {
  conversation_id: number;
  username: string;
  on: boolean;
}

export interface ReadMark {
  conversation_id: number;
  username: string;
  message_id: number;
}

/** Each request: its fields and the data of its answer. */
export interface Events {
  ping: { request: Record<string, never>; data: string };
  self: { request: Record<string, never>; data: Profile };
  add_contact: { request: { contact_username: string }; data: { message: string; contact: Profile } };
  remove_contact: { request: { username: string }; data: { username: string } };
  get_contacts: { request: Record<string, never>; data: { message: string; contacts: string[]; profiles: Profile[] } };
  get_user: { request: { username: string }; data: Profile };
  search_users: { request: { query: string; limit?: number }; data: { users: Profile[] } };
  update_profile: { request: { fullname?: string; reachable_by?: "everyone" | "contacts" }; data: Profile };
  report_message: { request: { message_id: number; reason: string }; data: { message_id: number } };
  block_user: { request: { username: string }; data: { username: string } };
  unblock_user: { request: { username: string }; data: { username: string } };
  get_blocked: { request: Record<string, never>; data: { usernames: string[] } };
  create_conversation: { request: { members: string[]; name?: string; direct?: boolean }; data: Conversation };
  get_conversations: { request: { limit?: number; before?: number }; data: ListedConversation[] };
  get_conversation_info: { request: { id: number }; data: ConversationInfo };
  rename_conversation: { request: { conversation_id: number; name: string }; data: Conversation };
  add_members: { request: { conversation_id: number; members: string[] }; data: Conversation & { added: string[] } };
  remove_member: { request: { conversation_id: number; username: string }; data: MemberLeft };
  leave_conversation: { request: { conversation_id: number }; data: MemberLeft };
  set_role: { request: { conversation_id: number; username: string; role: Role | "member" }; data: Conversation };
  send_message: {
    request: { conversation_id: number; content: string; reply_id?: number | null; client_id?: string };
    data: Sent;
  };
  get_messages: {
    request: { conversation_id: number; before?: number; after?: number; limit?: number };
    data: History;
  };
  edit_message: { request: { message_id: number; content: string }; data: Message };
  delete_message: { request: { message_id: number }; data: Message };
  react: { request: { message_id: number; emoji: string; on: boolean }; data: Message };
  typing: { request: { conversation_id: number; on: boolean }; data: TypingNotice };
  mark_read: { request: { conversation_id: number; message_id: number }; data: ReadMark };
  get_mentions: { request: { before?: number; limit?: number }; data: MentionList };
  search_messages: {
    request: { query: string; conversation_id?: number; before?: number; limit?: number };
    data: MentionList;
  };
  sync: { request: { revs: Record<string, number>; limit?: number; epoch?: string }; data: Synced };
}

/** Each push: its data. */
export interface Pushes {
  create_conversation: Conversation;
  rename_conversation: Conversation;
  add_members: Conversation & { added: string[] };
  remove_member: MemberLeft;
  leave_conversation: MemberLeft;
  set_role: Conversation;
  send_message: Message;
  edit_message: Message;
  delete_message: Message;
  react: Message;
  typing: TypingNotice;
  mark_read: ReadMark;
  user_status: { username: string; is_online: boolean; last_online: number };
  contact_added: Profile;
  profile_updated: Profile;
  sync: Synced;
}
