// The types of the protocol. This file is written by `cargo run -p tests --bin schema -- write`,
// from the types that the server sends: do not edit it.

/**
 * An account was deleted. The contacts of its user are told, but not those whom the user had
 * blocked, and the other members of its direct conversations.
 */
export interface AccountDeleted {
  /** The username that the account had. */
  username: string;
  /** The direct conversation whose other member it was. Left out for a contact. */
  conversation_id?: number;
  /** The rev of that conversation after the change. */
  rev?: number;
}

/** The new contact. */
export interface AddedContact {
  /** A text for people. */
  message: string;
  /** Who is a contact now. */
  contact: Profile;
}

/** The conversation, and who is new in it. */
export interface AddedMembers extends Conversation {
  /** The usernames of the new members. */
  added: string[];
}

/** A user who was blocked, or who no longer is. */
export interface BlockedUser {
  /** Who is blocked, or no longer blocked. */
  username: string;
}

/** The users whom the caller has blocked. */
export interface BlockedUsers {
  /** In the order in which they were blocked; at most 1,000. */
  usernames: string[];
}

/**
 * A conversation that has changed. Its `rev` is the one that the client has after it has taken the
 * answer in.
 */
export interface ChangedConversation extends Conversation {
  /** The id of the message up to which the caller has read; 0 if there is none. */
  read_id: number;
  /**
   * The number of messages of others after `read_id` that are not deleted. 100 stands for itself
   * and every higher number.
   */
  unread: number;
  /** The messages that have changed, in the order of their revs, in their present state. */
  messages: Message[];
}

/** The caller's contacts. */
export interface Contacts {
  /** A text for people. */
  message: string;
  /** Their usernames, the oldest contact first. */
  contacts: string[];
  /** Their profiles, in the same order. */
  profiles: Profile[];
}

/** A conversation. */
export interface Conversation {
  id: number;
  name: string;
  /** The number of lasting changes in it. */
  rev: number;
  /** Whether it is the one conversation of two users, which cannot be changed. */
  direct: boolean;
  /** Unix seconds; `null` for a conversation from before this was stored. */
  created_at: number | null;
  /** For the usernames of owners and admins: `"owner"` or `"admin"`. */
  roles: Record<string, "owner" | "admin">;
  /**
   * A list of usernames, in the order in which they joined. Left out when a large conversation has
   * changed.
   */
  members?: string[];
}

/** A conversation with all its members. */
export interface ConversationInfo extends Conversation {
  /** In the order of the members, if there are at most 100. */
  profiles?: Profile[];
  /**
   * The id of the last message that each member has read, by username, if the conversation has at
   * most 100 members.
   */
  read?: Record<string, number>;
}

/** The codes of errors, for programs. */
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

/** The answer. Hits come newest first. */
export interface FoundMessages {
  /** As JSON: `Hit`s, put together already. */
  messages: Hit[];
  /**
   * Whether there may be more: the page is full, or the search has stopped because it took long.
   */
  has_more: boolean;
  /** For the next page: all messages from this id on were looked at. Absent without `has_more`. */
  before?: number;
}

/** The users who were found. */
export interface FoundUsers {
  /** At most `limit`. */
  users: Profile[];
}

/** Messages of a conversation. */
export interface History {
  conversation_id: number;
  /** The newest first. */
  messages: Message[];
  /** Whether there are more in this direction. */
  has_more: boolean;
}

/** A message that was found. */
export interface Hit extends Message {
  /**
   * Where its content has what was searched for: from where to where, in UTF-16 code units, in the
   * order of the content. At most 100.
   */
  hits: number[][];
}

