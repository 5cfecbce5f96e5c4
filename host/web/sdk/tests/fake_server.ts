// A server that follows PROTOCOL.md as far as the library uses it, with connections that a test can
// delay and cut.

import type { SocketConstructor } from "../src/environment.ts";
import type { Clock, Socket } from "../src/environment.ts";
import type { Conversation, ListedConversation, Message, Profile } from "../src/protocol.ts";

interface StoredConversation {
  id: number;
  name: string;
  rev: number;
  direct: boolean;
  created_at: number;
  members: string[];
  roles: Record<string, "owner" | "admin">;
  messages: Message[];
  read: Record<string, number>;
}

interface Frame {
  type: string;
  ref?: number | string;
  [field: string]: unknown;
}

class Refusal extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly retry_after?: number,
  ) {
    super(message);
  }
}

/** One socket, as the server sees it. */
export interface Line {
  username: string;
  protocols: string[];
  push(frame: object): void;
  cut(code?: number, reason?: string): void;
  /** Nothing passes any more, and nobody says so. */
  swallow(): void;
}

export interface FakeServer {
  clock: Clock;
  conversations: Map<number, StoredConversation>;
  lines: Set<Line>;
  /** What was asked, by type. */
  asked: Frame[];
  epoch: string;
  WebSocket: SocketConstructor;
  /** Who a new socket belongs to, or why it does not open. */
  admit: (protocols: string[]) => string | { code: number; reason: string } | "refuse";
  /** Milliseconds that a frame takes. */
  latency: () => number;
  /** Called before each event; may throw `refuse(…)`, or lose the answer. */
  before: (frame: Frame, username: string) => void;
  /** Further events. */
  answers: Record<string, (frame: Record<string, unknown>) => object>;
  /** Whether this push is lost between two hosts. */
  losesPush: () => boolean;
  refuse(code: string, retry_after?: number): Refusal;
  /** Carries an event out, as if it came by a socket of somebody else. */
  act(username: string, type: string, fields: object): { data: never };
  push(username: string, type: string, data: object): void;
  /** The account is gone: everybody here is a contact, and hears of it. */
  deleteAccount(username: string): void;
  conversation(id: number): StoredConversation;
}

const UNREAD_MAX = 100;

/** The message as it is once that account is deleted. */
function withoutUser(message: Message, username: string): Message {
  const { reactions = {}, mentions = [], ...rest } = message;
  const others = (names: string[]) => names.filter((name) => name !== username);
  const left = Object.entries(reactions).map(([emoji, names]) => [emoji, others(names)] as const).filter(([, names]) => names.length > 0);
  return {
    ...rest,
    sender_username: message.sender_username === username ? "deleted" : message.sender_username,
    ...(left.length === 0 ? {} : { reactions: Object.fromEntries(left) }),
    ...(others(mentions).length === 0 ? {} : { mentions: others(mentions) }),
  };
}

