//! A closed-loop benchmark: every connection acquires and releases a lock, again and again, and nothing else.
//!
//! [`run`] knows nothing of the wire; a [`Target`] is one connection over which a lock can be had. It shares its
//! cores with what it measures, so the loop makes no tasks, parses no bodies and takes no locks while it runs.

#[cfg(test)]
mod gateway_double;
mod http;
mod latency;
mod load;
mod raw;
mod report;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use crate::http_client::{ClientError, UrlError};
pub use http::{HttpLease, HttpTarget, http_targets};
pub use latency::Percentiles;
pub use load::run;
pub use raw::{RawTarget, raw_targets};
pub use report::Report;

/// How many connections a run may have: one port of one address each, and the server needs as many files.
pub const CONNECTIONS: RangeInclusive<usize> = 1..=10_000;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchOptions {
    /// How many targets to make, within [`CONNECTIONS`]. [`run`] uses all that it is given.
    pub connections: usize,
    /// No cycle begins after this; those under way are finished.
    pub duration: Duration,
    /// All connections want the same lock, instead of one each.
    pub shared: bool,
}

/// One connection to something that grants locks. Only one call at a time is ever under way.
pub trait Target: Send + 'static {
    /// What [`Target::release`] needs to know about a grant.
    type Lease: Send + Sync;

    /// Tries once. Must end by itself, and so must [`Target::release`]: the loop has no deadline of its own.
    ///
    /// An implementation that lost its connection makes it again before it fails, so that no wait counts as latency.
    fn acquire(&mut self, key: &str) -> impl Future<Output = Outcome<Self::Lease>> + Send;

    fn release(&mut self, key: &str, lease: &Self::Lease) -> impl Future<Output = Outcome<()>> + Send;
}

pub type Outcome<T> = Result<T, Failure>;

/// A call that did not do what was asked, by the short name under which it is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
}

/// Why a run cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{0} connections are not possible; allowed are {min} to {max}", min = CONNECTIONS.start(), max = CONNECTIONS.end())]
    Connections(usize),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the target must be the gateway's base URL, without a query")]
    Query,
    #[error(transparent)]
    Connect(#[from] ClientError),
}

impl Failure {
    pub fn new(code: impl Into<String>) -> Self {
        Self { code: code.into() }
    }
}
