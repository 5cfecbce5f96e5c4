// Logging in and registering.

import { logIn, register } from "../session";
import { Field, Form } from "../parts/Field";
import { route, to } from "../route";

/** The server says so in the page itself (host/src/http/page.rs). */
const isClosed = document.documentElement.dataset["registration"] === "closed";

export function Welcome({ notice }: { notice: string | null }) {
  const isNew = !isClosed && route.value.screen === "register";
  return (
    <main class="welcome">
      <div class="welcome-card">
        <div class="welcome-head">
          <img src="/icon.svg" alt="" />
          <h1>{isNew ? "Register" : "Log in"}</h1>
        </div>
        {notice && <p class="quiet">{notice}</p>}
        <Form
          key={String(isNew)}
          action={isNew ? "Register" : "Log in"}
          run={async ({ username = "", password = "", fullname = "", remember }) => {
            if (isNew) await register({ username, password, fullname });
            await logIn({ username, password, remember: remember === "on" });
          }}
        >
          {isNew && <Field label="Full name" name="fullname" autoComplete="name" required maxLength={256} dir="auto" />}
          <Field
            label="Username"
            name="username"
            autoComplete="username"
            autoCapitalize="none"
            spellcheck={false}
            required
            maxLength={64}
            {...(isNew && { hint: "Others find you by it. It cannot be changed later." })}
          />
          <Field label="Password" name="password" type="password" autoComplete={isNew ? "new-password" : "current-password"} required maxLength={1024} />
          <label class="check">
            <input type="checkbox" name="remember" defaultChecked />
            Stay logged in
          </label>
        </Form>
        <p class="quiet">
          {isClosed ? (
            "An administrator makes the accounts here."
          ) : (
            <>
              {isNew ? "Registered already? " : "New here? "}
              <a href={isNew ? to.home : to.register}>{isNew ? "Log in" : "Register"}</a>
            </>
          )}
        </p>
      </div>
    </main>
  );
}
