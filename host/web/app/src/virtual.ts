// Long lists: only the rows near what is seen are in the page.

import { Virtualizer, elementScroll, observeElementOffset, observeElementRect, type VirtualizerOptions } from "@tanstack/virtual-core";
import { flushSync } from "preact/compat";
import { useLayoutEffect, useReducer, useRef } from "preact/hooks";

export { elementScroll, type VirtualItem } from "@tanstack/virtual-core";
export type List = Virtualizer<HTMLElement, HTMLElement>;

/** `getItemKey` has to stay the same function while the keys do: at another one, all rows are laid out again. */
type Options = Partial<VirtualizerOptions<HTMLElement, HTMLElement>> &
  Pick<VirtualizerOptions<HTMLElement, HTMLElement>, "count" | "getScrollElement" | "estimateSize" | "getItemKey">;

export function useVirtual(options: Options): List {
  const [, render] = useReducer((count: number) => count + 1, 0);
  const held = useRef<List>(undefined);
  const whole: VirtualizerOptions<HTMLElement, HTMLElement> = {
    observeElementRect,
    observeElementOffset,
    scrollToFn: elementScroll,
    ...options,
    onChange: (list, isSync) => {
      if (isSync) flushSync(() => render(undefined));
      else render(undefined);
      options.onChange?.(list, isSync);
    },
  };
  const list = (held.current ??= new Virtualizer(whole));
  list.setOptions(whole);
  useLayoutEffect(() => list._didMount(), []);
  useLayoutEffect(() => list._willUpdate());
  return list;
}

let remPixels: number | undefined;
addEventListener("resize", () => (remPixels = undefined));

/** Pixels of the root's font size, by which all sizes go. It is asked for each row of a list, and the styles are slow to tell. */
export const rem = () => (remPixels ??= parseFloat(getComputedStyle(document.documentElement).fontSize));
