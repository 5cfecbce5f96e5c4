// Finding people: contacts at once, everybody else by a search.

import { useEffect, useState } from "preact/hooks";
import { personOf, request, useContacts, useMe, type Profile } from "../chat";
import { Avatar } from "./Avatar";
import { PersonRow } from "./PersonRow";

const FOUND_MAX = 20;
/** Waits for the end of a word. */
const TYPING_MILLISECONDS = 250;

export function FindPeople(props: { label: string; without: readonly string[]; onChoose: (profile: Profile) => void }) {
  const me = useMe();
  const contacts = useContacts();
  const [query, setQuery] = useState("");
  const [found, setFound] = useState<{ query: string; users: Profile[]; error?: string }>({ query: "", users: [] });
  const wanted = query.trim();
  useEffect(() => {
    if (!wanted) return;
    let isCurrent = true;
    const timer = setTimeout(async () => {
      const search = request("search_users", { query: wanted, limit: FOUND_MAX });
      const users = await search.then(({ users }) => ({ users })).catch((error: Error) => ({ users: [], error: error.message }));
      if (isCurrent) setFound({ query: wanted, ...users });
    }, TYPING_MILLISECONDS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [wanted]);
  const lower = wanted.toLocaleLowerCase();
  const fits = ({ username, fullname }: Profile) => `${username} ${fullname}`.toLocaleLowerCase().includes(lower);
  const isHidden = (profile: Profile) => profile.username === me.username || props.without.includes(profile.username);
  const all = new Map(contacts.filter(fits).map((profile) => [profile.username, profile]));
  if (wanted) for (const profile of found.users) if (found.query === wanted || fits(profile)) all.set(profile.username, profile);
  const shown = [...all.values()].filter((profile) => !isHidden(profile));
  const isDone = found.query === wanted;
  // Somebody may know a username that the search does not bring.
  const isExact = shown.some(({ username }) => username === wanted) || wanted === me.username || props.without.includes(wanted);
  const choose = (profile: Profile) => {
    setQuery("");
    props.onChoose(profile);
  };
  return (
    <div class="section">
      <label class="field">
        <span>{props.label}</span>
        <input
          type="search"
          value={query}
          autoComplete="off"
          autoCapitalize="none"
          spellcheck={false}
          placeholder="Name or username"
          onInput={(event) => setQuery(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter") return;
            event.preventDefault();
            if (shown[0]) choose(shown[0]);
            else if (wanted && isDone && !isExact) choose(personOf(wanted));
          }}
        />
      </label>
      <ul class="people" aria-label="People found">
        {shown.map((profile) => (
          <li key={profile.username}>
            <PersonRow profile={profile} onChoose={() => choose(profile)} />
          </li>
        ))}
        {wanted && isDone && !isExact && (
          <li>
            <button type="button" class="person" onClick={() => choose(personOf(wanted))}>
              <Avatar name={wanted} />
              <span class="person-text">
                <span>
                  Use the username <bdi>“{wanted}”</bdi>
                </span>
              </span>
            </button>
          </li>
        )}
      </ul>
      <div role="status" class="quiet">
        {wanted && isDone && found.error && <p class="error">The search failed: {found.error}</p>}
        {wanted && isDone && !found.error && shown.length === 0 && <p>Nobody was found by that name.</p>}
        {!wanted && shown.length === 0 && <p>Type the beginning of a name or username.</p>}
      </div>
    </div>
  );
}