/** A conversation in the list of the caller's conversations. */
export interface ListedConversation {
  id: number;
  name: string;
  /** The number of lasting changes in it. */
  rev: number;
  /** Whether it is the one conversation of two users, which cannot be changed. */
  direct: boolean;
  member_count: number;
  /** The id of the message up to which the caller has read; 0 if there is none. */
  read_id: number;
  /**
   * The number of messages of others after `read_id` that are not deleted. 100 stands for itself
   * and every higher number.
   */
  unread: number;
  /** How many of these mention the caller. */
  mentions: number;
  last_message: Message | null;
  /** The usernames, in any order, if there are at most 10. */
  members?: string[];
  /** The profile of the other member of a direct conversation. */
  profile?: Profile;
}

/** Somebody is no longer a member. */
export interface MemberLeft {
  conversation_id: number;
  /** Who has left or was removed. */
  username: string;
  /** The conversation's rev after the change. */
  rev: number;
  /** The roles after the change: the last owner leaves the ownership to somebody. */
  roles: Record<string, "owner" | "admin">;
  /** `true` if the account is deleted. Otherwise left out. */
  deleted?: true;
}

/** Messages of others, in the caller's conversations, that mention the caller. */
export interface MentionList {
  /** The newest first. */
  messages: Message[];
  /** Whether there are older ones. */
  has_more: boolean;
}

/** A message in its present state. */
export interface Message {
  /** Its place in the history: later messages have higher ids. */
  id: number;
  conversation_id: number;
  /** The conversation's rev at the latest change of the message. */
  rev: number;
  /** The id of the message that it answers. */
  reply_id: number | null;
  /** Unix seconds. */
  sent_at: number;
  sender_username: string;
  /** Empty if the message is deleted, and never otherwise. */
  content: string;
  /** What its sender calls it. */
  client_id?: string;
  /** `true` if its content was erased. */
  deleted?: true;
  /** When it was last edited, in Unix seconds. */
  edited_at?: number;
  /** The usernames of those whom it mentions. */
  mentions?: string[];
  /**
   * For each emoji, in the order in which they came, the usernames of those who reacted with it, in
   * that order too.
   */
  reactions?: Record<string, string[]>;
}

/** The caller's profile, with what only the caller may know. */
export interface OwnProfile extends Profile {
  /** `"everyone"` or `"contacts"`: who may put the caller into contacts and conversations. */
  reachable_by: "everyone" | "contacts";
}

/** Always the same text. */
export type Pong = "pong";

/**
 * What everybody may know of a user. Times are Unix seconds. Who is blocked by the user sees that
 * the user is offline, and no `last_online`.
 */
export interface Profile {
  /** Unique, and never changes. */
  username: string;
  fullname: string;
  /** Whether a socket of the user is open. */
  is_online: boolean;
  /** When the user last came or went; `null` for who is blocked, and if the account is deleted. */
  last_online: number | null;
  /** When the user registered. */
  created_at: number;
}

/** How far a user has read. */
export interface ReadMark {
  conversation_id: number;
  username: string;
  /** The user has read the messages up to this one. */
  message_id: number;
}

/** A user who is no contact any more. */
export interface RemovedContact {
  /** Who is no longer a contact. */
  username: string;
}

/** A message that was reported. */
export interface ReportedMessage {
  message_id: number;
}

/** The message that is stored. */
export interface Sent extends Message {
  /**
   * `true` if it was stored already: the same sender had sent the same `client_id` to the same
   * conversation. Otherwise left out.
   */
  duplicate?: true;
}

/**
 * What a client has missed. As a push, it only tells the client that it may have missed something
 * and should ask.
 */
export interface Synced {
  conversations: ChangedConversation[];
  /** The conversations of the request's `revs` that the caller is not in. */
  left: number[];
  /** Whether there is more: the client applies this answer and asks again. */
  more: boolean;
  /**
   * In the answer if it was in the request. It changes when a backup is restored, because ids and
   * revs may then be assigned anew.
   */
  epoch?: string;
}

/** Whether a user is writing a message. */
export interface TypingNotice {
  conversation_id: number;
  /** Who is typing. */
  username: string;
  /** Whether somebody has begun to type, or ended. */
  on: boolean;
}

