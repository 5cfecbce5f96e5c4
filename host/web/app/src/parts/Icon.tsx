// Icons, drawn with lines of one width on a grid of 24.

const PATHS = {
  plus: "M12 5v14M5 12h14",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M20 20l-4-4",
  back: "M15 5l-7 7 7 7",
  close: "M6 6l12 12M18 6L6 18",
  send: "M5 12h13M12 5l7 7-7 7",
  smile: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M8.5 14.5a4.5 4.5 0 0 0 7 0M9 9.5v.5M15 9.5v.5",
  reply: "M10 8L5 13l5 5M5 13h8a6 6 0 0 1 6 6",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  check: "M5 13l4 4L19 7",
  checks: "M2 13l4 4L16 7M11 16l1 1L22 7",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 8v4.5l3 1.5",
  alert: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 8v5M12 16.5v.01",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6M18 14.5a6.5 6.5 0 0 1 3.5 5.5",
  person: "M12 11.5a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4.5 20.5a7.5 7.5 0 0 1 15 0",
  settings: "M4 7h9M19 7h1M16 9.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5M4 17h1M11 17h9M8 19.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5",
  at: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M16 8v5.5a2.5 2.5 0 0 0 5 0V12a9 9 0 1 0-3.5 7",
  up: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  pencil: "M4 20l1-4L16 5l3 3L8 19l-4 1",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  flag: "M6 21V4M6 5h11l-2 4 2 4H6",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M12 11v5M12 8v.01",
  leave: "M10 4H5v16h5M15 8l4 4-4 4M9 12h10",
  ban: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18M6 6l12 12",
  chat: "M4 5h16v11H11l-5 4v-4H4z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** A button that shows an icon only; its label is its name, and what a pointer that rests on it is told. */
export function IconButton({ icon, label, ...rest }: { icon: IconName; label: string } & preact.ButtonHTMLAttributes) {
  return (
    <button type="button" class="icon-button" aria-label={label} title={label} {...rest}>
      <Icon name={icon} />
    </button>
  );
}
