// One menu at a time, in the top layer, beside what opened it.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon, type IconName } from "./Icon";

export interface MenuItem {
  icon: IconName;
  label: string;
  isDangerous?: boolean;
  run: () => void;
}

interface Opened {
  label: string;
  anchor: HTMLElement;
  items: MenuItem[];
  /** Above the items. */
  head?: ComponentChildren;
}

const opened = signal<Opened | null>(null);

export function openMenu(menu: Opened): void {
  opened.value = menu;
}

export function closeMenu(): void {
  opened.value = null;
}

export function Menus() {
  const menu = opened.value;
  return menu && <Menu key={menu.label} menu={menu} />;
}

const GAP_PIXELS = 4;
const EDGE_PIXELS = 8;

/** Puts a box of the top layer beside its anchor: below it, or above if there is no room. */
export function place(box: HTMLElement, anchor: HTMLElement): void {
  const { left, right, top, bottom } = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = box;
  const isRight = (left + right) / 2 > innerWidth / 2;
  const x = isRight ? right - width : left;
  const below = bottom + GAP_PIXELS;
  const y = below + height > innerHeight - EDGE_PIXELS ? top - GAP_PIXELS - height : below;
  const within = (value: number, length: number, room: number) =>
    `${Math.max(EDGE_PIXELS, Math.min(value, room - length - EDGE_PIXELS))}px`;
  box.style.left = within(x, width, innerWidth);
  box.style.top = within(y, height, innerHeight);
}

function Menu({ menu }: { menu: Opened }) {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const box = element.current!;
    box.showPopover?.();
    place(box, menu.anchor);
    box.querySelector<HTMLElement>("button")?.focus();
    return () => {
      if (!document.activeElement || document.activeElement === document.body || box.contains(document.activeElement)) menu.anchor.focus();
    };
  }, [menu]);
  const move = (event: KeyboardEvent) => {
    const buttons = [...element.current!.querySelectorAll<HTMLElement>("button")];
    const at = buttons.indexOf(document.activeElement as HTMLElement);
    const next = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === "Tab") closeMenu();
    if (next === undefined) return;
    event.preventDefault();
    buttons.at(next % buttons.length)?.focus();
  };
  return (
    <div
      ref={element}
      class="menu"
      popover="auto"
      role="menu"
      aria-label={menu.label}
      onKeyDown={move}
      onToggle={(event) => event.newState === "closed" && opened.value === menu && closeMenu()}
    >
      {menu.head}
      {menu.items.map((item) => (
        <button
          key={item.label}
          type="button"
          role="menuitem"
          class={item.isDangerous ? "menu-item is-dangerous" : "menu-item"}
          onClick={() => {
            closeMenu();
            item.run();
          }}
        >
          <Icon name={item.icon} />
          {item.label}
        </button>
      ))}
    </div>
  );
}
