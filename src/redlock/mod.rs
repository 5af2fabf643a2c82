//! The engine: asks a majority first and all if need be, stops at the verdict, finishes or undoes what was begun.
//!
//! Each operation is a small state machine over the decisions of [`crate::lease`], driven by the answers that
//! the nodes' queues deliver. Votes go straight into it; its owner is woken once, at the verdict.

mod acquire;
mod ballots;
mod cluster;
mod copies;
mod extend;
mod finishing;
mod flight;
mod force;
mod held;
mod inspect;
mod list;
mod locks;
mod neighbours;
mod patience;
mod poll;
mod release;
mod traces;
mod turns;
mod undo;
mod wait;
mod waiters;
mod watch;
mod watchers;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

pub use acquire::{AcquireError, AcquireRequest, Acquired, LeaseBounds};
pub use cluster::{Cluster, ClusterSettings, NodeView};
pub use extend::{ExtendError, Extended};
pub use force::ForceError;
pub use held::Held;
pub use inspect::{InspectError, Inspected};
pub use list::{ListError, Listed, ListedLock};
pub use locks::Locks;
pub use release::{ReleaseError, Released};
pub use traces::Known;
pub use wait::WaitError;
pub use waiters::{NoPlace, WaitBounds, Waiters};
pub use watch::Watch;

use finishing::Finishing;

use crate::lease::{FencingToken, Holder, LeaseId, LockKey, Shortage, Ttl};
use crate::node::NodeName;

/// The lock manager: a handle on the nodes that any number of requests share.
#[derive(Clone)]
pub struct Redlock {
    cluster: Arc<Cluster>,
}

/// Too few nodes voted. Says what each of them answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortfall {
    pub votes: Vec<NodeVote>,
    pub required: usize,
}

/// A node and one word for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVote {
    pub node: NodeName,
    pub vote: &'static str,
}

impl Redlock {
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Tries once to get the lock, within a fraction of its ttl. Dropping the future undoes the attempt.
    pub async fn acquire(&self, request: AcquireRequest) -> Result<Acquired, AcquireError> {
        let locks = request.locks.clone();
        let result = acquire::acquire(&self.cluster, request).await;
        if result.is_ok() {
            self.changed(&locks);
        }
        self.count("acquire", outcome_of(result.as_ref()));
        result
    }

    /// Waits for up to `wait` for the lock, in the order in which callers came to this gateway. Dropping the future leaves
    /// the line and undoes the attempt.
    pub fn wait_for(&self, request: AcquireRequest, wait: Duration) -> impl Future<Output = Result<Acquired, WaitError>> + Send + use<> {
        // In boxes, or whoever waits would have room for more than that in itself.
        let (this, request) = (self.clone(), Box::new(request));
        async move { if wait.is_zero() { Ok(Box::pin(this.acquire(*request)).await?) } else { this.wait(request, wait).await } }
    }

    async fn wait(&self, mut request: Box<AcquireRequest>, wait: Duration) -> Result<Acquired, WaitError> {
        let begun = Instant::now();
        let result = wait::wait_for(&self.cluster, &mut request, wait).await;
        if result.is_ok() {
            self.changed(&request.locks);
        }
        let outcome = match &result {
            Ok(acquired) => outcome_of(Ok(acquired)),
            Err(WaitError::Acquire(error)) => outcome_of(Err(error)),
            Err(WaitError::NoPlace(NoPlace::Closed)) => "draining",
            Err(WaitError::NoPlace(_)) => "too_many_waiters",
        };
        if outcome == "too_many_waiters" {
            self.cluster.metrics().limit_hit("waiters");
        }
        self.count("acquire", outcome);
        self.cluster.metrics().wait_seconds.with_label_values(&[outcome]).observe(begun.elapsed().as_secs_f64());
        result
    }

