//! AsyncAPI 3.0: the socket, as the server sees it.

use handler::{EVENTS, PUSHES};
use serde_json::{Map, Value, json};

use super::{events, open_api};

pub fn document(schema: &Value) -> Value {
    let definitions = schema["$defs"].as_object().expect("definitions");
    let mut messages = Map::new();
    let mut operations = Map::new();
    let mut add = |name: &str| {
        let schema = json!({ "$ref": open_api::reference(name) });
        messages.insert(name.to_owned(), json!({ "name": name, "payload": schema }));
        json!({ "$ref": format!("#/channels/socket/messages/{name}") })
    };
    let channel = json!({ "$ref": "#/channels/socket" });
    let refusal = add("Refusal");
    for event in EVENTS {
        let request = events::name(event.kind, "Request");
        let description = &definitions[&request]["description"];
        let (request, reply) = (add(&request), add(&events::name(event.kind, "Reply")));
        let operation = json!({
            "action": "receive",
            "channel": channel,
            "description": description,
            "messages": [request],
            "reply": { "channel": channel, "messages": [reply, refusal] },
        });
        operations.insert(event.kind.into(), operation);
    }
    for push in PUSHES {
        let name = events::name(push.kind, "Push");
        let mut operation = json!({
            "action": "send",
            "channel": channel,
            "messages": [add(&name)],
        });
        if let Some(description) = definitions[&name].get("description") {
            operation["description"] = description.clone();
        }
        operations.insert(format!("push_{}", push.kind), operation);
    }
    let names: Vec<_> = messages.keys().cloned().collect();
    let channel_messages = names.into_iter().map(|name| {
        let reference = json!({ "$ref": format!("#/components/messages/{name}") });
        (name, reference)
    });
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "chatapp",
            "version": env!("CARGO_PKG_VERSION"),
            "description": schema["description"],
            "license": { "name": "MIT" },
        },
        "defaultContentType": "application/json",
        "servers": { "local": { "host": "localhost:8000", "protocol": "ws" } },
        "channels": {
            "socket": {
                "address": "/ws",
                "description": "openapi.json describes how to log in.",
                "messages": channel_messages.collect::<Map<_, _>>(),
                "bindings": { "ws": { "method": "GET" } },
            },
        },
        "operations": operations,
        "components": { "messages": messages, "schemas": open_api::moved(definitions) },
    })
}
