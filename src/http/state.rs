//! What every handler shares.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{FromRef, FromRequestParts};
use axum::http::request::Parts;
use tokio::sync::Notify;

use super::problem::Problem;
use crate::audit::Audit;
use crate::auth::{Guard, Pace};
use crate::diagnosis::Diagnosis;
use crate::lease::{Ttl, TtlBounds};
use crate::metrics::Metrics;
use crate::redlock::Redlock;

/// The handle that axum clones for every request, several times.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

impl Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl From<Shared> for AppState {
    fn from(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

/// What is behind it.
pub struct Shared {
    pub redlock: Redlock,
    pub settings: HttpSettings,
    pub draining: Draining,
    pub metrics: Arc<Metrics>,
    pub runs_on: RunsOn,
    pub guard: Guard,
    pub pace: Pace,
    /// Who is not let in, in the log.
    pub tells_refusals: Seldom,
    pub audit: Audit,
    pub diagnosis: Arc<Diagnosis>,
}

/// Says yes once a second at most: for what many may cause, and one line tells.
#[derive(Clone, Default, Debug)]
pub struct Seldom(Arc<Mutex<Option<Instant>>>);

impl Seldom {
    pub fn is_due(&self) -> bool {
        let mut last = self.0.lock().expect("no code panics while it holds this");
        let is_due = last.is_none_or(|last| Duration::from_secs(1) <= last.elapsed());
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

/// What handlers need of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct HttpSettings {
    pub ttl_bounds: TtlBounds,
    pub default_ttl: Ttl,
    /// The longest that a client may wait for a lock.
    pub max_wait: Duration,
    /// How many requests are worked on at once, probes and metrics aside.
    pub max_requests: usize,
}

/// What the gateway keeps its locks on, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsOn {
    EmbeddedNode,
    RedisNodes,
}

impl RunsOn {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EmbeddedNode => "one embedded node",
            Self::RedisNodes => "redis nodes",
        }
    }
}

/// Whether the service is shutting down: new acquires are refused, holders may still extend and release.
#[derive(Clone, Default, Debug)]
pub struct Draining(Arc<Drain>);

#[derive(Default, Debug)]
struct Drain {
    is_on: AtomicBool,
    begun: Notify,
}

impl Draining {
    pub fn begin(&self) {
        self.0.is_on.store(true, Ordering::SeqCst);
        self.0.begun.notify_waiters();
    }

    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::SeqCst)
    }

    /// Returns when it is on.
    pub async fn begun(&self) {
        // Made before the look, so that it hears of what comes after it.
        let begun = self.0.begun.notified();
        if !self.is_on() {
            begun.await;
        }
    }
}

/// Proof that new work is let in.
pub struct Admitted;

impl FromRequestParts<AppState> for Admitted {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        if state.draining.is_on() { Err(Problem::draining()) } else { Ok(Self) }
    }
}

impl FromRef<AppState> for Redlock {
    fn from_ref(state: &AppState) -> Self {
        state.redlock.clone()
    }
}
