// What is not needed to show conversations: loaded after them.

export { EmojiPicker } from "./room/EmojiPicker";
export { Details } from "./screens/Details";
export { Mentions } from "./screens/Mentions";
export { New } from "./screens/New";
export { People } from "./screens/People";
export { Person } from "./screens/Person";
export { Search } from "./screens/Search";
export { Settings } from "./screens/Settings";
export { find as findEmojis, nameOf as nameOfEmoji } from "./text/emoji";