/** A contact has opened a first socket, or closed the last one. */
export interface UserStatus {
  username: string;
  is_online: boolean;
  /** When the user last came or went, in Unix seconds; `null` for who is blocked. */
  last_online: number | null;
}

/** What a client may send, without `type` and `ref`, and the `data` of the reply. */
export interface Events {
  /** `ping` → `Pong`. */
  ping: {
    request: Record<string, never>;
    data: Pong;
  };
  /** `self` → the caller's `OwnProfile`. */
  self: {
    request: Record<string, never>;
    data: OwnProfile;
  };
  /** `get_user {username}` → the `Profile`. */
  get_user: {
    request: {
      /** A username. */
      username: string;
    };
    data: Profile;
  };
  /**
   * `search_users {query, limit?}` → `FoundUsers`, in the order of what the query has found: a
   * username that is the query comes before one that only begins with it.
   */
  search_users: {
    request: {
      /** 1 to 64 characters. */
      query: string;
      /** 1 to 50. */
      limit?: number | null;
    };
    data: FoundUsers;
  };
  /**
   * `update_profile {fullname?, reachable_by?}` → the caller's `OwnProfile`. If the fullname has
   * changed, the caller's contacts get the push `profile_updated` with the `Profile` as they may
   * see it.
   *
   * `Profile`: crate::user::Profile
   */
  update_profile: {
    request: {
      /** 1 to 256 characters. */
      fullname?: string | null;
      reachable_by?: "everyone" | "contacts" | null;
    };
    data: OwnProfile;
  };
  /**
   * `add_contact {contact_username}` → `AddedContact`. The other one gets the push `contact_added`
   * with the caller's `Profile`.
   */
  add_contact: {
    request: {
      /** A username. */
      contact_username: string;
    };
    data: AddedContact;
  };
  /**
   * `remove_contact {contact_username}` → `RemovedContact`. Neither of the two has the other as a
   * contact any more.
   */
  remove_contact: {
    request: {
      /** A username. */
      contact_username: string;
    };
    data: RemovedContact;
  };
  /** `get_contacts` → `Contacts`. */
  get_contacts: {
    request: Record<string, never>;
    data: Contacts;
  };
  /**
   * `block_user {username}` → `BlockedUser`. If the blocked one has the caller as a contact, it
   * gets a `user_status` that says offline.
   */
  block_user: {
    request: {
      /** A username. */
      username: string;
    };
    data: BlockedUser;
  };
  /**
   * `unblock_user {username}` → `BlockedUser`. If the user has the caller as a contact, it gets a
   * `user_status` with the caller's present one.
   */
  unblock_user: {
    request: {
      /** A username. */
      username: string;
    };
    data: BlockedUser;
  };
  /** `get_blocked` → `BlockedUsers`. */
  get_blocked: {
    request: Record<string, never>;
    data: BlockedUsers;
  };
  /**
   * `create_conversation {members, name? | direct?}` → the `Conversation`, sent to every member.
   * The creator is its owner.
   *
   * A direct conversation has one other member and no owner. If the two have one already, it is the
   * answer, sent only to the caller.
   */
  create_conversation: {
    request: {
      /** Usernames. */
      members: string[];
      direct?: boolean | null;
      /** 1 to 256 characters. */
      name?: string | null;
    };
    data: Conversation;
  };
  /**
   * `get_conversations {limit?, before?}` → a list of `ListedConversation`, the most recently
   * active first: by the latest message or, before there is one, by creation. `before` is the id of
   * the last conversation of the previous page. With a `limit`, the answer has fewer conversations
   * if more would exceed 1 MiB; the page after the last one is empty.
   */
  get_conversations: {
    request: {
      /** The id of a conversation. */
      before?: number | null;
      /** 1 to 1,000. */
      limit?: number | null;
    };
    data: ListedConversation[];
  };
  /** `get_conversation_info {id}` → `ConversationInfo`. */
  get_conversation_info: {
    request: {
      /** The id of a conversation. */
      id: number;
    };
    data: ConversationInfo;
  };
  /** `rename_conversation {conversation_id, name}` → the `Conversation`, sent to every member. */
  rename_conversation: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      /** 1 to 256 characters. */
      name: string;
    };
    data: Conversation;
  };
  /**
   * `add_members {conversation_id, members}` → `AddedMembers`, sent to every member, also to the
   * new ones. Those who are members already are left out.
   */
  add_members: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      /** Usernames. */
      members: string[];
    };
    data: AddedMembers;
  };
  /**
   * `remove_member {conversation_id, username}` → `MemberLeft`, sent to every member and to the one
   * who was removed. An admin cannot remove an owner.
   */
  remove_member: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      /** The username of a member of the conversation. */
      username: string;
    };
    data: MemberLeft;
  };
  /**
   * `leave_conversation {conversation_id}` → `MemberLeft`, sent to every member and to the caller's
   * other devices. If the last owner leaves, the longest-standing admin becomes owner or, if there
   * is none, the longest-standing member. A conversation that its last member has left keeps its
   * messages, but nobody can see them.
   */
  leave_conversation: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
    };
    data: MemberLeft;
  };
  /**
   * `set_role {conversation_id, username, role}` → the `Conversation`, sent to every member. The
   * last owner cannot become less.
   */
  set_role: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      /** The username of a member of the conversation. */
      username: string;
      role: "member" | "admin" | "owner";
    };
    data: Conversation;
  };
  /**
   * `send_message {conversation_id, content, reply_id?, client_id?}` → the `Message`, sent to every
   * member. If the same `client_id` is sent again → `Sent` with `duplicate`, sent only to the
   * caller. It holds the message as it is now: others may have reacted to it, or deleted it.
   */
  send_message: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      /** 1 to 65,536 bytes of UTF-8. */
      content: string;
      /** The sender's own name for the message, 1 to 64 characters. */
      client_id?: string | null;
      /** The id of a message. */
      reply_id?: number | null;
    };
    data: Sent;
  };
  /**
   * `get_messages {conversation_id, before? | after?, limit?}` → a page of the `History`: as many
   * messages as `limit` and 1 MiB allow, and at least one if there is any.
   */
  get_messages: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      /** A place in the order of the messages' ids. There need not be a message with this id. */
      after?: number | null;
      /** A place in the order of the messages' ids. There need not be a message with this id. */
      before?: number | null;
      /** 1 to 100. */
      limit?: number | null;
    };
    data: History;
  };
  /** `edit_message {message_id, content}` → the `Message`. Only its sender may edit it. */
  edit_message: {
    request: {
      /** The id of a message. */
      message_id: number;
      /** 1 to 65,536 bytes of UTF-8. */
      content: string;
    };
    data: Message;
  };
  /**
   * `delete_message {message_id}` → the `Message`, without its content, mentions and reactions. Its
   * sender may delete it, and so may the owners and admins of its conversation.
   */
  delete_message: {
    request: {
      /** The id of a message. */
      message_id: number;
    };
    data: Message;
  };
  /** `react {message_id, emoji, on}` → the `Message`. The emoji may be any text. */
  react: {
    request: {
      /** The id of a message. */
      message_id: number;
      /** 1 to 32 bytes of UTF-8. */
      emoji: string;
      on: boolean;
    };
    data: Message;
  };
  /**
   * `typing {conversation_id, on}` → `TypingNotice`, sent to every member whose socket keeps up,
   * except to whom the caller has blocked, and to who has blocked the caller.
   */
  typing: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      on: boolean;
    };
    data: TypingNotice;
  };
  /**
   * `mark_read {conversation_id, message_id}` → `ReadMark`. The position only moves forward: for an
   * older message, the answer is the position already stored. The change is sent to the caller's
   * other sockets, and to all members if the conversation has at most 100 members.
   */
  mark_read: {
    request: {
      /** The id of a conversation. */
      conversation_id: number;
      /** The id of a message. */
      message_id: number;
    };
    data: ReadMark;
  };
  /** `get_mentions {before?, limit?}` → a page of the `MentionList`. `before` is a message's id. */
  get_mentions: {
    request: {
      /** A place in the order of the messages' ids. There need not be a message with this id. */
      before?: number | null;
      /** 1 to 100. */
      limit?: number | null;
    };
    data: MentionList;
  };
  /**
   * `report_message {message_id, reason}` → `ReportedMessage`. The report is kept for the operator,
   * with the message as it is now. While it is open, the same user's report of the same message
   * changes nothing.
   */
  report_message: {
    request: {
      /** The id of a message. */
      message_id: number;
      /** 1 to 1,000 characters. */
      reason: string;
    };
    data: ReportedMessage;
  };
  /**
   * `search_messages {query, conversation_id?, before?, limit?}` → `FoundMessages`: the messages
   * that have all words of the query, in the conversation or, without one, in the caller's
   * conversations.
   */
  search_messages: {
    request: {
      /** 1 to 256 characters. */
      query: string;
      /** A place in the order of the messages' ids. There need not be a message with this id. */
      before?: number | null;
      /** The id of a conversation. */
      conversation_id?: number | null;
      /** 1 to 100. */
      limit?: number | null;
    };
    data: FoundMessages;
  };
  /**
   * `sync {revs: {"<conversation id>": rev}, limit?, epoch?}` → `Synced`.
   *
   * The answer has each of the caller's conversations whose rev is higher than the given one: the
   * conversation, `read_id`, `unread` and, in rev order, the messages that changed since. For a
   * conversation that the client has never seen, or has at rev 0, these are the latest 100
   * messages. If a conversation's messages are cut short, its `rev` is that of the last message in
   * the answer.
   *
   * `left` lists the conversations of `revs` that the caller is not in. With `more`, the client
   * applies the answer and asks again. `epoch` is in the answer if it was in the request. It
   * changes when a backup is restored, because ids and revs may then be assigned anew; `revs` sent
   * with an old epoch are ignored.
   */
  sync: {
    request: {
      /** 0 to 64 characters. */
      epoch?: string | null;
      /** 1 to 1,000. */
      limit?: number | null;
      /** The rev that the client has of each conversation, by the conversation's id. */
      revs?: Record<string, number | null> | null;
    };
    data: Synced;
  };
}

