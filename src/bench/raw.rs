//! The quorum engine straight on the nodes, without HTTP: the same scripts and batches, the floor under a gateway.

use super::{Failure, Outcome, Target};
use crate::lease::{FencingToken, LeaseId, LockKey, Ttl};
use crate::redlock::{AcquireError, AcquireRequest, Redlock, ReleaseError, Released};

/// One caller of the engine.
pub struct RawTarget {
    redlock: Redlock,
    ttl: Ttl,
}

/// What [`RawTarget`] was granted.
pub struct RawLease {
    lease: LeaseId,
    fencing_token: FencingToken,
}

/// `connections` callers of one engine.
pub fn raw_targets(redlock: &Redlock, ttl: Ttl, connections: usize) -> Vec<RawTarget> {
    std::iter::repeat_with(|| RawTarget { redlock: redlock.clone(), ttl }).take(connections).collect()
}

impl Target for RawTarget {
    type Lease = RawLease;

    async fn acquire(&mut self, key: &str) -> Outcome<RawLease> {
        let request = AcquireRequest::of(lock_key(key)?, None, self.ttl, None);
        match self.redlock.acquire(request).await {
            Ok(acquired) => {
                let lease = RawLease { lease: acquired.lease.clone(), fencing_token: acquired.grant.fencing_token };
                acquired.keep();
                Ok(lease)
            }
            Err(AcquireError::Held(_) | AcquireError::OtherLimit { .. } | AcquireError::Crowded(_)) => Err(Failure::new("locked")),
            Err(AcquireError::NoQuorum(_)) => Err(Failure::new("no_quorum")),
            Err(AcquireError::Indeterminate(_)) => Err(Failure::new("indeterminate")),
        }
    }

    async fn release(&mut self, key: &str, lease: &RawLease) -> Outcome<()> {
        match self.redlock.release(lock_key(key)?, lease.lease.clone(), Some(lease.fencing_token)).await {
            Ok(Released { .. }) => Ok(()),
            Err(ReleaseError::HeldByOther | ReleaseError::HeldNewer(_)) => Err(Failure::new("not_holder")),
            Err(ReleaseError::NoQuorum(_) | ReleaseError::NotBegun(_)) => Err(Failure::new("no_quorum")),
            Err(ReleaseError::Indeterminate(_)) => Err(Failure::new("indeterminate")),
        }
    }
}

fn lock_key(key: &str) -> Outcome<LockKey> {
    LockKey::new(key).map_err(|_| Failure::new("invalid_key"))
}
