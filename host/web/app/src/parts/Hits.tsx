// Messages that were found: who said what, where and when.

import { fullnameOf, titleOf, useConversations, useMe, usePeople, type Message } from "../chat";
import { to } from "../route";
import { snippet } from "../text/markdown";
import { brief, dateAndTime, iso } from "../text/time";

const SHOWN_CHARS = 280;
/** How much is shown before the first word that was found. */
const BEFORE_CHARS = 60;

export function Hits({ messages, words }: { messages: readonly Message[]; words: readonly string[] }) {
  const me = useMe().username;
  usePeople();
  const { conversations } = useConversations();
  return (
    <ul aria-label="Messages found">
      {messages.map((message) => {
        const conversation = conversations.find(({ id }) => id === message.conversation_id);
        return (
          <li key={message.id}>
            <a class="hit" href={to.room(message.conversation_id, message.id)}>
              <span class="hit-head">
                <bdi>{message.sender_username === me ? "You" : fullnameOf(message.sender_username)}</bdi>
                {conversation && !conversation.direct && (
                  <span class="quiet">
                    in <bdi>{titleOf(conversation)}</bdi>
                  </span>
                )}
                <time class="quiet" dateTime={iso(message.sent_at)} title={dateAndTime(message.sent_at)}>
                  {brief(message.sent_at)}
                </time>
              </span>
              <span class="hit-text" dir="auto">
                {marked(message.content, words)}
              </span>
            </a>
          </li>
        );
      })}
    </ul>
  );
}

/** Letters without their accents, one for one. */
const plain = (text: string) => [...text].map((char) => char.normalize("NFD")[0]!.toLocaleLowerCase()[0] ?? char).join("");

function marked(content: string, words: readonly string[]) {
  const whole = snippet(content, 4_000);
  const chars = [...whole];
  const lower = plain(whole);
  const wanted = words.map(plain).filter(Boolean);
  const first = Math.min(...wanted.map((word) => lower.indexOf(word)).filter((at) => at >= 0));
  const start = Number.isFinite(first) && first > BEFORE_CHARS ? first - BEFORE_CHARS : 0;
  const parts: (string | preact.JSX.Element)[] = start > 0 ? ["…"] : [];
  let plainFrom = start;
  for (let at = start; at < Math.min(chars.length, start + SHOWN_CHARS); ) {
    const word = wanted.find((word) => lower.startsWith(word, at));
    if (!word) at++;
    else {
      parts.push(chars.slice(plainFrom, at).join(""), <mark key={at}>{chars.slice(at, at + word.length).join("")}</mark>);
      plainFrom = at += word.length;
    }
  }
  parts.push(chars.slice(plainFrom, start + SHOWN_CHARS).join(""));
  return parts;
}
