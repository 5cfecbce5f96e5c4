//! OpenAPI 3.1: the HTTP routes.

use handler::account::provision::USERS_LISTED_MAX;
use serde_json::{Map, Value, json};

use super::events;
use super::routes::{self, Body, ROUTES, Route};

pub fn document(schema: &Value) -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chatapp",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HTTP for accounts. Everything else is events on the socket, which \
                asyncapi.json describes. PROTOCOL.md says what it all means.",
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "http://localhost:8000" }],
        "paths": paths,
        "components": {
            "schemas": schemas(schema),
            "securitySchemes": {
                "cookie": { "type": "apiKey", "in": "cookie", "name": "login-token" },
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "key": { "type": "http", "scheme": "bearer", "description": "An API key." },
            },
        },
    })
}

/// The bodies, and the frames of the socket that `POST /events` takes and answers.
fn schemas(schema: &Value) -> Value {
    let mut definitions = schema["$defs"].as_object().expect("definitions").clone();
    definitions.retain(|name, _| !name.ends_with("Push"));
    definitions.extend(routes::definitions());
    moved(&definitions)
}

/// The definitions, with references to their place in a document of an API.
pub fn moved(definitions: &Map<String, Value>) -> Value {
    let text = Value::Object(definitions.clone()).to_string();
    let text = text.replace(&events::reference(""), &reference(""));
    serde_json::from_str(&text).expect("JSON")
}

pub fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

fn operation(route: &Route) -> Value {
    let row = route.row();
    let answers = route.all_answers().into_iter();
    let answers = answers.map(|(status, body)| {
        let is_json = status >= 400 && row.has_json_errors;
        (status.to_string(), answer(status, body, is_json))
    });
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "responses": answers.collect::<Map<_, _>>(),
    });
    if let Some(name) = route.takes {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": { "$ref": reference(name) } } },
        });
    }
    let mut security = Vec::new();
    if row.is_for_logged_in {
        security.extend([json!({ "cookie": [] }), json!({ "bearer": [] })]);
    }
    if row.scope.is_some() {
        security.push(json!({ "key": [] }));
    }
    if !security.is_empty() {
        operation["security"] = security.into();
    }
    let names = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{'));
    let parameters = names.map(|name| {
        let name = name.trim_end_matches('}');
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let mut parameters: Vec<_> = parameters.collect();
    if route.path == "/users" {
        let limit = json!({ "type": "integer", "minimum": 1, "maximum": USERS_LISTED_MAX });
        for (name, schema) in [("after", json!({ "type": "string" })), ("limit", limit)] {
            parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

/// `get_auth_verify`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    let method = route.method.to_lowercase();
    let words: Vec<_> = std::iter::once(method.as_str()).chain(words).collect();
    words.join("_")
}

fn answer(status: u16, body: Body, is_json: bool) -> Value {
    let text = |schema: Value| json!({ "text/plain": { "schema": schema } });
    let json = |name: &str| {
        let schema = json!({ "$ref": reference(name) });
        json!({ "application/json": { "schema": schema } })
    };
    let (description, content) = match body {
        Body::Empty(description) => (description, None),
        Body::Exactly(exact) => ("It is done.", Some(text(json!({ "const": exact })))),
        Body::Text(description) if is_json => (description, Some(json("HttpError"))),
        Body::Text(description) => (description, Some(text(json!({ "type": "string" })))),
        Body::Json(name) => ("It is done.", Some(json(name))),
        Body::File => ("The file.", Some(json!({ "*/*": {} }))),
    };
    let mut answer = json!({ "description": description });
    if let Some(content) = content {
        answer["content"] = content;
    }
    if status == 429 {
        answer["headers"] = json!({
            "Retry-After": { "description": "Seconds.", "schema": { "type": "integer" } },
        });
    }
    answer
}
