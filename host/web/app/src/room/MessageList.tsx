// The messages of a conversation, of which only those near what is seen are in the page.

import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Item, Profile } from "../chat";
import { announce } from "../parts/Toast";
import { Icon } from "../parts/Icon";
import { count } from "../text/names";
import { dayOf } from "../text/time";
import { elementScroll, rem, useVirtual, type List, type VirtualItem } from "../virtual";
import { messageField } from "./Composer";
import { MessageRow, type RowActions } from "./MessageRow";

/** Messages of one sender that come within this time are one group. */
const GROUP_SECONDS = 5 * 60;
/** Older messages are loaded when so few are left above. */
const LOAD_ROWS = 30;
/** Nearer to the end than this counts as at the end. */
const END_PIXELS = 80;
/** How high a row is before it is measured, in rem: most are one line. */
const ROW_REM = 3;
const FOUND_MILLISECONDS = 2_000;

interface Props {
  items: readonly Item[];
  hasOlder: boolean;
  isLoading: boolean;
  loadOlder(): void;
  /** Loads until the message is there; false if there is no such message. */
  loadUntil(id: number): Promise<boolean>;
  me: string;
  isDirect: boolean;
  /** Up to which message was read, and how many there are after it. */
  readId: number;
  unread: number;
  /** Shows this message. */
  target: number | undefined;
  onTargetShown(): void;
  /** The last message is seen. */
  onSeen(id: number): void;
  senderOf(username: string): Profile;
  originalOf(id: number): Item | null | undefined;
  readersOf(item: Item): string;
  actions: Omit<RowActions, "focused" | "jump">;
  start: preact.ComponentChildren;
}

