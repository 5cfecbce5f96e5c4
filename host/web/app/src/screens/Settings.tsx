// The own account: profile, notifications, password, devices, data.

import { useEffect, useState } from "preact/hooks";
import { DELETED, request, useMe } from "../chat";
import { notifies, setNotifies } from "../notifications";
import { ask } from "../parts/Dialog";
import { Field, Form } from "../parts/Field";
import { Page } from "../parts/Page";
import { toast, toastError } from "../parts/Toast";
import { changePassword, deleteAccount, endSession, exportAccount, logOut, sessions, type Session } from "../session";
import { moment } from "../text/time";

export function Settings() {
  return (
    <Page title="Settings">
      <ProfileSection />
      <NotificationSection />
      <PasswordSection />
      <DeviceSection />
      <DataSection />
    </Page>
  );
}

function ProfileSection() {
  const me = useMe();
  return (
    <section class="section" aria-labelledby="profile">
      <h2 id="profile">Profile</h2>
      <p class="quiet">
        Your username is <bdi>{me.username}</bdi>. It never changes.
      </p>
      <Form
        action="Save"
        run={async ({ fullname = "", reachable_by }) => {
          await request("update_profile", { fullname, reachable_by: reachable_by === "contacts" ? "contacts" : "everyone" });
          toast("Saved.");
        }}
      >
        <Field key={me.fullname} label="Full name" name="fullname" required maxLength={256} defaultValue={me.fullname} autoComplete="name" dir="auto" />
        <label class="field">
          <span>Who can start a conversation with you</span>
          <select name="reachable_by" key={me.reachable_by} defaultValue={me.reachable_by ?? "everyone"}>
            <option value="everyone" selected={me.reachable_by !== "contacts"}>
              Everyone
            </option>
            <option value="contacts" selected={me.reachable_by === "contacts"}>
              Contacts only
            </option>
          </select>
        </label>
      </Form>
    </section>
  );
}

function NotificationSection() {
  const isThere = "Notification" in globalThis;
  return (
    <section class="section" aria-labelledby="notifications">
      <h2 id="notifications">Notifications</h2>
      {isThere ? (
        <label class="check">
          <input type="checkbox" checked={notifies.value} onChange={(event) => void setNotifies(event.currentTarget.checked)} />
          Tell me of new messages while this page is in the background
        </label>
      ) : (
        <p class="quiet">This browser shows no notifications here.</p>
      )}
    </section>
  );
}

function PasswordSection() {
  return (
    <section class="section" aria-labelledby="password">
      <h2 id="password">Password</h2>
      <Form
        action="Change password"
        run={async ({ old_password = "", new_password = "" }, form) => {
          await changePassword(old_password, new_password);
          form.reset();
          toast("The password is changed. All other devices are logged out.");
        }}
      >
        <Field label="Current password" name="old_password" type="password" autoComplete="current-password" required maxLength={1024} />
        <Field label="New password" name="new_password" type="password" autoComplete="new-password" required maxLength={1024} />
      </Form>
    </section>
  );
}

function DeviceSection() {
  const [list, setList] = useState<readonly Session[] | null>(null);
  const [error, setError] = useState("");
  const load = () =>
    sessions().then(
      (list) => (setList(list), setError("")),
      (error: Error) => setError(error.message),
    );
  useEffect(() => void load(), []);
  return (
    <section class="section" aria-labelledby="devices">
      <h2 id="devices">Devices</h2>
      <ul>
        {list?.map((session) => (
          <li class="device" key={session.id}>
            <div>
              <strong>{deviceName(session.user_agent)}</strong>
              {session.current && " (this one)"}
              <p class="quiet">Last seen {moment(session.last_seen)}</p>
            </div>
            {!session.current && (
              <button
                type="button"
                class="button"
                aria-label={`Log out ${deviceName(session.user_agent)}`}
                onClick={() => endSession(session.id).then(load, toastError)}
              >
                Log out
              </button>
            )}
          </li>
        ))}
      </ul>
      {error && <p class="error">The list of devices cannot be shown: {error}</p>}
      <div class="buttons">
        <button type="button" class="button" onClick={() => void logOut().catch(toastError)}>
          Log out on this device
        </button>
      </div>
    </section>
  );
}

/** "Firefox on Linux": what most people know a device by. */
function deviceName(userAgent: string | null): string {
  if (!userAgent) return "Unknown device";
  const find = (names: Record<string, string>) => Object.entries(names).find(([part]) => userAgent.includes(part))?.[1];
  const browser = find({ "Edg/": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari" });
  const system = find({ iPhone: "iPhone", iPad: "iPad", Android: "Android", Windows: "Windows", "Mac OS": "macOS", CrOS: "ChromeOS", Linux: "Linux" });
  return browser ? (system ? `${browser} on ${system}` : browser) : userAgent.slice(0, 60);
}

function DataSection() {
  return (
    <section class="section" aria-labelledby="data">
      <h2 id="data">Your data</h2>
      <p class="quiet">Download everything that is stored about you, as one file.</p>
      <div class="buttons">
        <button type="button" class="button" onClick={() => void exportAccount().catch(toastError)}>
          Export my data
        </button>
        <button
          type="button"
          class="button danger"
          onClick={() =>
            ask({
              title: "Delete your account?",
              text: (
                <>
                  <p>Your profile and contacts are erased, and you are logged out everywhere.</p>
                  <p>Your messages stay, under the name “{DELETED.fullname}”. Nobody else can get your username.</p>
                  <p>You cannot undo this. But if the operator of this server restores a backup of an earlier time, your account comes back.</p>
                </>
              ),
              action: "Delete account",
              isDangerous: true,
              field: { label: "Password", type: "password", max: 1024 },
              run: deleteAccount,
            })
          }
        >
          Delete my account
        </button>
      </div>
    </section>
  );
}
