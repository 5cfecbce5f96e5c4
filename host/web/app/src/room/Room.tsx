// An open conversation.

import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { chat, isAbandoned, personOf, request, roleOf, titleOf, unblock, useBlocked, useLive, useMe, type ConversationView, type Item, type StoredItem } from "../chat";
import { Avatar } from "../parts/Avatar";
import { ask } from "../parts/Dialog";
import { Empty } from "../parts/Empty";
import { IconButton } from "../parts/Icon";
import { closeMenu, openMenu, type MenuItem } from "../parts/Menu";
import { presence } from "../parts/PersonRow";
import { announce, toast, toastError } from "../parts/Toast";
import { back, go, replace, to } from "../route";
import { snippet } from "../text/markdown";
import { count, list } from "../text/names";
import { Composer, messageField, type Context } from "./Composer";
import { drafts, keepDraft } from "./drafts";
import { pickEmoji } from "./picker";
import { indexOf, MessageList } from "./MessageList";
import { isChangeable, type RowActions } from "./MessageRow";

/** Offered first for a reaction. */
const QUICK = ["👍", "❤️", "😂", "🎉", "😮", "😢"];
/** The others are counted. */
const READERS_NAMED_MAX = 6;
const REASON_CHARS_MAX = 1_000;
/** Members up to which @all mentions everyone. */
const ALL_MEMBERS_MAX = 100;

export function Room({ id, message }: { id: number; message?: number | undefined }) {
  const room = useMemo(() => chat.conversation(id), [id]);
  const conversation = useLive(room.info);
  const messages = useLive(room.messages);
  const { state } = useLive(chat.connection);
  if (!conversation) {
    const isKnown = state === "live";
    return (
      <section class="room" aria-label="Conversation">
        <header class="bar">
          <IconButton icon="back" label="Back" class="icon-button only-phone" onClick={back} />
        </header>
        {isKnown && (
          <Empty icon="chat" title="This conversation is not here">
            <p>Perhaps you have left it, or were removed from it.</p>
            <Unsent items={messages.items} />
            <a class="button" href={to.home}>
              All conversations
            </a>
          </Empty>
        )}
      </section>
    );
  }
  return <OpenRoom key={id} room={room} conversation={conversation} messages={messages} target={message} />;
}

