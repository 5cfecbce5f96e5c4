//! HTTP: the table of routes, and their handlers.

mod about;
mod account;
mod answers;
mod call;
pub mod connections;
mod cors;
mod dispatch;
mod events;
mod health;
mod login;
mod login_token;
pub mod operator;
mod page;
mod plain_http;
mod program;
mod route;
pub mod routes;
pub mod scrape;
pub mod services;
mod table;
mod upgrade;
mod users;
