//! Acquiring a lock: what is asked for, what is granted, and why not.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::cluster::Cluster;
use super::flight::Flight;
use super::locks::Locks;
use super::{Shortfall, shortfall};
use crate::lease::{Ballot, Grant, Holder, LeaseId, Lifetime, Loss, LossCause, Mode, OwnerLabel, Slots, Ttl};

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct AcquireRequest {
    pub locks: Locks,
    /// Of a semaphore the number of the slot is whichever is free.
    pub mode: Mode,
    /// The caller's own id, under which a repeat gets the same lease; none for one that is fresh in every attempt.
    pub lease: Option<LeaseId>,
    pub ttl: Ttl,
    pub owner: Option<OwnerLabel>,
    pub bounds: LeaseBounds,
    /// How long nobody else is to share the lock, if that is in the way of one who wants it alone.
    pub holds_back: Duration,
}

/// What is to bound a lease beside its ttl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseBounds {
    /// How long it may last with all of its extends.
    pub max_lifetime: Option<Duration>,
    /// Released before that, the lock is nobody's for the rest of it.
    pub min_hold: Duration,
    /// How long the lock is nobody's after a lease that ended without a release.
    pub lock_delay: Duration,
}

impl LeaseBounds {
    /// Of a lease with this ballot, which is the time of its grant.
    pub fn from(self, ballot: Ballot) -> Lifetime {
        let after = |span: Duration| if span.is_zero() { 0 } else { ballot.micros() / 1000 + span.as_millis() as u64 };
        Lifetime { ends_ms: self.max_lifetime.map_or(0, after), kept_ms: after(self.min_hold), delay_ms: self.lock_delay.as_millis() as u64 }
    }
}

impl AcquireRequest {
    /// To have them alone.
    pub fn of(locks: impl Into<Locks>, lease: Option<LeaseId>, ttl: Ttl, owner: Option<OwnerLabel>) -> Self {
        Self { locks: locks.into(), mode: Mode::Exclusive, lease, ttl, owner, bounds: LeaseBounds::default(), holds_back: Duration::ZERO }
    }
}

fn fresh_lease() -> LeaseId {
    LeaseId::from_random(rand::rng().random())
}

/// A lease that was granted. Unless it is [kept](Acquired::keep) it is undone when this is dropped.
#[must_use = "a grant that nobody keeps is undone"]
pub struct Acquired {
    pub lease: LeaseId,
    pub grant: Grant,
    /// When the holder has to stop, in microseconds since 1970 by the nodes' clocks.
    pub expires_at_us: u64,
    /// How long it was waited for before the attempt that won.
    pub waited: Duration,
    flight: Abandon,
}

/// Why a lock was not got.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Another holds it; none if several contend and nobody has it for sure.
    #[error("the lock is held")]
    Held(Option<Holder>),
    /// Those who hold it agree on another number of slots; 0 if they have none.
    #[error("those who hold it agree on {limit} slots")]
    OtherLimit { limit: u16, holder: Option<Holder> },
    /// As many share it as may.
    #[error("as many share the lock as may")]
    Crowded(Option<Holder>),
    /// Too few nodes could vote. Nothing is held.
    #[error("too few nodes could vote")]
    NoQuorum(Shortfall),
    /// Answers were lost or came too late. What was written is being undone.
    #[error("answers were lost or came too late")]
    Indeterminate(Shortfall),
}

impl Acquired {
    /// The holder has it: from now on only a release or the ttl ends it.
    pub fn keep(mut self) {
        if let Some(flight) = self.flight.0.take() {
            flight.handed_out(self.grant.valid_for);
        }
    }
}

/// Undoes the flight when it is dropped.
struct Abandon(Option<Arc<Flight>>);

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some(flight) = self.0.take() {
            flight.abandon();
        }
    }
}

/// How many slots of a semaphore are tried before it is left to others.
const MAX_SLOTS_TRIED: usize = 8;

pub async fn acquire(cluster: &Arc<Cluster>, mut request: AcquireRequest) -> Result<Acquired, AcquireError> {
    if let Some(lease) = &request.lease
        && let Some(first) = cluster.copies().recall(&request.locks.key(lease), lease, Ballot::from_micros(Ballot::MAX))
    {
        // Where this repeat came before them the lease would be there under another ballot.
        first.copy(Duration::ZERO);
    }
    let lease = request.lease.clone().unwrap_or_else(fresh_lease);
    let mut seen_taken = Slots::default();
    for _ in 0..MAX_SLOTS_TRIED {
        if let Mode::Slot(slot) = request.mode {
            let now_us = cluster.clock().estimate_us();
            let Some(number) = some_slot(&seen_taken, slot.limit, &lease, now_us) else { break };
            request.mode = request.mode.at(number);
        }
        let cause = match try_once(cluster, &request, &lease).await {
            Ok(acquired) => return Ok(acquired),
            Err(loss) => loss,
        };
        return Err(match cause.cause {
            LossCause::Taken { slots, holder } => {
                if slots.others(request.mode.limit()).next().is_none() {
                    return Err(AcquireError::Held(holder));
                }
                seen_taken = slots;
                continue;
            }
            LossCause::Held(holder) => AcquireError::Held(holder),
            LossCause::OtherLimit { limit, holder } => AcquireError::OtherLimit { limit, holder },
            LossCause::Crowded(holder) => AcquireError::Crowded(holder),
            LossCause::NoQuorum => AcquireError::NoQuorum(shortfall(cluster, &cause.votes)),
            LossCause::Indeterminate => AcquireError::Indeterminate(shortfall(cluster, &cause.votes)),
        });
    }
    Err(AcquireError::Held(None))
}

/// A slot that is free as far as is known, another one for each lease and moment, so that those who come at once try
/// different ones. Drawn of them, so that a run on a clock of its own can be repeated.
fn some_slot(taken: &Slots, limit: u16, lease: &LeaseId, now_us: u64) -> Option<u16> {
    let free = taken.others(limit).count();
    let mut hasher = DefaultHasher::new();
    (lease, now_us).hash(&mut hasher);
    taken.others(limit).nth(hasher.finish() as usize % free.max(1))
}

async fn try_once(cluster: &Arc<Cluster>, request: &AcquireRequest, lease: &LeaseId) -> Result<Acquired, Loss> {
    let started_us = cluster.clock().estimate_us();
    let (owner, mut verdict) = oneshot::channel();
    let flight = Flight::start(cluster, request.clone(), lease.clone(), owner);
    let mut guard = Abandon(Some(Arc::clone(&flight)));
    let outcome = loop {
        match timeout_at(flight.deadline(), &mut verdict).await {
            Ok(outcome) => break outcome,
            Err(_) => flight.expire(),
        }
    };
    // The sender lives in the flight, which this function keeps alive, and is used before it is dropped.
    match outcome.expect("a flight tells its owner before it lets go of it") {
        Ok(grant) => {
            let expires_at_us = started_us + grant.valid_for.as_micros() as u64;
            Ok(Acquired { lease: lease.clone(), grant, expires_at_us, waited: Duration::ZERO, flight: guard })
        }
        Err(loss) => {
            guard.0 = None;
            Err(loss)
        }
    }
}
