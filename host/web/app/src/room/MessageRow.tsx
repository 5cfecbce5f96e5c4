// One message, with the lines above it that separate days and what is new.

import { memo } from "preact/compat";
import { Avatar } from "../parts/Avatar";
import { Icon, IconButton } from "../parts/Icon";
import type { Item, Profile, StoredItem } from "../chat";
import { more } from "../later";
import { to } from "../route";
import { snippet } from "../text/markdown";
import { list } from "../text/names";
import { dateAndTime, day, iso, time } from "../text/time";
import { isBig, Text } from "./Text";

/** What a row can ask of its room. It is the same object for all rows, so that rows are drawn only if they change. */
export interface RowActions {
  openMenu(item: Item, anchor: HTMLElement): void;
  pickReaction(item: Item, anchor: HTMLElement): void;
  react(item: Item, emoji: string, on: boolean): void;
  reply(item: Item): void;
  jump(id: number): void;
  retry(item: Item): void;
  discard(item: Item): void;
  focused(key: string): void;
  nameOf(username: string): string;
}

interface Props {
  item: Item;
  me: string;
  isDirect: boolean;
  /** First and last of what one sender says in a row. */
  starts: boolean;
  ends: boolean;
  /** Another day than the message before. */
  isNewDay: boolean;
  isFirstNew: boolean;
  isFound: boolean;
  isActive: boolean;
  sender: Profile;
  /** The message that it answers; null while it is looked for. */
  original: Item | null | undefined;
  /** The names of others who have read it; "" if nobody has. */
  readers: string;
  actions: RowActions;
}

/** Whether it is there for everyone, and not deleted. */
export const isChangeable = (item: Item): item is StoredItem => item.state === "stored" && !item.deleted;

export const MessageRow = memo(function MessageRow(props: Props) {
  const { item, me, starts, ends, isActive, sender, actions } = props;
  const isOwn = item.sender_username === me;
  const isStored = item.state === "stored";
  const classes = ["message"];
  if (isOwn) classes.push("is-own");
  if (starts) classes.push("starts");
  if (props.isFound) classes.push("is-found");
  if (!isStored) classes.push(`is-${item.state}`);
  const hasTools = isChangeable(item);
  return (
    <>
      {props.isNewDay && <div class="row-day">{day(item.sent_at)}</div>}
      {props.isFirstNew && <div class="row-new">New messages</div>}
      <div class="row">
        <article
          class={classes.join(" ")}
          tabIndex={isActive ? 0 : -1}
          data-key={item.key}
          aria-label={label(props, isOwn)}
          onFocus={() => actions.focused(item.key)}
        >
          {!isOwn && <div class="message-avatar">{ends && <Avatar name={sender.fullname} size="s" />}</div>}
          <div class="message-main">
            {!isOwn && starts && !props.isDirect && (
              <a class="message-who" href={to.person(item.sender_username)} tabIndex={isActive ? 0 : -1}>
                <bdi>{sender.fullname}</bdi>
              </a>
            )}
            <Bubble {...props} />
            {item.reactions && <Reactions {...props} />}
            <Foot {...props} isOwn={isOwn} />
            {hasTools && (
              <div class="message-tools">
                <IconButton icon="smile" label="React" tabIndex={-1} onClick={(event) => actions.pickReaction(item, event.currentTarget)} />
                <IconButton icon="reply" label="Reply" tabIndex={-1} onClick={() => actions.reply(item)} />
                <IconButton
                  icon="more"
                  label="More"
                  tabIndex={isActive ? 0 : -1}
                  aria-haspopup="menu"
                  onClick={(event) => actions.openMenu(item, event.currentTarget)}
                />
              </div>
            )}
          </div>
        </article>
      </div>
    </>
  );
});

