// The hooks while a server renders. tests/browser.test.ts has them in a browser, with StrictMode.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createElement } from "react";
import { renderToString } from "react-dom/server";

import { Conversation } from "../examples/Conversation.tsx";
import { ChatProvider, useChat } from "../src/react.ts";
import { createWorld } from "./world.ts";

test("a server renders an empty conversation, and asks for nothing", async () => {
  const world = createWorld();
  world.server.act("alice", "create_conversation", { members: ["bob"] });
  world.server.act("bob", "send_message", { conversation_id: 1, content: "hi" });
  const chat = await world.live("alice");
  const asked = world.server.asked.length;
  const html = renderToString(<ChatProvider chat={chat}>{createElement(Conversation, { id: 1 })}</ChatProvider>);
  assert.match(html, /<ol><\/ol>/);
  await world.clock.pass(1_000);
  assert.equal(world.server.asked.length, asked);
});

test("hooks say what they need", () => {
  const Lost = () => <p>{String(useChat())}</p>;
  assert.throws(() => renderToString(<Lost />), /<ChatProvider chat=/);
});