    /// Lets a live lease last at least `ttl` from now.
    pub async fn extend(&self, locks: impl Into<Locks>, lease: LeaseId, ttl: Ttl) -> Result<Extended, ExtendError> {
        let (begun, locks) = (Instant::now(), locks.into());
        let (key, of) = (locks.key(&lease), lease.clone());
        let result = extend::extend(&self.cluster, key.clone(), lease, ttl).await;
        if let Ok(extended) = &result {
            self.changed(&locks);
            self.cluster.held().prolong(key, of, begun + extended.valid_for);
        }
        self.count(
            "extend",
            match &result {
                Ok(_) => "extended",
                Err(ExtendError::Expired) => "expired",
                Err(ExtendError::HeldByOther) => "not_holder",
                Err(ExtendError::NoQuorum(_)) => "no_quorum",
                Err(ExtendError::Indeterminate(_)) => "indeterminate",
            },
        );
        result
    }

    /// Frees what this lease holds, up to `token` if that is named. May be repeated. Once begun it is finished: those who wait for
    /// the lock are to be told that it is free, whether or not the caller waits for the answer.
    pub async fn release(&self, locks: impl Into<Locks>, lease: LeaseId, token: Option<FencingToken>) -> Result<Released, ReleaseError> {
        Finishing::new(self.clone().release_to_the_end(locks.into(), lease, token)).await
    }

    async fn release_to_the_end(self, locks: Locks, lease: LeaseId, token: Option<FencingToken>) -> Result<Released, ReleaseError> {
        let (key, of) = (locks.key(&lease), lease.clone());
        let result = self.freeing(&locks, release::release(&self.cluster, key.clone(), Some(lease), token)).await;
        // Where it was not held any more an earlier release has ended it, whose answer was lost.
        if result.is_ok() {
            self.changed(&locks);
            self.cluster.held().end(key, of);
        }
        self.count(
            "release",
            match &result {
                Ok(Released { released: true }) => "released",
                Ok(Released { released: false }) => "not_held",
                Err(ReleaseError::HeldByOther | ReleaseError::HeldNewer(_)) => "not_holder",
                Err(ReleaseError::NoQuorum(_) | ReleaseError::NotBegun(_)) => "no_quorum",
                Err(ReleaseError::Indeterminate(_)) => "indeterminate",
            },
        );
        result
    }

    /// Takes the lock from whoever holds it now. Those holders; none if it was free.
    pub async fn force(&self, key: LockKey) -> Result<Vec<Holder>, ForceError> {
        let result = force::force(&self.cluster, key.clone()).await;
        if result.as_ref().is_ok_and(|holders| !holders.is_empty()) {
            self.changed(&key.clone().into());
            self.cluster.held().end_all_of(&key);
            self.cluster.waiters().freed(&key);
            self.cluster.tell_others(&key);
        }
        self.count(
            "force",
            match &result {
                Ok(holders) if holders.is_empty() => "not_held",
                Ok(_) => "released",
                Err(ForceError::Contended) => "contended",
                Err(ForceError::Foreign) => "foreign",
                Err(ForceError::Release(ReleaseError::HeldByOther | ReleaseError::HeldNewer(_))) => "not_holder",
                Err(ForceError::Inspect(InspectError::NoQuorum(_))) => "no_quorum",
                Err(ForceError::Release(ReleaseError::NoQuorum(_) | ReleaseError::NotBegun(_))) => "no_quorum",
                Err(ForceError::Inspect(InspectError::Indeterminate(_)) | ForceError::Release(ReleaseError::Indeterminate(_))) => "indeterminate",
            },
        );
        result
    }

    /// What the nodes know of the set of locks that the lease is of, if it is of one.
    pub async fn set_of(&self, lease: &LeaseId) -> Known {
        let known = traces::traces(&self.cluster, LockKey::of_set(lease), lease.clone()).await;
        self.count(
            "inspect",
            match &known.doubt {
                None if known.is_anything() => "held",
                None => "free",
                Some(InspectError::NoQuorum(_)) => "no_quorum",
                Some(InspectError::Indeterminate(_)) => "indeterminate",
            },
        );
        known
    }

    /// Who holds the lock, in the eyes of a majority.
    pub async fn inspect(&self, key: LockKey) -> Result<Inspected, InspectError> {
        let result = inspect::inspect(&self.cluster, key).await;
        self.count(
            "inspect",
            match &result {
                Ok(Inspected::Free) => "free",
                Ok(Inspected::Held(_) | Inspected::Together { .. }) => "held",
                Ok(Inspected::Contended) => "contended",
                Err(InspectError::NoQuorum(_)) => "no_quorum",
                Err(InspectError::Indeterminate(_)) => "indeterminate",
            },
        );
        result
    }

