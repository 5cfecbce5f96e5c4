// A person in a list: who it is, and whether they are there.

import type { ComponentChildren } from "preact";
import type { Profile } from "../chat";
import { moment } from "../text/time";
import { to } from "../route";
import { Avatar } from "./Avatar";

export function presence({ is_online, last_online }: Pick<Profile, "is_online" | "last_online">): string {
  if (is_online) return "Online";
  // Nothing is known of somebody who has blocked the reader.
  return last_online ? `Last seen ${moment(last_online)}` : "Offline";
}

/** Without `onChoose` it leads to the person. */
export function PersonRow(props: { profile: Profile; note?: string; children?: ComponentChildren; onChoose?: () => void }) {
  const { profile, note = presence(profile), onChoose } = props;
  const inside = (
    <>
      <Avatar name={profile.fullname} isOnline={profile.is_online} />
      <span class="person-text">
        <bdi>{profile.fullname}</bdi>
        <span class="quiet">
          <bdi>@{profile.username}</bdi> · {note}
        </span>
      </span>
    </>
  );
  if (onChoose)
    return (
      <button type="button" class="person" onClick={onChoose}>
        {inside}
        {props.children}
      </button>
    );
  return (
    <div class="person">
      <a class="person person-link" href={to.person(profile.username)}>
        {inside}
      </a>
      {props.children}
    </div>
  );
}
