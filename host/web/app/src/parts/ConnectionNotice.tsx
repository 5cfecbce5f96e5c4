// Says that the connection is away, and what waits for it; not for the moment that a reconnect takes.

import { useEffect, useState } from "preact/hooks";
import { chat, useLive, usePending } from "../chat";
import { count } from "../text/names";
import { seconds } from "../text/time";

/** A shorter loss is nobody's business. */
const PATIENCE_MILLISECONDS = 2_000;

export function ConnectionNotice() {
  const connection = useLive(chat.connection);
  const pending = usePending();
  const isAway = connection.state !== "live";
  const [isShown, setShown] = useState(false);
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!isAway) return setShown(false);
    if (!navigator.onLine) setShown(true);
    const offline = () => setShown(true);
    addEventListener("offline", offline);
    const timer = setTimeout(() => setShown(true), PATIENCE_MILLISECONDS);
    return () => {
      clearTimeout(timer);
      removeEventListener("offline", offline);
    };
  }, [isAway]);
  const isWaiting = connection.state === "waiting";
  useEffect(() => {
    if (!isShown || !isWaiting) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, [isShown, isWaiting, connection]);
  if (!isAway || !isShown) return null;
  const waits = pending > 0 ? ` ${count(pending, "message")} will be sent when it is back.` : "";
  return (
    <div class="notice-bar">
      <span>
        {navigator.onLine ? "No connection to the server." : "You are offline."}
        {waits}
      </span>
      <span>
        {isWaiting && navigator.onLine && <span aria-hidden="true">Next try in {seconds(connection.until - now)}. </span>}
        {isWaiting && (
          <button type="button" class="link-button" onClick={() => chat.connect()}>
            Try now
          </button>
        )}
        {(connection.state === "connecting" || connection.state === "syncing") && "Connecting…"}
      </span>
    </div>
  );
}
