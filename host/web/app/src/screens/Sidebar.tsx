// The list of conversations.

import { memo } from "preact/compat";
import { useCallback, useRef, useState } from "preact/hooks";
import { fullnameOf, titleOf, useConversations, useMe, usePeople, type ConversationView } from "../chat";
import { Avatar } from "../parts/Avatar";
import { Empty } from "../parts/Empty";
import { IconButton } from "../parts/Icon";
import { drafts } from "../room/drafts";
import { go, route, to } from "../route";
import { snippet } from "../text/markdown";
import { count, list as listNames, upTo99 } from "../text/names";
import { brief, iso } from "../text/time";
import { rem, useVirtual } from "../virtual";

const ROW_REM = 4;
/** A filter is worth its place when there are more. */
const FILTER_CONVERSATIONS_MIN = 8;

export function Sidebar() {
  const me = useMe();
  const { conversations, isLoaded } = useConversations();
  const [filter, setFilter] = useState("");
  const wanted = filter.trim().toLocaleLowerCase();
  const shown = wanted ? conversations.filter((conversation) => titleOf(conversation).toLocaleLowerCase().includes(wanted)) : conversations;
  return (
    <nav class="side" aria-label="Conversations">
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the conversation
      </button>
      <header class="bar">
        <h1 class="bar-title">Chats</h1>
        <IconButton icon="search" label="Search" onClick={() => go(to.search())} />
        <IconButton icon="plus" label="New conversation" onClick={() => go(to.new)} />
      </header>
      {conversations.length >= FILTER_CONVERSATIONS_MIN && (
        <div class="filter">
          <input
            type="search"
            aria-label="Filter conversations"
            placeholder="Filter"
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
            onKeyDown={(event) => event.key === "Escape" && setFilter("")}
          />
        </div>
      )}
      {shown.length > 0 ? (
        <Conversations shown={shown} />
      ) : wanted ? (
        <Empty icon="search" title="No conversation has that name" />
      ) : isLoaded ? (
        <Empty icon="chat" title="Nobody here yet">
          <p>Find someone and say hello.</p>
          <a class="button primary" href={to.new}>
            New conversation
          </a>
        </Empty>
      ) : (
        <div class="conversations" aria-busy="true" />
      )}
      <footer class="side-foot">
        <a class="me" href={to.settings} title="Settings">
          <Avatar name={me.fullname} size="s" />
          <bdi>{me.fullname}</bdi>
          <span class="unseen">, settings</span>
        </a>
        <IconButton icon="at" label="Mentions" onClick={() => go(to.mentions)} />
        <IconButton icon="people" label="People" onClick={() => go(to.people)} />
      </footer>
    </nav>
  );
}

function Conversations({ shown }: { shown: readonly ConversationView[] }) {
  const me = useMe();
  usePeople();
  const scroller = useRef<HTMLUListElement>(null);
  const list = useVirtual({
    count: shown.length,
    getScrollElement: () => scroller.current?.parentElement ?? null,
    getItemKey: useCallback((index: number) => shown[index]?.id ?? index, [shown]),
    estimateSize: () => ROW_REM * rem(),
    overscan: 6,
  });
  const now = route.value;
  const current = now.screen === "room" || now.screen === "details" ? now.id : undefined;
  const rows = list.getVirtualItems();
  return (
    <div class="conversations">
      <ul ref={scroller} class="virtual" style={{ height: `${list.getTotalSize()}px` }}>
        {rows.map(({ key, index, start }) => {
          const conversation = shown[index];
          return (
            conversation && (
              <li
                key={key}
                data-index={index}
                ref={list.measureElement}
                style={{ transform: `translateY(${start}px)` }}
                aria-posinset={index + 1}
                aria-setsize={shown.length}
              >
                <Conversation
                  conversation={conversation}
                  me={me.username}
                  sender={conversation.last_message && !conversation.direct ? fullnameOf(conversation.last_message.sender_username) : ""}
                  typing={conversation.direct ? "" : listNames(conversation.typing.map(fullnameOf), 2)}
                  isCurrent={conversation.id === current}
                  draft={drafts.value.get(conversation.id)?.text}
                />
              </li>
            )
          );
        })}
      </ul>
    </div>
  );
}

const Conversation = memo(function Conversation(props: {
  conversation: ConversationView;
  me: string;
  /** Names, in a group. */
  sender: string;
  typing: string;
  isCurrent: boolean;
  draft: string | undefined;
}) {
  const { conversation, isCurrent } = props;
  const { id, unread, mentions, last_message: last, profile } = conversation;
  const title = titleOf(conversation);
  return (
    <a class={unread > 0 ? "conversation is-unread" : "conversation"} href={to.room(id)} aria-current={isCurrent ? "page" : undefined}>
      <Avatar name={title} isOnline={profile?.is_online} />
      <span class="conversation-text">
        <bdi class="conversation-name">{title}</bdi>
        <span class="conversation-last quiet" dir="auto">
          <Last {...props} />
        </span>
      </span>
      <span class="conversation-side">
        {last && (
          <time class="quiet" dateTime={iso(last.sent_at)}>
            {brief(last.sent_at)}
          </time>
        )}
        <span class="badges">
          {mentions > 0 && (
            <span class="badge">
              <span aria-hidden="true">@</span>
              <span class="unseen">{count(mentions, "mention")}</span>
            </span>
          )}
          {unread > 0 && (
            <span class="badge">
              {upTo99(unread)}
              <span class="unseen"> unread</span>
            </span>
          )}
        </span>
      </span>
    </a>
  );
});

function Last(props: { conversation: ConversationView; me: string; sender: string; typing: string; draft: string | undefined; isCurrent: boolean }) {
  const { conversation, me, sender, typing, draft, isCurrent } = props;
  const { last_message: last, direct } = conversation;
  if (conversation.typing.length > 0) return <span class="typing-now">{direct ? "typing…" : `${typing} typing…`}</span>;
  if (draft && !isCurrent)
    return (
      <>
        <span class="draft">Draft:</span> {snippet(draft)}
      </>
    );
  if (!last) return <>No messages yet</>;
  const who = last.sender_username === me ? "You: " : direct ? "" : null;
  return (
    <>
      {who ?? (
        <>
          <bdi>{sender}</bdi>:{" "}
        </>
      )}
      {last.deleted ? "Message deleted" : snippet(last.content)}
    </>
  );
}

/** The main pane, until a conversation is chosen. */
export function NothingOpen() {
  const me = useMe();
  const { conversations, isLoaded } = useConversations();
  if (conversations.length > 0)
    return (
      <Empty icon="chat" title="No conversation is open">
        <p>Choose one from the list.</p>
      </Empty>
    );
  if (!isLoaded) return null;
  return (
    <Empty icon="people" title={`Welcome, ${me.fullname}`}>
      <p>
        Others find you by your username, <bdi>{me.username}</bdi>.
      </p>
    </Empty>
  );
}
