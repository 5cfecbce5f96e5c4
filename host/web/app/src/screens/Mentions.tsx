// Messages that mention the person who reads.

import { useEffect, useState } from "preact/hooks";
import { request, type Message } from "../chat";
import { Empty } from "../parts/Empty";
import { Hits } from "../parts/Hits";
import { Page } from "../parts/Page";

const PAGE = 50;

export function Mentions() {
  const [messages, setMessages] = useState<Message[] | null>(null);
  const [hasMore, setMore] = useState(false);
  const [error, setError] = useState("");
  const load = async (before?: number) => {
    try {
      const page = await request("get_mentions", { limit: PAGE, ...(before !== undefined && { before }) });
      setMessages((old) => [...(before === undefined ? [] : (old ?? [])), ...page.messages]);
      setMore(page.has_more);
      setError("");
    } catch (error) {
      setError((error as Error).message);
    }
  };
  useEffect(() => void load(), []);
  return (
    <Page title="Mentions">
      {messages?.length === 0 && (
        <Empty icon="at" title="Nobody has mentioned you yet">
          <p>If somebody writes @ and your username in a conversation, the message is listed here.</p>
        </Empty>
      )}
      {messages && messages.length > 0 && <Hits messages={messages} words={[]} />}
      {hasMore && (
        <button type="button" class="button" onClick={() => load(messages?.at(-1)?.id)}>
          Show more
        </button>
      )}
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
    </Page>
  );
}
