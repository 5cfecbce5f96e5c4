// A field with its name above it.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

export function Field({ label, hint, ...rest }: { label: string; hint?: string } & preact.InputHTMLAttributes) {
  return (
    <label class="field">
      <span>{label}</span>
      <input {...rest} />
      {hint && <small class="quiet">{hint}</small>}
    </label>
  );
}

/** A form that shows what went wrong, and does not send twice. `run` gets the fields' values by their names. */
export function Form(props: {
  action: string;
  children: ComponentChildren;
  run: (values: Record<string, string>, form: HTMLFormElement) => Promise<void>;
  class?: string;
}) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const values = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value)]));
    setBusy(true);
    setError("");
    try {
      await props.run(values, form);
    } catch (error) {
      setError((error as Error).message);
    }
    setBusy(false);
  };
  return (
    <form class={props.class ?? "form"} onSubmit={submit}>
      {props.children}
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      <button type="submit" class="button primary" disabled={busy}>
        {props.action}
      </button>
    </form>
  );
}