/** What a screen reader says for the whole of it. */
function label({ item, sender }: Props, isOwn: boolean): string {
  const who = isOwn ? "You" : sender.fullname;
  const what = item.deleted ? "deleted a message" : snippet(item.content, 300);
  const state = item.state === "stored" ? time(item.sent_at) : item.state === "pending" ? "not sent yet" : "not sent";
  return `${who}: ${what}, ${state}`;
}

/** A finger that taps a message wants its menu. */
const isTouch = () => matchMedia("(hover: none)").matches;

function Bubble({ item, me, original, actions, isActive }: Props) {
  if (item.deleted) return <div class="bubble is-deleted">This message was deleted.</div>;
  const tap = (event: MouseEvent & { currentTarget: HTMLElement }) => {
    const isOther = (event.target as HTMLElement).closest("a, button, pre") || getSelection()?.isCollapsed === false;
    if (isTouch() && !isOther) actions.openMenu(item, event.currentTarget);
  };
  return (
    <div class={item.reply_id === null && isBig(item.content) ? "bubble is-big" : "bubble"} onClick={tap}>
      {item.reply_id !== null && (
        <button type="button" class="reply-quote" tabIndex={isActive ? 0 : -1} onClick={() => actions.jump(item.reply_id!)}>
          {original ? (
            <>
              <bdi>{original.sender_username === me ? "You" : actions.nameOf(original.sender_username)}</bdi>
              <span dir="auto">{original.deleted ? "This message was deleted." : snippet(original.content)}</span>
            </>
          ) : (
            <span>{original === null ? "…" : "A message that is not here any more"}</span>
          )}
        </button>
      )}
      <Text content={item.content} mentions={item.mentions} me={me} />
    </div>
  );
}

function Reactions({ item, me, actions, isActive }: Props) {
  return (
    <div class="reactions">
      {Object.entries(item.reactions!).map(([emoji, usernames]) => {
        const isMine = usernames.includes(me);
        const who = list(usernames.map((username) => (username === me ? "you" : actions.nameOf(username))), 10);
        return (
          <button
            key={emoji}
            type="button"
            class="reaction"
            tabIndex={isActive ? 0 : -1}
            aria-pressed={isMine}
            aria-label={`${more.peek()?.nameOfEmoji(emoji) ?? emoji}: ${who}`}
            title={who}
            onClick={() => actions.react(item, emoji, !isMine)}
          >
            <span>{emoji}</span>
            <span>{usernames.length}</span>
          </button>
        );
      })}
    </div>
  );
}

function Foot({ item, isOwn, ends, isDirect, readers, actions }: Props & { isOwn: boolean }) {
  const failed = item.state === "stored" ? item.change : item.sent;
  if (failed?.state === "failed")
    return (
      <div class="message-foot is-failed-foot">
        <Icon name="alert" />
        <span>
          {item.state === "stored" ? "Not changed" : "Not sent"}: {failed.error?.message ?? "something went wrong"}
        </span>
        <button type="button" class="link-button" onClick={() => actions.retry(item)}>
          Try again
        </button>
        <button type="button" class="link-button" onClick={() => actions.discard(item)}>
          Discard
        </button>
      </div>
    );
  if (item.state !== "stored" || item.change)
    return (
      <div class="message-foot">
        <Icon name="clock" />
        <span class="unseen">{item.state === "stored" ? "Not changed yet" : "Not sent yet"}</span>
      </div>
    );
  if (!ends && item.edited_at === undefined) return null;
  const read = isDirect ? "Read" : `Read by ${readers}`;
  return (
    <div class="message-foot">
      {item.edited_at !== undefined && !item.deleted && <span title={dateAndTime(item.edited_at)}>Edited</span>}
      {ends && (
        <time dateTime={iso(item.sent_at)} title={dateAndTime(item.sent_at)}>
          {time(item.sent_at)}
        </time>
      )}
      {ends && isOwn && !item.deleted && (
        <span title={readers ? read : "Sent"}>
          <Icon name={readers ? "checks" : "check"} />
          <span class="unseen">{readers ? read : "Sent"}</span>
        </span>
      )}
    </div>
  );
}

