// Where a message is written.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Item } from "../chat";
import { Icon, IconButton } from "../parts/Icon";
import { announce } from "../parts/Toast";
import { snippet } from "../text/markdown";
import { complete, type Completion, type Nameable, type Suggestion } from "./completion";
import { drafts, keepDraft } from "./drafts";
import { pickEmoji } from "./picker";

/** The server's bound. */
const CONTENT_BYTES_MAX = 64 * 1024;
const SUGGESTIONS_ID = "suggestions";

export interface Context {
  kind: "reply" | "edit";
  item: Item;
  who: string;
}

interface Props {
  conversation: number;
  context: Context | null;
  people: readonly Nameable[];
  mayAll: boolean;
  onSend(text: string): void;
  onCancel(): void;
  onTyping(): void;
  /** The arrow up in an empty field. */
  onEditLast(): void;
}

export const messageField = () => document.querySelector<HTMLTextAreaElement>("#message");

/** Where Enter is beside the letters of a screen, it begins a line, as everywhere there. */
const hasKeyboard = () => matchMedia("(hover: hover), (any-pointer: fine)").matches;

export function Composer(props: Props) {
  const { conversation, context } = props;
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(() => drafts.peek().get(conversation)?.text ?? "");
  const [completion, setCompletion] = useState<Completion | null>(null);
  const [chosen, setChosen] = useState(0);
  const isEdit = context?.kind === "edit";

  useEffect(() => {
    if (context === null) return;
    if (context.kind === "edit") setText(context.item.content);
    const element = field.current!;
    element.focus();
    requestAnimationFrame(() => element.setSelectionRange(element.value.length, element.value.length));
    return () => {
      // What was written before the edit is there again.
      if (context.kind === "edit") setText(drafts.peek().get(conversation)?.text ?? "");
    };
  }, [context]);

  useLayoutEffect(() => {
    const element = field.current!;
    if (CSS.supports("field-sizing", "content")) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);

  const change = (next: string) => {
    setText(next);
    if (!isEdit) keepDraft(conversation, { text: next, ...(context?.item.id && { replyTo: context.item.id }) });
  };
  const suggest = () => {
    const { value, selectionStart, selectionEnd } = field.current!;
    const found = selectionStart === selectionEnd ? complete(value, selectionStart, props.people, props.mayAll) : null;
    if (found && !completion) announce(`${found.suggestions.length} suggestions`);
    setCompletion(found);
    setChosen(0);
  };
  const insert = (text: string, start: number, end: number) => {
    const element = field.current!;
    element.focus();
    element.setRangeText(text, start, end, "end");
    change(element.value);
    setCompletion(null);
  };
  const accept = ({ insert: text }: Suggestion) => insert(text, completion!.start, completion!.end);

  const isTooLong = text.length > CONTENT_BYTES_MAX / 4 && new TextEncoder().encode(text).length > CONTENT_BYTES_MAX;
  const canSend = text.trim() !== "" && !isTooLong;
  const send = () => {
    if (!canSend) return;
    props.onSend(text);
    setCompletion(null);
    if (!isEdit) {
      setText("");
      keepDraft(conversation, { text: "" });
    }
    field.current!.focus();
  };

  const press = (event: KeyboardEvent) => {
    // It belongs to the choice of a Chinese or Japanese word.
    if (event.isComposing) return;
    if (completion) {
      const { suggestions } = completion;
      const by = { ArrowDown: 1, ArrowUp: suggestions.length - 1 }[event.key as string];
      if (by !== undefined) setChosen((chosen + by) % suggestions.length);
      else if (event.key === "Enter" || event.key === "Tab") accept(suggestions[chosen]!);
      else if (event.key === "Escape") setCompletion(null);
      else return;
      event.preventDefault();
      return;
    }
    if (event.key === "Enter" && !event.shiftKey && hasKeyboard()) send();
    else if (event.key === "Escape" && context) props.onCancel();
    else if (event.key === "ArrowUp" && text === "") props.onEditLast();
    else return;
    event.preventDefault();
  };

  return (
    <div class="composer-inner">
      {completion && (
        <ul class="suggestions" role="listbox" id={SUGGESTIONS_ID} aria-label="Suggestions">
          {completion.suggestions.map((suggestion, at) => (
            <li
              key={suggestion.insert}
              id={`${SUGGESTIONS_ID}-${at}`}
              class="suggestion"
              role="option"
              aria-selected={at === chosen}
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => accept(suggestion)}
            >
              <span aria-hidden="true">{suggestion.sign}</span>
              <bdi>{suggestion.label}</bdi>
              <bdi class="quiet">{suggestion.note}</bdi>
            </li>
          ))}
        </ul>
      )}
      {context && (
        <div class="composer-context">
          <Icon name={isEdit ? "pencil" : "reply"} />
          <p>
            <strong>{isEdit ? "Edit" : <>Reply to <bdi>{context.who}</bdi></>}</strong>{" "}
            <bdi class="quiet">{snippet(context.item.content)}</bdi>
          </p>
          <IconButton icon="close" label={isEdit ? "Cancel the edit" : "Cancel the reply"} onClick={props.onCancel} />
        </div>
      )}
      <div class="composer-box">
        <IconButton
          icon="smile"
          label="Emojis"
          onClick={(event) => {
            const { selectionStart, selectionEnd } = field.current!;
            pickEmoji(event.currentTarget, (char) => insert(char, selectionStart, selectionEnd));
          }}
        />
        <textarea
          ref={field}
          id="message"
          rows={1}
          dir="auto"
          value={text}
          placeholder="Message"
          aria-label="Message"
          aria-autocomplete="list"
          aria-controls={completion ? SUGGESTIONS_ID : undefined}
          aria-activedescendant={completion ? `${SUGGESTIONS_ID}-${chosen}` : undefined}
          aria-invalid={isTooLong}
          enterkeyhint={hasKeyboard() ? "send" : "enter"}
          onInput={(event) => {
            change(event.currentTarget.value);
            suggest();
            if (event.currentTarget.value && !isEdit) props.onTyping();
          }}
          onKeyDown={press}
          onClick={suggest}
          onBlur={() => setCompletion(null)}
        />
        <IconButton icon={isEdit ? "check" : "send"} label={isEdit ? "Save" : "Send"} class="icon-button send-button" disabled={!canSend} onClick={send} />
      </div>
      {isTooLong && (
        <p class="error" role="alert">
          The message is too long: it may have 64 KiB.
        </p>
      )}
    </div>
  );
}