/** The first place whose message is later than `id`, or not stored yet. */
function firstAfter(items: readonly Item[], id: number): number {
  // Stored ones come first, in the order of their ids.
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const item = items[middle]!;
    if (item.state === "stored" && item.id <= id) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The place of a message; -1 if it is not here. */
export function indexOf(items: readonly Item[], id: number): number {
  const index = firstAfter(items, id) - 1;
  return items[index]?.id === id ? index : -1;
}

export function MessageList(props: Props) {
  const { items, me } = props;
  // After which message the line stands that says what is new; it stays while the conversation is open.
  const [newAfter, setNewAfter] = useState(props.unread > 0 ? props.readId : null);
  const isAllSeen = useRef(false);
  const [isFirstNewSeen, setFirstNewSeen] = useState(newAfter === null);
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState<string | null>(null);
  const lastStored = useRef<Item | undefined>(undefined);
  const [found, setFound] = useState<number | null>(null);
  const [isAtEnd, setAtEnd] = useState(true);
  const atEnd = useRef(true);
  /** Whether the end is kept in sight, however much comes: until the reader scrolls back. */
  const follows = useRef(true);
  /** Where the list was left, by the reader or by its own corrections. */
  const place = useRef(0);
  const latest = useRef(props);
  latest.current = props;

  const list = useVirtual({
    count: items.length,
    getScrollElement: () => scroller.current,
    getItemKey: useCallback((index: number) => items[index]?.key ?? index, [items]),
    estimateSize: () => ROW_REM * rem(),
    overscan: 8,
    anchorTo: "end",
    scrollEndThreshold: END_PIXELS,
    scrollToFn: (...given) => {
      elementScroll(...given);
      place.current = scroller.current?.scrollTop ?? 0;
    },
    useAnimationFrameWithResizeObserver: false,
    onChange: (list) => watch(list),
  });

  list.shouldAdjustScrollPositionOnItemSizeChange = isAbove;

  // Read is what was at the end of the list, in a tab that somebody looks at.
  const see = () => {
    const stored = lastStored.current;
    if (stored?.state !== "stored" || !atEnd.current || document.hidden) return;
    isAllSeen.current = true;
    latest.current.onSeen(stored.id);
  };

  const isNearEnd = (pixels: number) => {
    const box = scroller.current;
    return box === null || box.scrollHeight - box.clientHeight - box.scrollTop <= pixels;
  };

  const goTo = (index: number, align: "start" | "center" | "auto") => {
    list.scrollToIndex(index, { align });
    follows.current = isNearEnd(1);
  };

  const watch = (list: List) => {
    const top = scroller.current?.scrollTop ?? 0;
    // What has just come may have moved the end away.
    if (isNearEnd(list.isScrolling ? 1 : END_PIXELS)) follows.current = true;
    else if (top < place.current) follows.current = false;
    place.current = top;
    const is = follows.current || isNearEnd(END_PIXELS);
    if (is !== atEnd.current) {
      atEnd.current = is;
      setAtEnd(is);
      if (is) see();
    }
    const { hasOlder, isLoading, loadOlder } = latest.current;
    const firstNew = firstNewIndex(latest.current.items, newAfter, me);
    const isLoaded = firstNew > 0 || !hasOlder;
    if (!isFirstNewSeen && firstNew >= 0 && isLoaded && firstNew >= (list.range?.startIndex ?? Infinity)) setFirstNewSeen(true);
    if (hasOlder && !isLoading && (list.range?.startIndex ?? LOAD_ROWS) < LOAD_ROWS) loadOlder();
  };

  const show = useCallback((id: number) => {
    const index = indexOf(latest.current.items, id);
    if (index < 0) return false;
    goTo(index, "center");
    setFound(id);
    setActive(latest.current.items[index]!.key);
    setTimeout(() => setFound((now) => (now === id ? null : now)), FOUND_MILLISECONDS);
    return true;
  }, []);

  const jump = useCallback(async (id: number) => {
    if (show(id)) return;
    announce("Looking for the message");
    if (await latest.current.loadUntil(id)) requestAnimationFrame(() => show(id));
    else announce("The message is not here any more");
  }, []);

  const jumpToFirstNew = async () => {
    if (newAfter === null) return;
    announce("Looking for the first new message");
    await latest.current.loadUntil(Math.max(1, newAfter));
    requestAnimationFrame(() => {
      const { items } = latest.current;
      const index = firstNewIndex(items, newAfter, me);
      if (index < 0) return;
      setFirstNewSeen(true);
      setActive(items[index]!.key);
      goTo(index, "start");
    });
  };

  // Where it opens: at the first unread message or, without one, at the end.
  const isOpened = useRef(false);
  useLayoutEffect(() => {
    if (isOpened.current || items.length === 0) return;
    isOpened.current = true;
    const firstNew = firstNewIndex(items, newAfter, me);
    if (props.target === undefined && (firstNew > 0 || (firstNew === 0 && !props.hasOlder))) goTo(firstNew, "start");
    else list.scrollToEnd();
    watch(list);
  });

  useEffect(() => {
    if (props.target === undefined || items.length === 0) return;
    void jump(props.target);
    props.onTargetShown();
  }, [props.target, items.length > 0]);

  // What somebody sends is what somebody wants to see, and what comes to who is at the end.
  const last = items.at(-1);
  const lastKey = useRef(last?.key);
  const stored = items.findLast((item) => item.state === "stored");
  useLayoutEffect(() => {
    const isNext = last !== undefined && last.key !== lastKey.current && lastKey.current !== undefined;
    lastKey.current = last?.key;
    if (!isNext) return;
    if (last.sender_username === me || follows.current) list.scrollToEnd();
    if (last.sender_username === me) setNewAfter(null);
    else if (isAllSeen.current && (!atEnd.current || document.hidden)) {
      isAllSeen.current = false;
      setNewAfter(lastStored.current?.id ?? null);
    }
  }, [last?.key]);
  useLayoutEffect(() => {
    lastStored.current = stored;
    see();
  }, [stored?.id]);

  // A keyboard on the screen, and a text of several lines, take space from below.
  useEffect(() => {
    const observer = new ResizeObserver(() => follows.current && list.scrollToEnd());
    observer.observe(scroller.current!);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    document.addEventListener("visibilitychange", see);
    return () => document.removeEventListener("visibilitychange", see);
  }, []);

  const focusRow = (index: number) => {
    const item = items[index];
    if (!item) return;
    setActive(item.key);
    goTo(index, "auto");
    requestAnimationFrame(() => scroller.current?.querySelector<HTMLElement>(`[data-key="${CSS.escape(item.key)}"]`)?.focus());
  };

  const press = (event: KeyboardEvent) => {
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-key]");
    if (!row || event.target !== row) return;
    const index = items.findIndex((item) => item.key === row.dataset["key"]);
    const item = items[index]!;
    if (event.key === "ArrowUp") focusRow(Math.max(0, index - 1));
    else if (event.key === "ArrowDown") index + 1 < items.length ? focusRow(index + 1) : messageField()?.focus();
    else if (event.key === "Home") focusRow(0);
    else if (event.key === "End") focusRow(items.length - 1);
    else if (event.key === "Enter" || event.key === "ContextMenu" || (event.key === "F10" && event.shiftKey)) {
      props.actions.openMenu(item, row);
    } else if (event.key === "Escape") messageField()?.focus();
    else return;
    event.preventDefault();
  };

  // One object for all rows.
  const rowActions = useRef<RowActions>(undefined);
  rowActions.current ??= {
    openMenu: (...given) => latest.current.actions.openMenu(...given),
    pickReaction: (...given) => latest.current.actions.pickReaction(...given),
    react: (...given) => latest.current.actions.react(...given),
    reply: (...given) => latest.current.actions.reply(...given),
    retry: (...given) => latest.current.actions.retry(...given),
    discard: (...given) => latest.current.actions.discard(...given),
    nameOf: (username) => latest.current.actions.nameOf(username),
    focused: setActive,
    jump: (id) => void jump(id),
  };

  const activeKey = active !== null && items.some((item) => item.key === active) ? active : last?.key;
  const rows = list.getVirtualItems();
  const unseen = isAtEnd || newAfter === null ? 0 : countAfter(items, newAfter, me);
  const firstNew = firstNewIndex(items, newAfter, me);
  const firstRow = rows[0];
  return (
    <div class="list-frame">
      <div
        ref={scroller}
        class="messages"
        onKeyDown={press}
        onFocusOut={(event) => {
          const next = event.relatedTarget as Node | null;
          if (next && !scroller.current?.contains(next)) setActive(null);
        }}
      >
        <div class="messages-inner">
          <div class="virtual" role="list" aria-label="Messages" aria-busy={props.isLoading} style={{ height: `${list.getTotalSize()}px` }}>
            <div role="presentation" style={{ transform: `translateY(${firstRow?.start ?? 0}px)` }}>
              {rows.map(({ key, index }) => {
                const item = items[index];
                if (!item) return null;
                const before = items[index - 1];
                const after = items[index + 1];
                return (
                  <div
                    key={key}
                    data-index={index}
                    ref={list.measureElement}
                    role="listitem"
                    aria-posinset={index + 1}
                    aria-setsize={props.hasOlder ? -1 : items.length}
                  >
                    {index === 0 && !props.hasOlder && props.start}
                    <MessageRow
                      item={item}
                      me={me}
                      isDirect={props.isDirect}
                      starts={index === firstNew || !isGroup(before, item)}
                      ends={index + 1 === firstNew || !isGroup(item, after)}
                      isNewDay={!before || dayOf(before.sent_at) !== dayOf(item.sent_at)}
                      isFirstNew={index === firstNew}
                      isFound={found === item.id && item.state === "stored"}
                      isActive={item.key === activeKey}
                      sender={props.senderOf(item.sender_username)}
                      original={item.reply_id === null ? undefined : props.originalOf(item.reply_id)}
                      readers={item.sender_username === me ? props.readersOf(item) : ""}
                      actions={rowActions.current!}
                    />
                  </div>
                );
              })}
            </div>
          </div>
        </div>
      </div>
      {!isFirstNewSeen && (
        <div class="jump to-first">
          <button type="button" class="button" onClick={() => void jumpToFirstNew()}>
            <Icon name="up" />
            First new message
          </button>
        </div>
      )}
      {!isAtEnd && (
        <div class="jump to-end">
          <button type="button" class="button" onClick={() => list.scrollToEnd()}>
            <Icon name="down" />
            {unseen > 0 ? count(unseen, "new message") : "Latest"}
          </button>
        </div>
      )}
    </div>
  );
}

