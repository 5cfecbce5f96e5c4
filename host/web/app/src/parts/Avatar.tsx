// A circle with initials that stands for a person or a group.

import { hue, initials } from "../text/names";

export function Avatar(props: { name: string; isOnline?: boolean | undefined; size?: "s" | "m" | "l" }) {
  const { name, isOnline, size = "m" } = props;
  return (
    <span class={isOnline ? "presence is-online" : "presence"} aria-hidden="true">
      <span class={`avatar avatar-${size} hue-${hue(name)}`}>{initials(name)}</span>
    </span>
  );
}
