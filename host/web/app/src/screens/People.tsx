// Contacts, and who is blocked.

import { addContact, unblock, useBlocked, useContacts } from "../chat";
import { Empty } from "../parts/Empty";
import { FindPeople } from "../parts/FindPeople";
import { Page } from "../parts/Page";
import { PersonRow } from "../parts/PersonRow";
import { toast, toastError } from "../parts/Toast";

export function People() {
  const contacts = useContacts();
  const blocked = useBlocked();
  const sorted = [...contacts].sort(
    (a, b) => Number(b.is_online) - Number(a.is_online) || a.fullname.localeCompare(b.fullname),
  );
  return (
    <Page title="People">
      <section class="section" aria-labelledby="contacts">
        <h2 id="contacts">Contacts</h2>
        {sorted.length === 0 ? (
          <Empty icon="people" title="No contacts yet">
            <p>With a contact, you see who is online. Search below to add somebody.</p>
          </Empty>
        ) : (
          <ul class="people">
            {sorted.map((profile) => (
              <li key={profile.username}>
                <PersonRow profile={profile} />
              </li>
            ))}
          </ul>
        )}
      </section>
      <section class="section" aria-labelledby="add-contact">
        <h2 id="add-contact">Add a contact</h2>
        <FindPeople
          label="Find people"
          without={contacts.map(({ username }) => username)}
          onChoose={({ username, fullname }) => addContact(username).then(() => toast(`${fullname} is a contact now.`), toastError)}
        />
      </section>
      {blocked.length > 0 && (
        <section class="section" aria-labelledby="blocked">
          <h2 id="blocked">Blocked</h2>
          <ul class="people">
            {blocked.map((username) => (
              <li key={username} class="person">
                <span class="person-text">
                  <bdi>{username}</bdi>
                </span>
                <button type="button" class="button" onClick={() => unblock(username).catch(toastError)}>
                  Unblock
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
    </Page>
  );
}
