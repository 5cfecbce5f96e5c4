// Which screen is shown: the fragment of the address, so that the server knows one page only.

import { signal } from "@preact/signals";

export type Route =
  | { screen: "home" }
  | { screen: "room"; id: number; message?: number }
  | { screen: "details"; id: number }
  | { screen: "person"; username: string }
  | { screen: "search"; query: string; conversation?: number }
  | { screen: "new" | "people" | "mentions" | "settings" | "register" };

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#?\/?/, "").split("?");
  const [first, second, third] = path.split("/");
  const values = new URLSearchParams(query);
  const number = (text: string | null | undefined) => (text && /^\d+$/.test(text) ? Number(text) : undefined);
  const id = number(second);
  switch (first) {
    case "c":
      if (id === undefined) break;
      if (third === "details") return { screen: "details", id };
      return { screen: "room", id, ...optional("message", number(third)) };
    case "u":
      if (second) return { screen: "person", username: decode(second) };
      break;
    case "search":
      return { screen: "search", query: values.get("q") ?? "", ...optional("conversation", number(values.get("in"))) };
    case "new":
    case "people":
    case "mentions":
    case "settings":
    case "register":
      return { screen: first };
  }
  return { screen: "home" };
}

const optional = <K extends string, V>(name: K, value: V | undefined) =>
  (value === undefined ? {} : { [name]: value }) as { [name in K]?: V };

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const to = {
  home: "#/",
  room: (id: number, message?: number) => (message === undefined ? `#/c/${id}` : `#/c/${id}/${message}`),
  details: (id: number) => `#/c/${id}/details`,
  person: (username: string) => `#/u/${encodeURIComponent(username)}`,
  search: (conversation?: number) => (conversation === undefined ? "#/search" : `#/search?in=${conversation}`),
  new: "#/new",
  people: "#/people",
  mentions: "#/mentions",
  settings: "#/settings",
  register: "#/register",
};

export const route = signal<Route>(parse(location.hash));

/** How many screens of this page are behind the present one. */
let depth = 0;

addEventListener("hashchange", () => {
  depth++;
  route.value = parse(location.hash);
});

export function go(hash: string): void {
  location.hash = hash;
}

/** Shows another screen in the place of this one. */
export function replace(hash: string): void {
  history.replaceState(null, "", hash);
  route.value = parse(hash);
}

/** To the screen before, or, where the page was opened with this one, to the one above. */
export function back(): void {
  const now = route.value;
  if (depth > 0) {
    depth -= 2;
    history.back();
  } else replace(now.screen === "details" ? to.room(now.id) : to.home);
}
