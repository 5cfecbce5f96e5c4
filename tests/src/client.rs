//! A WebSocket client that uses an implementation other than the host's own: tungstenite.

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::host::ids;
use crate::{schema, soon};

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    /// Pushes that arrived while the client waited for a reply.
    pushes: VecDeque<Value>,
    next_ref: i64,
    /// How often the host told the client to catch up. The client only counts these hints.
    pub hints: usize,
}

impl Client {
    /// Connects, with the cookie unless it is empty.
    pub async fn connect(address: SocketAddr, cookie: &str) -> Self {
        match cookie {
            "" => Self::connect_with(address, &[]).await,
            _ => Self::connect_with(address, &[("cookie", cookie)]).await,
        }
    }

    /// Connects with these headers.
    pub async fn connect_with(address: SocketAddr, headers: &[(&'static str, &str)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("the host listens");
        Self::connect_over(stream, headers).await
    }

    /// The same over this connection.
    pub async fn connect_over(stream: TcpStream, headers: &[(&'static str, &str)]) -> Self {
        let address = stream.peer_addr().expect("an address");
        let mut request = format!("ws://{address}/ws")
            .into_client_request()
            .expect("a request");
        for (name, value) in headers {
            let value = value.parse().expect("a header value");
            request.headers_mut().insert(*name, value);
        }
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let handshake = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (socket, _) = soon("an upgrade", handshake).await.expect("an upgrade");
        Client {
            socket,
            pushes: VecDeque::new(),
            next_ref: 1,
            hints: 0,
        }
    }

    /// Sends a request and returns its reply, without the `ref` that identified it.
    pub async fn request(&mut self, mut request: Value) -> Value {
        let reference = json!(self.next_ref);
        self.next_ref += 1;
        request["ref"] = reference.clone();
        self.text(&request.to_string()).await;
        loop {
            let mut received = self.receive().await;
            if received["ref"] == reference {
                schema::check_answered(&request.to_string(), &received);
                received.as_object_mut().expect("an object").remove("ref");
                return received;
            }
            self.pushes.push_back(received);
        }
    }

    /// Like `request`, but the reply must be a success. Returns its data.
    pub async fn ok(&mut self, request: Value) -> Value {
        let reply = self.request(request.clone()).await;
        assert_eq!(reply["success"], true, "{request} → {reply}");
        reply["data"].clone()
    }

    /// Creates a conversation with these other users; returns its id.
    pub async fn converse(&mut self, others: &[&str]) -> i64 {
        let made = self
            .ok(json!({ "type": "create_conversation", "members": others }))
            .await;
        made["id"].as_i64().expect("an id")
    }

    /// Sends a message; returns its id.
    pub async fn send(&mut self, conversation_id: i64, content: &str) -> i64 {
        let request = json!({
            "type": "send_message", "conversation_id": conversation_id, "content": content,
        });
        self.ok(request).await["id"].as_i64().expect("an id")
    }

    /// Sends the same message this many times before it reads the replies; returns the ids.
    pub async fn send_many(
        &mut self,
        conversation_id: i64,
        content: &str,
        count: usize,
    ) -> Vec<i64> {
        let mut request = json!({
            "type": "send_message", "conversation_id": conversation_id, "content": content,
        });
        let first = self.next_ref;
        for _ in 0..count {
            request["ref"] = json!(self.next_ref);
            self.next_ref += 1;
            self.text(&request.to_string()).await;
        }
        let mut ids = Vec::new();
        while ids.len() < count {
            let received = self.receive().await;
            if received["ref"].as_i64() >= Some(first) {
                assert_eq!(received["success"], true, "{received}");
                ids.push(received["data"]["id"].as_i64().expect("an id"));
            } else {
                self.pushes.push_back(received);
            }
        }
        ids
    }

    /// Makes another user a contact: from now on, this client hears when that user comes online or
    /// goes offline.
    pub async fn add_contact(&mut self, username: &str) {
        self.ok(json!({ "type": "add_contact", "contact_username": username }))
            .await;
    }

    /// The latest messages, newest first.
    pub async fn history(&mut self, conversation_id: i64) -> Value {
        let request = json!({ "type": "get_messages", "conversation_id": conversation_id });
        self.ok(request).await["messages"].clone()
    }

    /// The ids that a search finds, in all its pages.
    pub async fn search(&mut self, query: &str) -> Vec<i64> {
        let mut found = Vec::new();
        let mut before = Value::Null;
        loop {
            let search = json!({ "type": "search_messages", "query": query, "before": before });
            let page = self.ok(search).await;
            found.extend(ids(&page["messages"]));
            before = page["before"].clone();
            if page["has_more"] == false {
                return found;
            }
        }
    }

    /// The next push.
    pub async fn push(&mut self) -> Value {
        match self.pushes.pop_front() {
            Some(push) => push,
            None => self.receive().await,
        }
    }

    /// The pushes so far: everything that was on its way to this client has arrived.
    pub async fn pushes_so_far(&mut self) -> Vec<Value> {
        assert_eq!(self.ok(json!({ "type": "ping" })).await, "pong");
        self.pushes.drain(..).collect()
    }

    /// Sends a text frame unchanged.
    pub async fn text(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .await
            .expect("the socket is open");
    }

    /// The next text frame, as JSON.
    pub async fn receive(&mut self) -> Value {
        // One time limit for the whole loop, so that pings do not extend it.
        let event = async {
            loop {
                let next = self.socket.next().await;
                match next.expect("the socket is open").expect("a frame") {
                    Message::Text(text) => {
                        let event: Value = serde_json::from_str(&text).expect("JSON");
                        schema::check_received(&event);
                        let hint = serde_json::from_str::<Value>(&handler::sync::hint());
                        if event != hint.expect("JSON") {
                            return event;
                        }
                        self.hints += 1;
                    }
                    Message::Ping(_) | Message::Pong(_) => {}
                    other => panic!("{other:?} instead of an event"),
                }
            }
        };
        soon("an event", event).await
    }

    /// Waits for the close frame; returns its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match soon("a close frame", self.socket.next()).await {
                Some(Ok(Message::Close(Some(close)))) => {
                    return (close.code.into(), close.reason.to_string());
                }
                Some(Ok(Message::Close(None))) => return (1005, String::new()),
                Some(Ok(_)) => {}
                end => panic!("{end:?} instead of a close frame"),
            }
        }
    }

    /// Closes the socket and waits until the server has closed it too.
    pub async fn close(mut self) {
        self.socket.close(None).await.expect("closing");
        while let Some(Ok(_)) = soon("the end", self.socket.next()).await {}
    }
}
