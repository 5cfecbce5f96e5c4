// A new conversation: with one person, or a group.

import { useState } from "preact/hooks";
import { openDirect, request, type Profile } from "../chat";
import { Field, Form } from "../parts/Field";
import { FindPeople } from "../parts/FindPeople";
import { IconButton } from "../parts/Icon";
import { Page } from "../parts/Page";
import { replace, to } from "../route";
import { list } from "../text/names";

export function New() {
  const [chosen, setChosen] = useState<Profile[]>([]);
  const [isGroup, setGroup] = useState(false);
  const one = chosen.length === 1 && !isGroup ? chosen[0] : undefined;
  return (
    <Page title="New conversation">
      {chosen.length > 0 && (
        <div class="section">
          <ul class="chips" aria-label="Chosen people">
            {chosen.map((profile) => (
              <li class="chip" key={profile.username}>
                <bdi>{profile.fullname}</bdi>
                <IconButton icon="close" label={`Remove ${profile.fullname}`} onClick={() => setChosen(chosen.filter((other) => other !== profile))} />
              </li>
            ))}
          </ul>
          <Form
            action={one ? "Start chat" : "Create group"}
            run={async ({ name }) => {
              if (one) return replace(to.room(await openDirect(one.username)));
              const members = chosen.map(({ username }) => username);
              const made = await request("create_conversation", { members, ...(name && { name }) });
              replace(to.room(made.id));
            }}
          >
            {one ? (
              <label class="check">
                <input type="checkbox" checked={isGroup} onChange={() => setGroup(true)} />
                Make it a group
              </label>
            ) : (
              <Field label="Group name" name="name" maxLength={256} dir="auto" placeholder={list(chosen.map(({ fullname }) => fullname))} />
            )}
          </Form>
        </div>
      )}
      <FindPeople
        label={chosen.length === 0 ? "Find people" : "Add more people"}
        without={chosen.map(({ username }) => username)}
        onChoose={(profile) => setChosen([...chosen, profile])}
      />
    </Page>
  );
}