    /// Word of what may have happened to a lock from now on, through this gateway or another. What did happen is for
    /// [`Redlock::inspect`] to find out.
    pub fn watch(&self, key: &LockKey) -> Watch {
        Watch::begin(&self.cluster, key)
    }

    /// A page of the locks that are held and begin with `prefix`, up to about `limit` of them.
    pub async fn list(&self, prefix: &str, cursor: Option<&str>, limit: usize) -> Result<Listed, ListError> {
        list::list(self, prefix, cursor, limit).await
    }

    /// A release, with word to whoever waits for the lock: as soon as it is on its way, so that the next attempt can follow
    /// on its heels, and when it is complete. Where others wait in other gateways, and those here have had their turn, it goes
    /// to the others.
    async fn freeing(&self, locks: &Locks, release: impl Future<Output = Result<Released, ReleaseError>>) -> Result<Released, ReleaseError> {
        let (waiters, neighbours) = (self.cluster.waiters(), self.cluster.neighbours());
        let mut release = pin!(release);
        let at_once = poll_fn(|context| Poll::Ready(release.as_mut().poll(context))).await;
        let stays = |lock: &LockKey| !(waiters.has_had_its_turn(lock) && neighbours.await_too(lock));
        // How often those who wait here for a lock had got it when they were told.
        let told: Vec<_> = locks.each().iter().map(|lock| stays(lock).then(|| waiters.freed(lock))).collect();
        let result = match at_once {
            Poll::Ready(result) => result,
            Poll::Pending => release.await,
        };
        for (lock, won) in locks.each().iter().zip(told).filter(|_| result.is_ok()) {
            match won {
                Some(won) => {
                    waiters.freed_since(lock, won);
                    self.cluster.tell_others(lock);
                }
                None => {
                    waiters.leave_to_others(lock);
                    neighbours.tell_freed(lock);
                }
            }
        }
        result
    }

    /// Word to those who watch the locks, here and elsewhere.
    fn changed(&self, locks: &Locks) {
        for lock in locks.each() {
            self.cluster.watchers().changed(lock);
            self.cluster.neighbours().tell_changed(lock);
        }
    }

    fn count(&self, operation: &str, outcome: &str) {
        self.cluster.metrics().operations.with_label_values(&[operation, outcome]).inc();
    }
}

fn outcome_of(result: Result<&Acquired, &AcquireError>) -> &'static str {
    match result {
        Ok(acquired) if acquired.grant.replayed => "replayed",
        Ok(_) => "granted",
        Err(AcquireError::Held(_)) => "locked",
        Err(AcquireError::OtherLimit { .. }) => "other_limit",
        Err(AcquireError::Crowded(_)) => "crowded",
        Err(AcquireError::NoQuorum(_)) => "no_quorum",
        Err(AcquireError::Indeterminate(_)) => "indeterminate",
    }
}

fn shortfall(cluster: &Cluster, votes: &[&'static str]) -> Shortfall {
    let votes = cluster.queues().iter().zip(votes).map(|(queue, vote)| NodeVote { node: queue.name().clone(), vote }).collect();
    Shortfall { votes, required: cluster.quorum().required() }
}

/// Sorts a shortage into the two errors that every operation has.
fn short<E>(cluster: &Cluster, shortage: Shortage, votes: &[&'static str], no_quorum: fn(Shortfall) -> E, indeterminate: fn(Shortfall) -> E) -> E {
    let shortfall = shortfall(cluster, votes);
    match shortage {
        Shortage::NoQuorum => no_quorum(shortfall),
        Shortage::Indeterminate => indeterminate(shortfall),
    }
}

/// The deadline of a call about a lease of `ttl`: far below it, but no shorter than a busy node may need.
///
/// A node that is alone may take longer: no other one can make up for it.
fn call_timeout(cluster: &Cluster, ttl: Duration) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(20);
    let share = if cluster.quorum().nodes() == 1 { 4 } else { 50 };
    (ttl / share).max(SHORTEST).min(cluster.settings().node_timeout)
}
