//! redlockd: distributed locks over HTTP, with fencing tokens, on a quorum of Redis or Valkey nodes.
pub mod app;
pub mod bench;
pub mod cli;
pub mod config;
pub mod healthcheck;
pub mod http;
mod http_client;
pub mod lease;
pub mod metrics;
pub mod node;
pub mod redlock;
pub mod telemetry;
