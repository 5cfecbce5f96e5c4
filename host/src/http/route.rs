//! A row of the table of routes.

use std::pin::Pin;

use bytes::Bytes;
use handler::account::api_key::Scope;
use hyper::Method;

use crate::http::answers::{Answer, ErrorFormat, HttpError};
use crate::http::call::Call;
use crate::http::program::{Program, Sender};
use crate::limits::account_guesses::Attempt;
use crate::logins::Login;

pub struct Route {
    pub method: Method,
    /// With parameters in braces: `/conversations/{id}`.
    pub path: &'static str,
    pub effect: Effect,
    /// The kind of attempt that each request counts as; too many from one address get 429.
    pub limit: Option<Attempt>,
    pub errors: ErrorFormat,
    pub handler: Handler,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A `GET` route answers `HEAD` too.
    Reads,
    /// Pages of other sites are refused.
    ChangesState,
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, HttpError>> + Send>>;

/// The handler, which also says who may use the route. One for a login or a key gets the whole body with
/// it, and cannot wait for more: a client that holds its body back would act after its login has ended.
pub enum Handler {
    /// Anyone may.
    Open(Box<dyn Fn(Call) -> Answering + Send + Sync>),
    /// Logged-in users may. The handler gets the login of the request's token, which holds; without
    /// one, the answer is 401.
    LoggedIn(Box<dyn Fn(Call<Bytes>, Login) -> Answering + Send + Sync>),
    /// Logged-in users may, and programs whose API key has this scope, for a user whom they name.
    Sending(
        Scope,
        Box<dyn Fn(Call<Bytes>, Sender) -> Answering + Send + Sync>,
    ),
    /// Programs whose API key has this scope may. Without a key that holds, the answer is 401; with
    /// one of another scope it is 403.
    Program(
        Scope,
        Box<dyn Fn(Call<Bytes>, Program) -> Answering + Send + Sync>,
    ),
}

/// A handler for anyone.
pub fn open<F>(handler: impl Fn(Call) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Result<Answer, HttpError>> + Send + 'static,
{
    Handler::Open(Box::new(move |call| Box::pin(handler(call))))
}

/// A handler for logged-in users.
pub fn logged_in<F>(handler: impl Fn(Call<Bytes>, Login) -> F + Send + Sync + 'static) -> Handler
where
    F: Future<Output = Result<Answer, HttpError>> + Send + 'static,
{
    Handler::LoggedIn(Box::new(move |call, login| Box::pin(handler(call, login))))
}

/// A handler for logged-in users, and for programs that act for them.
pub fn sending<F>(
    scope: Scope,
    handler: impl Fn(Call<Bytes>, Sender) -> F + Send + Sync + 'static,
) -> Handler
where
    F: Future<Output = Result<Answer, HttpError>> + Send + 'static,
{
    let handler = move |call, sender| -> Answering { Box::pin(handler(call, sender)) };
    Handler::Sending(scope, Box::new(handler))
}

/// A handler for programs.
pub fn program<F>(
    scope: Scope,
    handler: impl Fn(Call<Bytes>, Program) -> F + Send + Sync + 'static,
) -> Handler
where
    F: Future<Output = Result<Answer, HttpError>> + Send + 'static,
{
    let handler = move |call, program| -> Answering { Box::pin(handler(call, program)) };
    Handler::Program(scope, Box::new(handler))
}

impl Route {
    pub fn new(
        method: Method,
        path: &'static str,
        effect: Effect,
        limit: Option<Attempt>,
        errors: ErrorFormat,
        handler: Handler,
    ) -> Self {
        Route {
            method,
            path,
            effect,
            limit,
            errors,
            handler,
        }
    }

    /// The methods that it answers, for the `Allow` header.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        let has_head = self.method == Method::GET && self.effect == Effect::Reads;
        let head = has_head.then_some(&Method::HEAD);
        std::iter::once(&self.method).chain(head)
    }
}
