// What a conversation is: its members, their roles, its name.

import { useState } from "preact/hooks";
import { isAbandoned, personOf, request, roleOf, titleOf, useConversation, useMe, usePerson, type ConversationView, type Role } from "../chat";
import { Avatar } from "../parts/Avatar";
import { ask } from "../parts/Dialog";
import { Field, Form } from "../parts/Field";
import { FindPeople } from "../parts/FindPeople";
import { IconButton } from "../parts/Icon";
import { openMenu, type MenuItem } from "../parts/Menu";
import { Page } from "../parts/Page";
import { PersonRow } from "../parts/PersonRow";
import { toastError } from "../parts/Toast";
import { go, replace, to } from "../route";
import { count } from "../text/names";
import { dateOnly } from "../text/time";
import { PersonCard } from "./Person";

/** Members that are shown at once. */
const SHOWN_MAX = 50;

export function Details({ id }: { id: number }) {
  const conversation = useConversation(id);
  if (!conversation)
    return (
      <Page title="Details">
        <p class="quiet">You are not in this conversation.</p>
      </Page>
    );
  return conversation.direct ? <DirectDetails conversation={conversation} /> : <GroupDetails conversation={conversation} />;
}

function DirectDetails({ conversation }: { conversation: ConversationView }) {
  const known = usePerson(conversation.profile?.username ?? "");
  const profile = known ?? conversation.profile;
  return (
    <Page title="Details">
      {isAbandoned(conversation) ? <p class="quiet">This person has deleted the account. The messages stay.</p> : profile && <PersonCard profile={profile} />}
    </Page>
  );
}

function GroupDetails({ conversation }: { conversation: ConversationView }) {
  const me = useMe().username;
  const title = titleOf(conversation);
  const { id, members = [], roles = {}, member_count } = conversation;
  const [shown, setShown] = useState(SHOWN_MAX);
  const [isAdding, setAdding] = useState(false);
  const hasOwner = Object.values(roles).includes("owner");
  // In a conversation of the first backend, which has no owner, everyone may do what an owner may.
  const myRole: Role | "member" = hasOwner ? (roleOf(conversation, me) ?? "member") : "owner";
  const mayChange = myRole !== "member";
  const rank = { owner: 0, admin: 1, member: 2 };
  const rankOf = (username: string) => rank[roleOf(conversation, username) ?? "member"];
  const sorted = [...members].sort((a, b) => rankOf(a) - rankOf(b));
  const leave = () =>
    ask({
      title: "Leave this conversation?",
      text: "It disappears from your list. Your messages stay, and others can add you again.",
      action: "Leave",
      isDangerous: true,
      run: async () => {
        await request("leave_conversation", { conversation_id: id });
        replace(to.home);
      },
    });
  return (
    <Page title="Details">
      <div class="hero">
        <Avatar name={title} size="l" />
        <h2>
          <bdi>{title}</bdi>
        </h2>
        <p class="quiet">
          {count(member_count, "member")}
          {conversation.created_at != null && ` · since ${dateOnly(conversation.created_at)}`}
        </p>
      </div>
      {mayChange && (
        <section class="section" aria-label="Name">
          <Form
            action="Rename"
            run={async ({ name = "" }) => {
              await request("rename_conversation", { conversation_id: id, name });
            }}
          >
            <Field key={title} label="Group name" name="name" required maxLength={256} defaultValue={title} dir="auto" />
          </Form>
        </section>
      )}
      <section class="section" aria-labelledby="members">
        <h2 id="members">Members</h2>
        <ul class="people">
          {sorted.slice(0, shown).map((username) => (
            <MemberRow key={username} conversation={conversation} username={username} myRole={myRole} me={me} />
          ))}
        </ul>
        {sorted.length > shown && (
          <button type="button" class="button" onClick={() => setShown(shown + 200)}>
            Show more
          </button>
        )}
        {mayChange &&
          (isAdding ? (
            <FindPeople
              label="Add people"
              without={members}
              onChoose={({ username }) => request("add_members", { conversation_id: id, members: [username] }).catch(toastError)}
            />
          ) : (
            <div class="buttons">
              <button type="button" class="button" onClick={() => setAdding(true)}>
                Add people
              </button>
            </div>
          ))}
      </section>
      <section class="section" aria-label="Leave">
        <div class="buttons">
          <button type="button" class="button danger" onClick={leave}>
            Leave conversation
          </button>
        </div>
      </section>
    </Page>
  );
}

const ROLE_NAMES = { owner: "Owner", admin: "Admin" };

function MemberRow(props: { conversation: ConversationView; username: string; myRole: Role | "member"; me: string }) {
  const { conversation, username, myRole, me } = props;
  usePerson(username);
  const profile = personOf(username);
  const role = roleOf(conversation, username);
  const { id } = conversation;
  const give = (next: Role | "member") => () =>
    void request("set_role", { conversation_id: id, username, role: next }).catch(toastError);
  const items: MenuItem[] = [{ icon: "person", label: "Profile", run: () => go(to.person(username)) }];
  if (myRole === "owner") {
    if (role !== "admin") items.push({ icon: "people", label: "Make admin", run: give("admin") });
    if (role !== "owner") items.push({ icon: "people", label: "Make owner", run: give("owner") });
    if (role !== undefined) items.push({ icon: "person", label: "Make member", run: give("member") });
  }
  const mayRemove = username !== me && (myRole === "owner" || (myRole === "admin" && role !== "owner"));
  if (mayRemove)
    items.push({
      icon: "ban",
      label: "Remove from group",
      isDangerous: true,
      run: () =>
        ask({
          title: "Remove from the group?",
          text: (
            <>
              <bdi>{profile.fullname}</bdi> is told, and sees nothing of it any more.
            </>
          ),
          action: "Remove",
          isDangerous: true,
          run: async () => {
            await request("remove_member", { conversation_id: id, username });
          },
        }),
    });
  return (
    <li>
      <PersonRow profile={profile} {...(username === me && { note: "you" })}>
        {role && <span class="role">{ROLE_NAMES[role]}</span>}
        <IconButton
          icon="more"
          label={`More about ${profile.fullname}`}
          aria-haspopup="menu"
          onClick={(event) => openMenu({ label: profile.fullname, anchor: event.currentTarget, items })}
        />
      </PersonRow>
    </li>
  );
}