/** The `data` of what a client hears without having asked. */
export interface Pushes {
  user_status: UserStatus;
  contact_added: Profile;
  profile_updated: Profile;
  account_deleted: AccountDeleted;
  /** Somebody else, or another socket of the same user, has sent `create_conversation`. */
  create_conversation: Conversation;
  /** Somebody else, or another socket of the same user, has sent `rename_conversation`. */
  rename_conversation: Conversation;
  /** Somebody else, or another socket of the same user, has sent `add_members`. */
  add_members: AddedMembers;
  /** Somebody else, or another socket of the same user, has sent `remove_member`. */
  remove_member: MemberLeft;
  /** Somebody else, or another socket of the same user, has sent `leave_conversation`. */
  leave_conversation: MemberLeft;
  /** Somebody else, or another socket of the same user, has sent `set_role`. */
  set_role: Conversation;
  /** Somebody else, or another socket of the same user, has sent `send_message`. */
  send_message: Message;
  /** Somebody else, or another socket of the same user, has sent `edit_message`. */
  edit_message: Message;
  /** Somebody else, or another socket of the same user, has sent `delete_message`. */
  delete_message: Message;
  /** Somebody else, or another socket of the same user, has sent `react`. */
  react: Message;
  /** Somebody else, or another socket of the same user, has sent `typing`. */
  typing: TypingNotice;
  /** Somebody else, or another socket of the same user, has sent `mark_read`. */
  mark_read: ReadMark;
  /** The client may have missed something and should ask. */
  sync: Synced;
}
