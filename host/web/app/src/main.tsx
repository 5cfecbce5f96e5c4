// Starts the page.

import { USER_KEY } from "chatapp-sdk/account";
import { render } from "preact";
import { App } from "./App";
import { start } from "./chat";
import { loadMoreSoon, loadWith } from "./later";
import { keepTitle } from "./notifications";
import "./style/index.css";

start();
loadWith(() => import("./more"));
keepTitle();
render(<App />, document.getElementById("app")!);
loadMoreSoon();

// The browser may show the page again as it was (back/forward cache), when somebody else has logged in meanwhile.
let leftBy: string | null = null;
addEventListener("pagehide", () => {
  leftBy = localStorage.getItem(USER_KEY);
  document.body.style.visibility = "hidden";
});
addEventListener("pageshow", ({ persisted }) => {
  if (persisted && localStorage.getItem(USER_KEY) !== leftBy) location.reload();
  else document.body.style.visibility = "";
});

if ("serviceWorker" in navigator) {
  const policy = globalThis.trustedTypes?.createPolicy("sw", { createScriptURL: (url) => url });
  // Without it, the page needs a connection to open. The types do not know trusted addresses.
  const address = (policy?.createScriptURL("/sw.js") ?? "/sw.js") as unknown as string;
  navigator.serviceWorker.register(address).catch(() => {});
  navigator.serviceWorker.addEventListener("message", ({ data }) => {
    if (typeof data?.hash === "string") location.hash = data.hash;
  });
}
