//! The configuration: raw settings in layers, checked once, as a whole.

mod check;
mod layers;
mod settings;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use layers::{Layered, Origin, unknown_variable};
pub use settings::Settings;

use crate::auth::{JwksSource, JwtRules, RosterSource};
use crate::lease::{Ttl, TtlBounds};
use crate::node::Agreement;
use crate::node::redis::NodeAddress;
use crate::redlock::WaitBounds;
use crate::server::TlsFiles;

/// Settings that are possible, one by one and together.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// For metrics and probes only, beside `listen`.
    pub metrics_listen: Option<SocketAddr>,
    /// Who may ask; none if everybody may.
    pub tokens: Option<RosterSource>,
    /// Whose JSON Web Tokens count; none if no one's do.
    pub jwt: Option<JwtConfig>,
    /// Certificates for `listen`; none to be asked in the open.
    pub tls: Option<TlsFiles>,
    pub max_connections: usize,
    pub max_requests: usize,
    pub wait_bounds: WaitBounds,
    pub max_wait: Duration,
    /// Of one caller in a second; none for as many as it likes.
    pub rate_limit: Option<NonZeroU32>,
    /// Empty for the embedded node.
    pub nodes: Vec<NodeAddress>,
    pub data_dir: PathBuf,
    pub bootstrap: bool,
    /// Whether a node that wrote everything to its disk may vote at once after a restart.
    pub trust_persistence: bool,
    pub agreement: Agreement,
    pub ttl_bounds: TtlBounds,
    pub default_ttl: Ttl,
    pub clock_jump_margin: Duration,
    pub lock_prefix: String,
    pub node_timeout: Duration,
    pub node_concurrency: u32,
    pub drain_delay: Duration,
    pub grace: Duration,
    /// None for one per core.
    pub threads: Option<usize>,
    /// Whether who did what to which lock is written to standard output.
    pub audit: bool,
    pub log: LogSettings,
}

/// An issuer of tokens, and its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    pub keys: JwksSource,
    pub rules: JwtRules,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    pub level: tracing::Level,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A setting that stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value is impossible.
    #[error("{name}: {problem} (from {origin})")]
    Setting { name: &'static str, problem: String, origin: Origin },
    #[error("{name} is set in the environment, but there is no such setting; redlockd --help lists them")]
    UnknownVariable { name: String },
    #[error("cannot read the configuration file {path}: {problem}", path = path.display())]
    File { path: PathBuf, problem: String },
}
