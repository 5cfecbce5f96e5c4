// What a screen shows when there is nothing yet: what it is for, and what to do next.

import type { ComponentChildren } from "preact";
import { Icon, type IconName } from "./Icon";

export function Empty(props: { icon: IconName; title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <Icon name={props.icon} />
      <p class="empty-title">{props.title}</p>
      {props.children}
    </div>
  );
}
