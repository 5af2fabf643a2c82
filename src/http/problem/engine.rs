//! Facts of the engine as problems.

use std::time::Duration;

use axum::http::StatusCode;

use super::Problem;
use crate::http::body::HolderBody;
use crate::lease::{Holder, Mode};
use crate::redlock::{AcquireError, ExtendError, ForceError, InspectError, ListError, Locks, NoPlace, ReleaseError, WaitError};

const HELD_BY_OTHER: &str = "Another lease holds the lock; it stays as it is. The lease that you named is over, or was never granted.";

impl From<AcquireError> for Problem {
    fn from(error: AcquireError) -> Self {
        let locked = |detail: &str| Self::new(StatusCode::LOCKED, "locked", "Locked", detail);
        match error {
            AcquireError::Held(Some(holder)) => locked("The lock is held by another. Try again when it has expired or was released.")
                .retry_after(left(Some(&holder)))
                .holder(Some(HolderBody::from(&holder))),
            AcquireError::Held(None) => locked("Several callers ask for the lock at once and this one did not get it. Try again in a moment.")
                .retry_after(Duration::from_secs(1)),
            AcquireError::OtherLimit { limit, holder } => Self::new(
                StatusCode::CONFLICT,
                "limit_differs",
                "Another limit",
                format!("Those who hold the semaphore agree on limit={limit}. Use that, or wait until all of them are gone."),
            )
            .retry_after(left(holder.as_ref()))
            .holder(holder.as_ref().map(HolderBody::from)),
            AcquireError::Crowded(holder) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_holders",
                "Too many holders",
                format!("{} callers share the lock, as many as may. Try again when one of them has left.", Mode::MAX_TOGETHER),
            )
            .retry_after(left(holder.as_ref()))
            .holder(holder.as_ref().map(HolderBody::from)),
            AcquireError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could vote, so nobody can get a lock now; nothing is held. GET /nodes says why.")
            }
            AcquireError::Indeterminate(shortfall) => Self::indeterminate(
                shortfall,
                "Answers of nodes were lost or came too late. What was written is being undone; it is safe to repeat with the same lease_id.",
            ),
        }
    }
}

/// How long the holder may stay.
fn left(holder: Option<&Holder>) -> Duration {
    holder.and_then(|holder| holder.left).unwrap_or(Duration::from_secs(1))
}

impl From<WaitError> for Problem {
    fn from(error: WaitError) -> Self {
        let too_many = |detail: String| {
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_waiters", "Too many waiters", detail).retry_after(Duration::from_secs(1))
        };
        match error {
            WaitError::Acquire(error) => error.into(),
            WaitError::NoPlace(NoPlace::Closed) => Self::draining(),
            WaitError::NoPlace(NoPlace::LineIsFull { max }) => too_many(format!(
                "{max} requests wait for this lock in this gateway, as many as max_waiters_per_lock allows. Try again in a moment, or without wait."
            )),
            WaitError::NoPlace(NoPlace::AllAreFull { max }) => too_many(format!(
                "{max} requests wait for locks in this gateway, as many as max_waiters allows. Ask another one, or try again in a moment."
            )),
        }
    }
}

impl Problem {
    /// What is in the way of an acquire of these.
    pub fn in_the_way(error: WaitError, locks: &Locks) -> Self {
        let WaitError::Acquire(AcquireError::Held(holder)) = &error else { return error.into() };
        let member = holder.as_ref().and_then(|holder| locks.members().get(holder.member.checked_sub(1)?));
        let detail = match (member, holder) {
            (Some(key), _) => format!(
                "The lock {:?} is held by another, so that none of them was taken. Try again when it has expired or was released.",
                key.as_str()
            ),
            (None, Some(_)) if !locks.members().is_empty() => {
                let detail = "The lease with this lease_id has another set of locks. Release that, or use another lease_id.";
                return Self::new(StatusCode::CONFLICT, "lease_in_use", "Lease in use", detail);
            }
            (None, Some(_)) if locks.key().is_our_own() => "Every slot is taken. Try again when one was given back.".to_owned(),
            _ => return error.into(),
        };
        let holder = holder.as_ref();
        Self::new(StatusCode::LOCKED, "locked", "Locked", detail).retry_after(left(holder)).holder(holder.map(HolderBody::from))
    }
}

impl From<ExtendError> for Problem {
    fn from(error: ExtendError) -> Self {
        match error {
            ExtendError::HeldByOther => Self::not_holder(HELD_BY_OTHER),
            ExtendError::Expired => Self::new(
                StatusCode::GONE,
                "lease_expired",
                "Lease expired",
                "The lease is gone, by its ttl or by a release, and was not made anew. Stop what it protected, then acquire again.",
            ),
            ExtendError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could answer; the lease keeps the deadline that it had. GET /nodes says why.")
            }
            ExtendError::Indeterminate(shortfall) => Self::indeterminate(
                shortfall,
                "Answers of nodes were lost or came too late; count on the deadline that the lease had. It is safe to repeat.",
            ),
        }
    }
}

impl From<ReleaseError> for Problem {
    fn from(error: ReleaseError) -> Self {
        let detail =
            "The release is not known to be complete and goes on in the background; at the latest the ttl ends the lease. It is safe to repeat.";
        match error {
            ReleaseError::HeldByOther => Self::not_holder(HELD_BY_OTHER),
            ReleaseError::HeldNewer(token) => Self::not_holder(format!(
                "The lease holds the lock under the newer fencing token {}, and keeps it. To release it, name that token or none.",
                token.get()
            )),
            ReleaseError::NotBegun(shortfall) => Self::no_quorum(
                shortfall,
                "This gateway has heard too few nodes to know the time by, so nothing was begun. Repeat it, or ask another gateway.",
            ),
            ReleaseError::NoQuorum(shortfall) => Self::no_quorum(shortfall, detail),
            ReleaseError::Indeterminate(shortfall) => Self::indeterminate(shortfall, detail),
        }
    }
}

impl From<ForceError> for Problem {
    fn from(error: ForceError) -> Self {
        match error {
            ForceError::Contended => Self::new(
                StatusCode::CONFLICT,
                "contended",
                "Contended",
                "No majority agrees on who holds the lock: somebody is just getting it, or a failed attempt left something behind that ends with its ttl.",
            )
            .retry_after(Duration::from_secs(1)),
            ForceError::Foreign => Self::not_holder(
                "A program other than redlockd holds the lock, and would not notice to have lost it. Stop that program, or delete the Redis key on every node.",
            ),
            ForceError::Release(ReleaseError::HeldByOther | ReleaseError::HeldNewer(_)) => {
                Self::not_holder("The lock has got another holder in the meantime, who keeps it. Look again before you force that one.")
            }
            ForceError::Inspect(error) => error.into(),
            ForceError::Release(error) => error.into(),
        }
    }
}

impl From<InspectError> for Problem {
    fn from(error: InspectError) -> Self {
        let detail = "No majority of the nodes could say whether the lock is held. GET /nodes says why.";
        match error {
            InspectError::NoQuorum(shortfall) => Self::no_quorum(shortfall, detail),
            InspectError::Indeterminate(shortfall) => Self::indeterminate(shortfall, detail),
        }
    }
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor => {
                Self::invalid("cursor: it is not one that this service gave out; pass next_cursor of the page before, or none for the first.")
            }
            ListError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could be scanned to be sure that no lock is missing. GET /nodes says why.")
            }
        }
    }
}
