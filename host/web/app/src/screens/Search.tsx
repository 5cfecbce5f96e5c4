// Searching: people, conversations by name, and what was said.

import { useEffect, useState } from "preact/hooks";
import { request, titleOf, useConversations, useMe, type Message, type Profile } from "../chat";
import { Avatar } from "../parts/Avatar";
import { Empty } from "../parts/Empty";
import { Hits } from "../parts/Hits";
import { Page } from "../parts/Page";
import { PersonRow } from "../parts/PersonRow";
import { replace, to } from "../route";

const PAGE = 30;
const PEOPLE_MAX = 5;
const TYPING_MILLISECONDS = 250;

interface Found {
  query: string;
  messages: Message[];
  hasMore: boolean;
  people: Profile[];
  error?: string;
}

const NOTHING: Found = { query: "", messages: [], hasMore: false, people: [] };

export function Search({ query: first, conversation: within }: { query: string; conversation?: number | undefined }) {
  const me = useMe().username;
  const { conversations } = useConversations();
  const [query, setQuery] = useState(first);
  const [found, setFound] = useState<Found>(NOTHING);
  const place = conversations.find(({ id }) => id === within);
  const wanted = query.trim();

  const searchMessages = (before?: number) =>
    request("search_messages", {
      query: wanted,
      limit: PAGE,
      ...(within !== undefined && { conversation_id: within }),
      ...(before !== undefined && { before }),
    });

  useEffect(() => {
    // The address has what was looked for, so that a way back leads here.
    const parts = [...(wanted ? [`q=${encodeURIComponent(wanted)}`] : []), ...(within === undefined ? [] : [`in=${within}`])];
    if (wanted !== first) replace(parts.length > 0 ? `#/search?${parts.join("&")}` : to.search());
    if (!wanted) return setFound(NOTHING);
    let isCurrent = true;
    const timer = setTimeout(async () => {
      const people = within === undefined ? request("search_users", { query: wanted, limit: PEOPLE_MAX }) : Promise.resolve({ users: [] });
      const [messages, users] = await Promise.allSettled([searchMessages(), people]);
      if (!isCurrent) return;
      setFound({
        query: wanted,
        messages: messages.status === "fulfilled" ? messages.value.messages : [],
        hasMore: messages.status === "fulfilled" && messages.value.has_more,
        people: users.status === "fulfilled" ? users.value.users.filter(({ username }) => username !== me) : [],
        ...(messages.status === "rejected" && { error: (messages.reason as Error).message }),
      });
    }, TYPING_MILLISECONDS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [wanted, within]);

  const more = async () => {
    try {
      const page = await searchMessages(found.messages.at(-1)?.id);
      setFound({ ...found, messages: [...found.messages, ...page.messages], hasMore: page.has_more });
    } catch (error) {
      setFound({ ...found, error: (error as Error).message });
    }
  };

  const lower = wanted.toLocaleLowerCase();
  const named = wanted && !place ? conversations.filter(({ title }) => title.toLocaleLowerCase().includes(lower)).slice(0, PEOPLE_MAX) : [];
  const isDone = found.query === wanted;
  const isEmpty = named.length + found.people.length + found.messages.length === 0;
  const title = place ? `Search in ${place.title}` : "Search";
  return (
    <Page title={title}>
      <input
        type="search"
        aria-label="Search"
        placeholder={place ? "Words of a message" : "People, conversations, words of a message"}
        value={query}
        autoFocus
        onInput={(event) => setQuery(event.currentTarget.value)}
      />
      <p class="unseen" role="status">
        {wanted && isDone && (isEmpty ? "Nothing found" : `${found.messages.length} messages found`)}
      </p>
      {!wanted && (
        <Empty icon="search" title="What are you looking for?">
          <p>Every word you type has to be there. The last one may be the beginning of a word.</p>
        </Empty>
      )}
      {(named.length > 0 || found.people.length > 0) && (
        <section class="section" aria-labelledby="found-people">
          <h2 id="found-people">Conversations and people</h2>
          <ul class="people">
            {named.map((conversation) => (
              <li key={conversation.id}>
                <a class="person" href={to.room(conversation.id)}>
                  <Avatar name={titleOf(conversation)} isOnline={conversation.profile?.is_online} />
                  <span class="person-text">
                    <bdi>{titleOf(conversation)}</bdi>
                  </span>
                </a>
              </li>
            ))}
            {found.people
              .filter(({ username }) => !named.some(({ profile }) => profile?.username === username))
              .map((profile) => (
                <li key={profile.username}>
                  <PersonRow profile={profile} />
                </li>
              ))}
          </ul>
        </section>
      )}
      {found.messages.length > 0 && (
        <section class="section" aria-labelledby="found-messages">
          <h2 id="found-messages">Messages</h2>
          <Hits messages={found.messages} words={found.query.split(/\s+/)} />
          {found.hasMore && (
            <button type="button" class="button" onClick={more}>
              Show more
            </button>
          )}
        </section>
      )}
      {wanted && isDone && found.error && (
        <p class="error" role="alert">
          {found.error}
        </p>
      )}
      {wanted && isDone && isEmpty && !found.error && <Empty icon="search" title="Nothing found" />}
    </Page>
  );
}
