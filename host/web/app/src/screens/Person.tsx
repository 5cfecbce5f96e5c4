// One person: who it is, and what can be done.

import { useEffect, useState } from "preact/hooks";
import { addContact, block, openDirect, removeContact, request, unblock, useBlocked, useContacts, useMe, usePerson, type Profile } from "../chat";
import { Avatar } from "../parts/Avatar";
import { ask } from "../parts/Dialog";
import { Page } from "../parts/Page";
import { presence } from "../parts/PersonRow";
import { toastError } from "../parts/Toast";
import { go, to } from "../route";
import { dateOnly } from "../text/time";

export function Person({ username }: { username: string }) {
  const known = usePerson(username);
  const [error, setError] = useState("");
  useEffect(() => {
    setError("");
    request("get_user", { username }).catch((error: Error) => setError(error.message));
  }, [username]);
  return (
    <Page title="Profile">
      {known ? <PersonCard profile={known} /> : <p class={error ? "error" : "quiet"}>{error || "…"}</p>}
    </Page>
  );
}

export function PersonCard({ profile }: { profile: Profile }) {
  const me = useMe();
  const { username, fullname } = profile;
  const isContact = useContacts().some((contact) => contact.username === username);
  const isBlocked = useBlocked().includes(username);
  const isMe = username === me.username;
  return (
    <div class="hero">
      <Avatar name={fullname} isOnline={profile.is_online} size="l" />
      <h2>
        <bdi>{fullname}</bdi>
      </h2>
      <p class="quiet">
        <bdi>@{username}</bdi>
      </p>
      <p class="quiet">{isBlocked ? "You have blocked this person." : presence(profile)}</p>
      {profile.created_at > 0 && <p class="quiet">Here since {dateOnly(profile.created_at)}</p>}
      {!isMe && (
        <div class="buttons">
          <button type="button" class="button primary" onClick={() => openDirect(username).then((id) => go(to.room(id)), toastError)}>
            Write a message
          </button>
          {isContact ? (
            <button type="button" class="button" onClick={() => removeContact(username).catch(toastError)}>
              Remove contact
            </button>
          ) : (
            <button type="button" class="button" onClick={() => addContact(username).catch(toastError)}>
              Add contact
            </button>
          )}
          {isBlocked ? (
            <button type="button" class="button" onClick={() => unblock(username).catch(toastError)}>
              Unblock
            </button>
          ) : (
            <button
              type="button"
              class="button danger"
              onClick={() =>
                ask({
                  title: "Block this person?",
                  text: (
                    <>
                      <bdi>{fullname}</bdi> cannot write to you, add you to groups or see whether you are online. They are not told.
                    </>
                  ),
                  action: "Block",
                  isDangerous: true,
                  run: () => block(username),
                })
              }
            >
              Block
            </button>
          )}
        </div>
      )}
    </div>
  );
}