const isNew = (item: Item, newAfter: number | null, me: string) =>
  newAfter !== null && item.state === "stored" && item.id > newAfter && item.sender_username !== me;

/**
 * Whether what is seen has to be moved by as much as a row has grown. Without this, rows that are measured again while somebody
 * scrolls up do not count: the first row does when older ones come before it, because the line with the day is then not its own.
 */
function isAbove(row: VirtualItem, _: number, list: List): boolean {
  const top = list.scrollOffset ?? 0;
  const isMeasured = list.itemSizeCache.has(row.key);
  return isMeasured ? row.end <= top : row.start < top;
}

/** -1 if there is none. */
function firstNewIndex(items: readonly Item[], newAfter: number | null, me: string): number {
  if (newAfter === null) return -1;
  let index = firstAfter(items, newAfter);
  while (index < items.length && !isNew(items[index]!, newAfter, me)) index++;
  return index < items.length ? index : -1;
}

function isGroup(first: Item | undefined, second: Item | undefined): boolean {
  return (
    first !== undefined &&
    second !== undefined &&
    first.sender_username === second.sender_username &&
    second.sent_at - first.sent_at < GROUP_SECONDS &&
    dayOf(first.sent_at) === dayOf(second.sent_at) &&
    first.state !== "failed"
  );
}

function countAfter(items: readonly Item[], id: number, me: string): number {
  let number = 0;
  for (let at = items.length - 1; at >= 0; at--) {
    const item = items[at]!;
    if (item.state === "stored" && item.id <= id) break;
    if (isNew(item, id, me)) number++;
  }
  return number;
}
