//! Acquiring a lock: what is asked for, what is granted, and why not.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::cluster::Cluster;
use super::flight::Flight;
use super::{Shortfall, shortfall};
use crate::lease::{Ballot, Grant, Holder, LeaseId, LockKey, LossCause, OwnerLabel, Ttl};

/// What a caller asks for.
#[derive(Clone, Debug)]
pub struct AcquireRequest {
    pub key: LockKey,
    /// The caller's own id, under which a repeat gets the same lease; none for a fresh one.
    pub lease: Option<LeaseId>,
    pub ttl: Ttl,
    pub owner: Option<OwnerLabel>,
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

pub async fn acquire(cluster: &Arc<Cluster>, request: AcquireRequest) -> Result<Acquired, AcquireError> {
    if let Some(lease) = &request.lease
        && let Some(first) = cluster.copies().recall(&request.key, lease, Ballot::from_micros(Ballot::MAX))
    {
        // Where this repeat came before them the lease would be there under another ballot.
        first.copy(Duration::ZERO);
    }
    let lease = request.lease.clone().unwrap_or_else(|| LeaseId::from_random(rand::rng().random()));
    let started_us = cluster.clock().estimate_us();
    let (owner, mut verdict) = oneshot::channel();
    let flight = Flight::start(cluster, request, lease.clone(), owner);
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
            Ok(Acquired { lease, grant, expires_at_us, waited: Duration::ZERO, flight: guard })
        }
        Err(loss) => {
            guard.0 = None;
            Err(match loss.cause {
                LossCause::Held(holder) => AcquireError::Held(holder),
                LossCause::NoQuorum => AcquireError::NoQuorum(shortfall(cluster, &loss.votes)),
                LossCause::Indeterminate => AcquireError::Indeterminate(shortfall(cluster, &loss.votes)),
            })
        }
    }
}
