// All emojis, to look at or to search by name.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { place } from "../parts/Menu";
import { find, groups, type Emoji } from "../text/emoji";
import { picker, type Picker } from "./picker";

export function EmojiPicker({ anchor, pick }: Picker) {
  const element = useRef<HTMLDivElement>(null);
  const [wanted, setWanted] = useState("");
  useLayoutEffect(() => {
    element.current?.showPopover?.();
    place(element.current!, anchor);
    element.current?.querySelector("input")?.focus();
  }, []);
  const choose = (char: string) => {
    picker.value = null;
    pick(char);
  };
  const grid = (emojis: Emoji[]) => (
    <div class="picker-grid">
      {emojis.map(({ char, name }) => (
        <button key={char} type="button" class="emoji-button" aria-label={name} title={name} onClick={() => choose(char)}>
          {char}
        </button>
      ))}
    </div>
  );
  const found = wanted ? find(wanted, 60) : null;
  return (
    <div
      ref={element}
      class="menu picker"
      popover="auto"
      role="dialog"
      aria-label="Emojis"
      onToggle={(event) => {
        if (event.newState !== "closed") return;
        picker.value = null;
        if (document.activeElement === document.body) anchor.focus();
      }}
    >
      <input
        type="search"
        aria-label="Search emojis"
        placeholder="Search emojis"
        value={wanted}
        onInput={(event) => setWanted(event.currentTarget.value)}
        onKeyDown={(event) => {
          const first = found?.[0];
          if (event.key === "Enter" && first) choose(first.char);
        }}
      />
      <div class="picker-list" tabIndex={0} role="group" aria-label="Results">
        {found ? (
          found.length > 0 ? (
            grid(found)
          ) : (
            <p class="quiet">No emoji has that name.</p>
          )
        ) : (
          groups.map(({ title, emojis }) => (
            <section key={title}>
              <h2>{title}</h2>
              {grid(emojis)}
            </section>
          ))
        )}
      </div>
    </div>
  );
}
