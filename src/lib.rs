pub mod bench;
pub mod healthcheck;
mod http_client;
pub mod lease;
pub mod metrics;
pub mod node;
