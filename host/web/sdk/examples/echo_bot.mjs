// A bot that repeats what is said to it. It misses nothing and says nothing twice, also if it is
// stopped in the middle: what it has seen and what it has to send is in a file.
//
//     npm install chatapp-sdk ws
//     SERVER=http://localhost:8000 NAME=echo PASSWORD=xyz node echo_bot.mjs
import { createChat } from "chatapp-sdk";
import { keptTokenAuth } from "chatapp-sdk/account";
import { file } from "chatapp-sdk/files";
import { WebSocket } from "ws";

const { SERVER: url = "http://localhost:8000", NAME: username, PASSWORD: password } = process.env;
const chat = createChat({ url, WebSocket, auth: keptTokenAuth(), storage: file(`${username}.json`) });
await chat.register({ username, password, fullname: "Echo" }).catch(() => {}); // it may be there already
chat.on("message", ({ id, conversation_id, sender_username, content }) => {
  if (sender_username === username) return;
  // The same message is answered once, whatever happens in between.
  chat.conversation(conversation_id).send(content, { replyTo: id, clientId: `echo ${id}` });
});
chat.connection.subscribe(() => console.log(`${username}: ${chat.connection.get().state}`));
await chat.login({ username, password });
