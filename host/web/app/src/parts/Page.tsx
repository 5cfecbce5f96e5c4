// A screen in the main pane: its title, a way back, and its content.

import type { ComponentChildren } from "preact";
import { back } from "../route";
import { IconButton } from "./Icon";

export function Page(props: { title: string; children: ComponentChildren }) {
  return (
    <section class="page" aria-label={props.title}>
      <header class="bar">
        <IconButton icon="back" label="Back" onClick={back} />
        <h1 class="bar-title">{props.title}</h1>
      </header>
      <div class="page-body">
        <div class="page-column">{props.children}</div>
      </div>
    </section>
  );
}
