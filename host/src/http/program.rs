//! Which program a request comes from: one with an API key, or the operator on the machine itself.

use std::sync::Arc;

use handler::Error;
use handler::account::api_key::Scope;

use crate::api_keys;
use crate::audit;
use crate::http::call::Call;
use crate::http::login_token::bearer;
use crate::logins::Login;

/// A program that may do what it asks for.
#[derive(Debug, Clone)]
pub enum Program {
    /// The name of its key.
    Key(Arc<str>),
    /// Whoever may open the socket beside the data file.
    Operator,
}

impl Program {
    /// Its name in the log.
    pub fn name(&self) -> &str {
        match self {
            Program::Key(name) => name,
            Program::Operator => "the operator",
        }
    }
}

/// Who sends an event.
pub enum Sender {
    User(Login),
    /// For the user whom it names.
    Program(Program),
}

/// Whether a request comes from a program and not from a user.
pub fn is_of_program<B>(call: &Call<B>) -> bool {
    call.is_operator || bearer(call.request.headers()).is_some_and(api_keys::is_key)
}

/// The program that a request comes from. `Unauthorized` without a key that holds, and `Forbidden` if
/// the key may do something else only.
pub async fn authorize<B>(call: &Call<B>, scope: Scope) -> Result<Program, Error> {
    if call.is_operator {
        return Ok(Program::Operator);
    }
    let (services, address) = (&call.services, call.address);
    let key = bearer(call.request.headers()).filter(|bearer| api_keys::is_key(bearer));
    let Some(key) = key else {
        audit::refused_program(address, None);
        return Err(Error::Unauthorized("API key required".into()));
    };
    let source = services.store.source(address);
    let found = api_keys::find(&services.store, &source, key).await;
    let found = found.inspect_err(|error| {
        if let Error::Unauthorized(_) = error {
            audit::refused_program(address, None);
        }
    })?;
    if !found.scopes.contains(&scope) {
        audit::refused_program(address, Some(&found.name));
        let text = format!("this API key has no scope {scope}");
        return Err(Error::Forbidden(text));
    }
    Ok(Program::Key(found.name.into()))
}
