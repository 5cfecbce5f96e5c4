//! HTTP: the table of routes, and their handlers.

mod about;
mod answers;
mod call;
pub mod connections;
mod cors;
mod dispatch;
mod health;
mod login;
mod route;
pub mod routes;
pub mod scrape;
pub mod services;
pub mod summary;
mod table;
mod upgrade;
