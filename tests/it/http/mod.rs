//! What clients are promised over HTTP: the whole gateway behind its router, one file per concern.

mod acquire;
mod auth;
mod extend;
mod inspect;
mod invalid;
mod keys;
mod lifetimes;
mod list;
mod openapi;
mod operations;
mod problems;
mod release;
mod secrets;
mod together;
