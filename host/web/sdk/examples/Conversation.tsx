// A conversation in React: its messages, those that failed, who types, and a field to write in.
import { type FormEvent, useState } from "react";

import { useConversation, useIsAway } from "chatapp-sdk/react";

export function Conversation({ id }: { id: number }) {
  const { room, info, items, hasOlder, loading } = useConversation(id);
  const isAway = useIsAway();
  const [text, setText] = useState("");

  function submit(event: FormEvent) {
    event.preventDefault();
    if (text.trim() !== "") room.send(text);
    setText("");
  }

  return (
    <section>
      <h2>{info?.title}</h2>
      {isAway && <p role="status">You are offline. What you write is sent later.</p>}
      {hasOlder && <button disabled={loading} onClick={() => void room.loadOlder()}>Older messages</button>}
      <ol>
        {items.map((item) => (
          <li key={item.key} style={{ opacity: item.state === "pending" ? 0.5 : 1 }}>
            <b>{item.sender_username}</b> {item.content}
            {item.state === "failed" && <button onClick={() => item.sent.retry()}>Send again</button>}
          </li>
        ))}
      </ol>
      {info !== null && info.typing.length > 0 && <p>{info.typing.join(", ")} …</p>}
      <form onSubmit={submit}>
        <input aria-label="Message" value={text} onChange={(event) => (setText(event.target.value), room.typing())} />
        <button>Send</button>
      </form>
    </section>
  );
}