export function createServer(clock: Clock): FakeServer {
  const conversations = new Map<number, StoredConversation>();
  const lines = new Set<Line>();
  const blockedUntil = new Map<string, number>();
  let lastMessage = 0;
  let lastConversation = 0;

  const now = () => Math.floor(clock.now() / 1000);
  const profile = (username: string): Profile => ({
    username,
    fullname: username === "deleted" ? "" : username.toUpperCase(),
    is_online: [...lines].some((line) => line.username === username),
    last_online: 0,
    created_at: 0,
  });

  function shown(conversation: StoredConversation): Conversation {
    const { id, name, rev, direct, created_at, members, roles } = conversation;
    return { id, name, rev, direct, created_at, members: [...members], roles: { ...roles } };
  }

  function ofMember(id: unknown, username: string): StoredConversation {
    const conversation = conversations.get(id as number);
    if (conversation === undefined || !conversation.members.includes(username)) {
      throw new Refusal("not_found", `${username} not part of conversation with ${String(id)} id`);
    }
    return conversation;
  }

  function ofMessage(id: unknown, username: string): [StoredConversation, Message] {
    for (const conversation of conversations.values()) {
      const message = conversation.messages.find((other) => other.id === id);
      if (message !== undefined && conversation.members.includes(username)) return [conversation, message];
    }
    throw new Refusal("not_found", `No such ${String(id)} message id found`);
  }

  function counts(conversation: StoredConversation, username: string) {
    const read_id = conversation.read[username] ?? 0;
    const others = conversation.messages.filter((m) => m.id > read_id && m.sender_username !== username && !m.deleted);
    const mentions = others.filter((m) => m.mentions?.includes(username));
    return { read_id, unread: Math.min(UNREAD_MAX, others.length), mentions: Math.min(UNREAD_MAX, mentions.length) };
  }

  /** Carries an event out. Returns the data, and who else hears of it. */
  function handle(username: string, frame: Frame): { data: unknown; to?: string[]; pushed?: object } {
    const id = frame["conversation_id"] as number;
    switch (frame.type) {
      case "ping":
        return { data: "pong" };
      case "self":
        return { data: profile(username) };
      case "create_conversation": {
        const members = [...new Set([username, ...(frame["members"] as string[])])];
        const direct = frame["direct"] === true;
        const old = [...conversations.values()].find(
          (other) => direct && other.direct && members.every((member) => other.members.includes(member)),
        );
        if (old !== undefined) return { data: shown(old) };
        lastConversation += 1;
        const conversation: StoredConversation = {
          id: lastConversation,
          name: String(frame["name"] ?? members.join(", ")),
          rev: 1,
          direct,
          created_at: now(),
          members,
          roles: direct ? {} : { [username]: "owner" },
          messages: [],
          read: {},
        };
        conversations.set(lastConversation, conversation);
        return { data: shown(conversation), to: members };
      }
      case "rename_conversation": {
        const conversation = ofMember(id, username);
        if (conversation.name === frame["name"]) return { data: shown(conversation) };
        conversation.name = String(frame["name"]);
        conversation.rev += 1;
        return { data: shown(conversation), to: conversation.members };
      }
      case "add_members": {
        const conversation = ofMember(id, username);
        const added = (frame["members"] as string[]).filter((member) => !conversation.members.includes(member));
        if (added.length === 0) return { data: { ...shown(conversation), added } };
        conversation.members = [...conversation.members, ...added];
        conversation.rev += 1;
        return { data: { ...shown(conversation), added }, to: conversation.members };
      }
      case "remove_member":
      case "leave_conversation": {
        const conversation = ofMember(id, username);
        const gone = frame.type === "leave_conversation" ? username : String(frame["username"]);
        if (!conversation.members.includes(gone)) throw new Refusal("not_found", `'${gone}' is not a member`);
        const to = conversation.members;
        conversation.members = to.filter((member) => member !== gone);
        delete conversation.roles[gone];
        delete conversation.read[gone];
        conversation.rev += 1;
        const { rev, roles } = conversation;
        return { data: { conversation_id: id, username: gone, rev, roles: { ...roles } }, to };
      }
      case "send_message": {
        const conversation = ofMember(id, username);
        const client_id = frame["client_id"] as string | undefined;
        const old = conversation.messages.find((m) => client_id !== undefined && m.client_id === client_id && m.sender_username === username);
        if (old !== undefined) return { data: { ...old, duplicate: true } };
        const content = String(frame["content"]);
        if (content === "") throw new Refusal("invalid", "message content should be non empty string");
        lastMessage += 1;
        conversation.rev += 1;
        const mentions = conversation.members.filter((member) => content.includes(`@${member}`));
        const message: Message = {
          id: lastMessage,
          conversation_id: id,
          rev: conversation.rev,
          sender_username: username,
          content,
          reply_id: (frame["reply_id"] as number | null | undefined) ?? null,
          sent_at: now(),
          ...(client_id === undefined ? {} : { client_id }),
          ...(mentions.length === 0 ? {} : { mentions }),
        };
        conversation.messages.push(message);
        return { data: message, to: conversation.members };
      }
      case "edit_message":
      case "delete_message":
      case "react": {
        const [conversation, message] = ofMessage(frame["message_id"], username);
        const index = conversation.messages.indexOf(message);
        if (frame.type === "delete_message" && message.deleted) return { data: message };
        if (message.deleted) throw new Refusal("conflict", "the message is deleted");
        if (frame.type !== "react" && message.sender_username !== username) throw new Refusal("forbidden", "only its sender may");
        let next: Message = { ...message };
        if (frame.type === "delete_message") {
          const { mentions: _mentions, reactions: _reactions, ...rest } = next;
          next = { ...rest, content: "", deleted: true };
        } else if (frame.type === "edit_message") {
          if (message.content === frame["content"]) return { data: message };
          next.content = String(frame["content"]);
          next.edited_at = now();
        } else {
          const emoji = String(frame["emoji"]);
          const { [emoji]: names = [], ...others } = message.reactions ?? {};
          if (names.includes(username) === frame["on"]) return { data: message };
          const list = frame["on"] === true ? [...names, username] : names.filter((name) => name !== username);
          next.reactions = list.length === 0 ? others : { ...message.reactions, [emoji]: list };
          if (Object.keys(next.reactions).length === 0) delete next.reactions;
        }
        conversation.rev += 1;
        next.rev = conversation.rev;
        conversation.messages[index] = next;
        return { data: next, to: conversation.members };
      }
      case "typing": {
        const conversation = ofMember(id, username);
        return { data: { conversation_id: id, username, on: frame["on"] }, to: conversation.members };
      }
      case "mark_read": {
        const conversation = ofMember(id, username);
        const before = conversation.read[username] ?? 0;
        const message_id = Math.max(before, frame["message_id"] as number);
        conversation.read[username] = message_id;
        const data = { conversation_id: id, username, message_id };
        return message_id > before ? { data, to: conversation.members } : { data };
      }
      case "get_messages": {
        const conversation = ofMember(id, username);
        const before = (frame["before"] as number | undefined) ?? Infinity;
        const all = conversation.messages.filter((message) => message.id < before);
        const limit = (frame["limit"] as number | undefined) ?? 100;
        const messages = all.slice(-limit).reverse();
        return { data: { conversation_id: id, messages, has_more: all.length > limit } };
      }
      case "get_conversation_info": {
        const conversation = ofMember(frame["id"], username);
        const read = Object.fromEntries(conversation.members.map((member) => [member, conversation.read[member] ?? 0]));
        return { data: { ...shown(conversation), read, profiles: conversation.members.map(profile) } };
      }
      case "get_conversations": {
        const own = [...conversations.values()].filter((conversation) => conversation.members.includes(username));
        const activity = (conversation: StoredConversation) => conversation.messages.at(-1)?.id ?? 0;
        own.sort((a, b) => activity(b) - activity(a) || b.id - a.id);
        const start = own.findIndex((conversation) => conversation.id === frame["before"]) + 1;
        const page = own.slice(start, start + ((frame["limit"] as number | undefined) ?? Infinity));
        const data = page.map((conversation): ListedConversation => {
          const { id, name, rev, direct, members } = conversation;
          const other = members.find((member) => member !== username);
          return {
            id,
            name,
            rev,
            direct,
            member_count: members.length,
            ...(members.length <= 10 ? { members: [...members] } : {}),
            ...(direct && other !== undefined ? { profile: profile(other) } : {}),
            ...counts(conversation, username),
            last_message: conversation.messages.at(-1) ?? null,
          };
        });
        return { data };
      }
      case "sync":
        return { data: sync(username, frame) };
      default:
        if (server.answers[frame.type] !== undefined) return { data: server.answers[frame.type]?.(frame) };
        throw new Refusal("invalid", `unknown type "${frame.type}"`);
    }
  }

  function sync(username: string, frame: Frame): object {
    const isKnown = frame["epoch"] === undefined || frame["epoch"] === server.epoch;
    const revs = (isKnown ? frame["revs"] : {}) as Record<string, number>;
    let room = (frame["limit"] as number | undefined) ?? 500;
    const own = [...conversations.values()].filter((conversation) => conversation.members.includes(username));
    const answer: object[] = [];
    let more = false;
    for (const conversation of own) {
      const since = revs[conversation.id] ?? 0;
      if (conversation.rev <= since) continue;
      if (room <= 0) {
        more = true;
        break;
      }
      const all = since > 0 ? conversation.messages : conversation.messages.slice(-100);
      const changed = all.filter((message) => message.rev > since).sort((a, b) => a.rev - b.rev);
      const messages = changed.slice(0, room);
      const isCut = messages.length < changed.length;
      const { read_id, unread } = counts(conversation, username);
      const rev = isCut ? (messages.at(-1) as Message).rev : conversation.rev;
      answer.push({ ...shown(conversation), rev, read_id, unread, messages });
      more ||= isCut;
      room -= Math.max(1, messages.length);
    }
    const left = Object.keys(revs).map(Number).filter((id) => !own.some((conversation) => conversation.id === id));
    const epoch = frame["epoch"] === undefined ? {} : { epoch: server.epoch };
    return { conversations: answer, left, more, ...epoch };
  }

  function tell(to: string[], except: Line | null, type: string, data: unknown): void {
    for (const line of lines) {
      if (line === except || !to.includes(line.username) || server.losesPush()) continue;
      line.push({ type, success: true, data });
    }
  }

  function answer(line: Line, frame: Frame): object {
    const { type, ref } = frame;
    try {
      const pausedUntil = blockedUntil.get(line.username) ?? 0;
      if (type !== "ping" && clock.now() < pausedUntil) throw new Refusal("rate_limited", "too fast", (pausedUntil - clock.now()) / 1000);
      server.before(frame, line.username);
      const { data, to } = handle(line.username, frame);
      if (to !== undefined) tell(to, line, type, data);
      return { type, success: true, data, ref };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { code, message, retry_after } = error;
      return { type, success: false, code, error: message, ref, ...(retry_after === undefined ? {} : { retry_after }) };
    }
  }

  class FakeSocket implements Socket {
    onopen: (() => void) | null = null;
    onmessage: ((event: { data: unknown }) => void) | null = null;
    onclose: ((event: { code: number; reason: string }) => void) | null = null;
    onerror: ((event: unknown) => void) | null = null;
    private isOpen = true;
    get readyState(): number {
      return this.isOpen ? 1 : 3;
    }
    private isSwallowing = false;
    private line: Line | null = null;
    /** When the last frame of each direction arrives: the order stays. */
    private arrives = { up: 0, down: 0 };

    constructor(_url: string, protocols: string[]) {
      this.travel("down", () => {
        const admitted = server.admit(protocols);
        if (admitted === "refuse") return this.end(1006, "");
        this.onopen?.();
        if (typeof admitted !== "string") return this.end(admitted.code, admitted.reason);
        this.line = {
          username: admitted,
          protocols,
          push: (frame) => {
            const text = JSON.stringify(frame);
            this.travel("down", () => this.onmessage?.({ data: text }));
          },
          cut: (code = 1006, reason = "") => this.end(code, reason),
          swallow: () => (this.isSwallowing = true),
        };
        lines.add(this.line);
      });
    }

    send(text: string): void {
      if (!this.isOpen) return;
      this.travel("up", () => {
        const line = this.line;
        if (line === null || !lines.has(line)) return;
        const frame = JSON.parse(text) as Frame;
        server.asked.push(frame);
        const reply = answer(line, frame);
        // The connection may be cut while it is answered.
        if (lines.has(line)) line.push(reply);
      });
    }

    close(): void {
      this.isOpen = false;
      if (this.line !== null) lines.delete(this.line);
    }

    private travel(direction: "up" | "down", arrive: () => void): void {
      const at = Math.max(this.arrives[direction], clock.now() + server.latency());
      this.arrives[direction] = at;
      clock.after(at - clock.now(), () => {
        if (this.isOpen && !this.isSwallowing) arrive();
      });
    }

    private end(code: number, reason: string): void {
      if (!this.isOpen) return;
      this.close();
      if (!this.isSwallowing) clock.after(0, () => this.onclose?.({ code, reason }));
    }
  }

  const server: FakeServer = {
    clock,
    conversations,
    lines,
    asked: [],
    epoch: "epoch1",
    WebSocket: FakeSocket,
    admit: (protocols) => protocols.find((protocol) => protocol.startsWith("bearer."))?.slice(7) ?? "refuse",
    latency: () => 1,
    before: () => {},
    answers: {},
    losesPush: () => false,
    refuse(code, retry_after) {
      return new Refusal(code, code, retry_after);
    },
    act(username, type, fields) {
      const { data, to } = handle(username, { ...fields, type });
      if (to !== undefined) tell(to, null, type, data);
      return { data: data as never };
    },
    push: (username, type, data) => tell([username], null, type, data),
    deleteAccount(username) {
      const others = [...lines].map((line) => line.username).filter((name) => name !== username);
      tell(others, null, "account_deleted", { username });
      for (const conversation of conversations.values()) {
        conversation.messages = conversation.messages.map((message) => withoutUser(message, username));
        const { id, members, roles, direct } = conversation;
        if (!members.includes(username)) continue;
        conversation.rev += 1;
        const { rev } = conversation;
        if (direct) {
          conversation.members = members.map((name) => (name === username ? "deleted" : name));
          conversation.name = conversation.members.join(", ");
          tell(conversation.members, null, "account_deleted", { conversation_id: id, username, rev });
        } else {
          conversation.members = members.filter((name) => name !== username);
          delete roles[username];
          const data = { conversation_id: id, username, rev, roles: { ...roles }, deleted: true };
          tell(conversation.members, null, "leave_conversation", data);
        }
      }
    },
    conversation: (id) => conversations.get(id) as StoredConversation,
  };
  return server;
}
