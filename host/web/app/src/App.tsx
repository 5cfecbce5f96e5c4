// The page: which screen is shown beside the list of conversations.

import { useEffect, useMemo, useState } from "preact/hooks";
import { titleOf, useConversations, useIdentity } from "./chat";
import { loadMore, more } from "./later";
import { closeNotifications, openTitle, unreadConversations } from "./notifications";
import { ConnectionNotice } from "./parts/ConnectionNotice";
import { closeDialog, Dialogs } from "./parts/Dialog";
import { closeMenu, Menus } from "./parts/Menu";
import { Announcer, forgetAnnounced, forgetToasts, Toasts } from "./parts/Toast";
import { picker } from "./room/picker";
import { Room } from "./room/Room";
import { route } from "./route";
import { NothingOpen, Sidebar } from "./screens/Sidebar";
import { Welcome } from "./screens/Welcome";

export function App() {
  const identity = useIdentity();
  return (
    <>
      {identity.is === "somebody" && <Panes key={identity.username} />}
      {identity.is === "unknown" && (
        <div class="notice" role="status">
          <ConnectionNotice />
        </div>
      )}
      {identity.is === "nobody" && <Welcome notice={identity.notice} />}
      <Menus />
      <Picker />
      <Dialogs />
      <Toasts />
      <Announcer />
    </>
  );
}

function Panes() {
  const { screen } = route.value;
  const { conversations } = useConversations();
  const now = route.value;
  const open = now.screen === "room" ? conversations.find(({ id }) => id === now.id) : undefined;
  useEffect(() => {
    unreadConversations.value = conversations.filter(({ unread }) => unread > 0).length;
    openTitle.value = open ? titleOf(open) : "";
  });
  // Nothing stays on the screen of who has logged out, in no tab: the next user would see it, and act by it.
  useEffect(
    () => () => {
      unreadConversations.value = 0;
      openTitle.value = "";
      closeDialog();
      closeMenu();
      picker.value = null;
      forgetToasts();
      forgetAnnounced();
      void closeNotifications();
    },
    [],
  );
  const isList = screen === "home" || screen === "register";
  const isNarrow = useMedia("(max-width: 44.99rem)");
  return (
    <div class="app" data-pane={isList ? "list" : "main"}>
      <div class="notice" role="status">
        <ConnectionNotice />
      </div>
      {/* Where there is one pane only, it is the main one. */}
      <div class="side-frame" role={isList && isNarrow ? "main" : undefined}>
        <Sidebar />
      </div>
      <main class="main" id="main" tabIndex={-1}>
        <Screen />
      </main>
    </div>
  );
}

function Picker() {
  const Picker = more.value?.EmojiPicker;
  return picker.value && Picker ? <Picker {...picker.value} /> : null;
}

function useMedia(query: string): boolean {
  const list = useMemo(() => matchMedia(query), [query]);
  const [is, set] = useState(list.matches);
  useEffect(() => {
    const change = () => set(list.matches);
    list.addEventListener("change", change);
    return () => list.removeEventListener("change", change);
  }, [list]);
  return is;
}

function Screen() {
  const now = route.value;
  if (now.screen === "room") return <Room key={now.id} id={now.id} message={now.message} />;
  if (now.screen === "home" || now.screen === "register") return <NothingOpen />;
  const screens = more.value;
  if (!screens) {
    void loadMore();
    return null;
  }
  const { Details, Mentions, New, People, Person, Search, Settings } = screens;
  switch (now.screen) {
    case "details":
      return <Details key={now.id} id={now.id} />;
    case "person":
      return <Person key={now.username} username={now.username} />;
    case "search":
      return <Search key={now.conversation} query={now.query} conversation={now.conversation} />;
    case "new":
      return <New />;
    case "people":
      return <People />;
    case "mentions":
      return <Mentions />;
    case "settings":
      return <Settings />;
  }
}
