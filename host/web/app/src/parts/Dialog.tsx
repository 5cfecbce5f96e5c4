// Questions before something that cannot be taken back, and other small dialogs.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

interface Question {
  title: string;
  text: ComponentChildren;
  /** What the button that does it says. */
  action: string;
  isDangerous: boolean;
  /** Asks for a text, under this name. */
  field?: { label: string; type: "text" | "password"; max: number };
  run: (text: string) => Promise<void> | void;
}

const asked = signal<Question | null>(null);

/** Asks, and runs if the answer is yes. An error of it is shown in the dialog, which stays. */
export function ask(question: Question): void {
  asked.value = question;
}

export function closeDialog(): void {
  asked.value = null;
}

export function Dialogs() {
  const question = asked.value;
  return question && <QuestionDialog question={question} />;
}

const fieldOf = (type: "text" | "password") =>
  type === "password" ? ({ type: "password", autoComplete: "current-password" } as const) : ({ type: "text", autoComplete: "off" } as const);

function QuestionDialog({ question }: { question: Question }) {
  const element = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [text, setText] = useState("");
  const id = useId();
  useEffect(() => {
    element.current?.showModal();
  }, []);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await question.run(text);
      element.current?.close();
    } catch (error) {
      setError((error as Error).message);
      setBusy(false);
    }
  };
  const { field } = question;
  return (
    <dialog ref={element} class="dialog" aria-labelledby={id} onClose={closeDialog}>
      <form onSubmit={submit}>
        <h2 id={id}>{question.title}</h2>
        <div class="quiet">{question.text}</div>
        {field && (
          <label class="field">
            <span>{field.label}</span>
            <input {...fieldOf(field.type)} maxLength={field.max} required value={text} onInput={(event) => setText(event.currentTarget.value)} />
          </label>
        )}
        {error && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <div class="dialog-buttons">
          <button type="button" class="button" onClick={() => element.current?.close()}>
            Cancel
          </button>
          <button type="submit" class={question.isDangerous ? "button danger" : "button primary"} disabled={busy}>
            {question.action}
          </button>
        </div>
      </form>
    </dialog>
  );
}
