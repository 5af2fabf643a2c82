pub mod lease;
pub mod metrics;
pub mod node;