/** Messages to a conversation that the user is not in any more. They cannot be sent, but they are not lost. */
function Unsent({ items }: { items: readonly Item[] }) {
  const unsent = items.filter((item) => item.state === "failed");
  if (unsent.length === 0) return null;
  return (
    <>
      <p>This was not sent:</p>
      <ul class="unsent" aria-label="Not sent">
        {unsent.map((item) => (
          <li key={item.key}>
            <span dir="auto">{item.content}</span>
            <button type="button" class="link-button" onClick={() => void copy(item.content)}>
              Copy text
            </button>
            <button type="button" class="link-button" onClick={() => item.state === "failed" && item.sent.discard()}>
              Discard
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

type Handle = ReturnType<typeof chat.conversation>;

function OpenRoom(props: {
  room: Handle;
  conversation: ConversationView;
  messages: ReturnType<Handle["messages"]["get"]>;
  target: number | undefined;
}) {
  const { room, conversation, messages } = props;
  const { items, hasOlder, loading } = messages;
  const { id, direct } = conversation;
  const title = titleOf(conversation);
  const me = useMe().username;
  const people = useLive(chat.people);
  const blocked = useBlocked();
  const originalOf = useOriginals(id, items);
  const [context, setContext] = useContext(conversation.id, originalOf);
  const other = conversation.profile;
  const isBlocked = other !== undefined && blocked.includes(other.username);

  useEffect(() => {
    // Where a keyboard is on the screen, it would cover half of it.
    if (matchMedia("(hover: hover)").matches) messageField()?.focus({ preventScroll: true });
  }, [id]);

  const typing = conversation.typing.map((username) => personOf(username).fullname);
  const members = useMemo(
    () => (conversation.members ?? []).filter((username) => username !== me).map(personOf),
    [conversation.members, people, me],
  );

  const actions: Omit<RowActions, "focused" | "jump"> = {
    nameOf: (username) => personOf(username).fullname,
    reply: (item) => setContext({ kind: "reply", item, who: item.sender_username === me ? "yourself" : personOf(item.sender_username).fullname }),
    react: (item, emoji, on) => room.react(item.id!, emoji, on).done.catch(toastError),
    pickReaction: (item, anchor) => pickEmoji(anchor, (emoji) => room.react(item.id!, emoji, !item.reactions?.[emoji]?.includes(me)).done.catch(toastError)),
    retry: (item) => (item.state === "stored" ? item.change : item.sent)?.retry(),
    discard: (item) => (item.state === "stored" ? item.change : item.sent)?.discard(),
    openMenu: (item, anchor) => isChangeable(item) && openMessageMenu(item, anchor),
  };

  const openMessageMenu = (item: StoredItem, anchor: HTMLElement) => {
    const isOwn = item.sender_username === me;
    const role = roleOf(conversation, me);
    const hasOwner = Object.values(conversation.roles ?? {}).includes("owner");
    const mayDelete = isOwn || (!direct && (role !== undefined || !hasOwner));
    const menu: MenuItem[] = [
      { icon: "reply", label: "Reply", run: () => actions.reply(item) },
      {
        icon: "copy",
        label: "Copy text",
        run: () => void copy(item.content),
      },
    ];
    if (isOwn) menu.push({ icon: "pencil", label: "Edit", run: () => setContext({ kind: "edit", item, who: "" }) });
    else menu.push({ icon: "flag", label: "Report", run: () => report(item) });
    if (mayDelete)
      menu.push({
        icon: "trash",
        label: "Delete",
        isDangerous: true,
        run: () =>
          ask({
            title: "Delete this message?",
            text: <q>{snippet(item.content)}</q>,
            action: "Delete",
            isDangerous: true,
            run: () => void room.delete(item.id).done.catch(toastError),
          }),
      });
    const quick = (
      <div class="picker-quick">
        {QUICK.map((emoji) => (
          <button
            key={emoji}
            type="button"
            role="menuitem"
            class="emoji-button"
            aria-label={`React with ${emoji}`}
            onClick={() => {
              closeMenu();
              actions.react(item, emoji, !item.reactions?.[emoji]?.includes(me));
            }}
          >
            {emoji}
          </button>
        ))}
        <button
          type="button"
          role="menuitem"
          class="emoji-button"
          aria-label="More emojis"
          onClick={() => {
            closeMenu();
            actions.pickReaction(item, anchor);
          }}
        >
          +
        </button>
      </div>
    );
    const readBy = isOwn && !direct ? readers(conversation, item, me) : "";
    const head = (
      <>
        {quick}
        {readBy && <p class="menu-note quiet">Read by {readBy}</p>}
      </>
    );
    openMenu({ label: "Message", anchor, head, items: menu });
  };

  const send = (text: string) => {
    if (context?.kind === "edit") {
      if (text !== context.item.content) room.edit(context.item.id!, text).done.catch(() => {});
    } else room.send(text, context ? { replyTo: context.item.id! } : {});
    setContext(null);
  };

  const editLast = () => {
    const item = items.findLast((item) => item.sender_username === me && isChangeable(item));
    if (item) setContext({ kind: "edit", item: item as StoredItem, who: "" });
  };

  return (
    <section class="room" aria-label={title}>
      <header class="bar">
        <IconButton icon="back" label="Back" class="icon-button only-phone" onClick={back} />
        <a class="room-head" href={to.details(id)}>
          <Avatar name={title} isOnline={other?.is_online} />
          <span class="room-names">
            <h1>
              <bdi>{title}</bdi>
            </h1>
            <span class="quiet">
              {typing.length > 0 ? (
                <span class="typing-now">{direct ? "typing…" : `${list(typing, 2)} ${typing.length > 1 ? "are" : "is"} typing…`}</span>
              ) : other ? (
                presence(other)
              ) : (
                !direct && count(conversation.member_count, "member")
              )}
            </span>
          </span>
        </a>
        <IconButton icon="search" label="Search in this conversation" onClick={() => go(to.search(id))} />
        <IconButton icon="info" label="Details" onClick={() => go(to.details(id))} />
      </header>
      {items.length === 0 ? (
        <div class="list-frame" aria-busy={loading}>
          {!loading && !hasOlder && (
            <Empty icon="chat" title="No messages yet">
              <p>Write the first one.</p>
            </Empty>
          )}
        </div>
      ) : (
        <MessageList
          items={items}
          hasOlder={hasOlder}
          isLoading={loading}
          loadOlder={() => room.loadOlder().catch(() => {})}
          loadUntil={(message) => room.loadUntil(message).catch(() => false)}
          me={me}
          isDirect={direct}
          readId={conversation.read_id}
          unread={conversation.unread}
          target={props.target}
          onTargetShown={() => replace(to.room(id))}
          onSeen={(message) => room.markRead(message)}
          senderOf={personOf}
          originalOf={originalOf}
          readersOf={(item) => readers(conversation, item, me)}
          actions={actions}
          start={<p class="history-start">{direct ? "This is where your conversation begins." : "This is where the conversation begins."}</p>}
        />
      )}
      {isAbandoned(conversation) ? (
        <div class="blocked-note">This person has deleted the account.</div>
      ) : isBlocked ? (
        <div class="blocked-note">
          You have blocked this person.{" "}
          <button type="button" class="link-button" onClick={() => void unblock(other.username).catch(toastError)}>
            Unblock
          </button>
        </div>
      ) : (
        <div class="composer">
          <Composer
            key={id}
            conversation={id}
            context={context}
            people={members}
            mayAll={!direct && conversation.member_count <= ALL_MEMBERS_MAX}
            onSend={send}
            onCancel={() => setContext(null)}
            onTyping={() => room.typing()}
            onEditLast={editLast}
          />
        </div>
      )}
    </section>
  );
}

/** Who else has read it, as far as the server tells. */
function readers({ read }: ConversationView, item: Item, me: string): string {
  if (!read || item.state !== "stored") return "";
  const names = Object.keys(read).filter((username) => username !== me && read[username]! >= item.id);
  return list(names.map((username) => personOf(username).fullname), READERS_NAMED_MAX);
}

/** What the message to be written is about; a reply is kept with its draft. */
function useContext(id: number, originalOf: (id: number) => Item | null | undefined): [Context | null, (context: Context | null) => void] {
  const [context, setContext] = useState<Context | null>(null);
  const kept = drafts.peek().get(id)?.replyTo;
  const original = kept === undefined || context ? undefined : originalOf(kept);
  useEffect(() => {
    if (original) setContext({ kind: "reply", item: original, who: personOf(original.sender_username).fullname });
  }, [original?.key]);
  return [
    context,
    (next) => {
      setContext(next);
      if (next?.kind !== "edit") keepDraft(id, { text: drafts.peek().get(id)?.text ?? "", ...(next && { replyTo: next.item.id! }) });
      if (!next) messageField()?.focus();
    },
  ];
}

/** Messages that others answer: those that are here, and those that are asked for. */
function useOriginals(id: number, items: readonly Item[]) {
  const asked = useRef(new Map<number, StoredItem | null | undefined>());
  const [, render] = useReducer((count: number) => count + 1, 0);
  return (wanted: number): Item | null | undefined => {
    const index = indexOf(items, wanted);
    if (index >= 0) return items[index];
    if (asked.current.has(wanted)) return asked.current.get(wanted);
    asked.current.set(wanted, null);
    const take = (found: StoredItem | undefined) => {
      asked.current.set(wanted, found);
      render(undefined);
    };
    request("get_messages", { conversation_id: id, before: wanted + 1, limit: 1 }).then(
      ({ messages: [message] }) => take(message?.id === wanted ? { ...message, key: `m${wanted}`, state: "stored" } : undefined),
      () => take(undefined),
    );
    return null;
  };
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied");
  } catch {
    toast("This browser does not let the page copy here.");
  }
}

function report(item: StoredItem): void {
  ask({
    title: "Report this message?",
    text: "Whoever runs this server gets to see it. Say what is wrong with it.",
    action: "Report",
    isDangerous: false,
    field: { label: "Reason", type: "text", max: REASON_CHARS_MAX },
    run: async (reason) => {
      await request("report_message", { message_id: item.id, reason });
      toast("Thank you. The message was reported.");
    },
  });
}
