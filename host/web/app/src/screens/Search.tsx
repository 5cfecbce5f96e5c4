// Searching: people, conversations by name, and what was said.

import { useEffect, useRef, useState } from "preact/hooks";
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
  /** The messages from this id on were looked at. Undefined if all were. */
  before?: number | undefined;
  isSearching: boolean;
  error: string;
}

const NOTHING: Found = { query: "", messages: [], isSearching: false, error: "" };

export function Search({ query: first, conversation: within }: { query: string; conversation?: number | undefined }) {
  const me = useMe().username;
  const { conversations } = useConversations();
  const [query, setQuery] = useState(first);
  const [found, setFound] = useState<Found>(NOTHING);
  const [people, setPeople] = useState<{ query: string; found: Profile[] }>({ query: "", found: [] });
  /** The search that counts. */
  const newest = useRef({});
  const place = conversations.find(({ id }) => id === within);
  const wanted = query.trim();

  /** Looks for one page more. The server stops a search that takes long: an answer may be empty, and there is more. */
  const look = async (start: Found) => {
    const own = (newest.current = {});
    const { query } = start;
    const enough = start.messages.length + PAGE;
    let now = { ...start, isSearching: true, error: "" };
    while (now.isSearching) {
      try {
        const limit = enough - now.messages.length;
        const place = { ...(within !== undefined && { conversation_id: within }), ...(now.before !== undefined && { before: now.before }) };
        const page = await request("search_messages", { query, limit, ...place });
        const messages = [...now.messages, ...page.messages];
        const before = page.has_more ? page.before : undefined;
        now = { ...now, messages, before, isSearching: before !== undefined && messages.length < enough };
      } catch (error) {
        now = { ...now, isSearching: false, error: (error as Error).message };
      }
      if (newest.current !== own) return;
      setFound(now);
    }
  };

  const lookForPeople = async (query: string, isCurrent: () => boolean) => {
    const answer = within === undefined ? request("search_users", { query, limit: PEOPLE_MAX }) : undefined;
    const users = await answer?.then(({ users }) => users.filter(({ username }) => username !== me)).catch(() => []);
    if (isCurrent()) setPeople({ query, found: users ?? [] });
  };

  useEffect(() => {
    // The address has what was looked for, so that a way back leads here.
    const parts = [...(wanted ? [`q=${encodeURIComponent(wanted)}`] : []), ...(within === undefined ? [] : [`in=${within}`])];
    if (wanted !== first) replace(parts.length > 0 ? `#/search?${parts.join("&")}` : to.search());
    if (!wanted) {
      setFound(NOTHING);
      setPeople({ query: "", found: [] });
      return;
    }
    let isCurrent = true;
    const timer = setTimeout(() => {
      void look({ ...NOTHING, query: wanted });
      void lookForPeople(wanted, () => isCurrent);
    }, TYPING_MILLISECONDS);
    return () => {
      isCurrent = false;
      newest.current = {};
      clearTimeout(timer);
    };
  }, [wanted, within]);

  const more = () => {
    setFound({ ...found, isSearching: true, error: "" });
    void look(found);
  };

  const lower = wanted.toLocaleLowerCase();
  const named = wanted && !place ? conversations.filter(({ title }) => title.toLocaleLowerCase().includes(lower)).slice(0, PEOPLE_MAX) : [];
  const isDone = found.query === wanted && people.query === wanted;
  const isEmpty = named.length + people.found.length + found.messages.length === 0;
  const isNothing = isEmpty && found.before === undefined && !found.error;
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
        {wanted && isDone && (found.isSearching ? "Searching" : isNothing ? "Nothing found" : `${found.messages.length} messages found`)}
      </p>
      {!wanted && (
        <Empty icon="search" title="What are you looking for?">
          <p>Every word you type has to be there. The last one may be the beginning of a word.</p>
        </Empty>
      )}
      {(named.length > 0 || people.found.length > 0) && (
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
            {people.found
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
        </section>
      )}
      {wanted && isDone && found.isSearching && <p class="quiet">Searching…</p>}
      {wanted && isDone && found.before !== undefined && !found.isSearching && (
        <button type="button" class="button" onClick={more}>
          Show more
        </button>
      )}
      {wanted && isDone && found.error && (
        <p class="error" role="alert">
          {found.error}
        </p>
      )}
      {wanted && isDone && isNothing && <Empty icon="search" title="Nothing found" />}
    </Page>
  );
}
