// Which emoji picker is open.

import { signal } from "@preact/signals";
import { loadMore } from "../later";

export interface Picker {
  anchor: HTMLElement;
  pick: (char: string) => void;
}

export const picker = signal<Picker | null>(null);

export function pickEmoji(anchor: HTMLElement, pick: (char: string) => void): void {
  void loadMore();
  picker.value = { anchor, pick };
}
