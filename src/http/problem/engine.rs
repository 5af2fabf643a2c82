//! Facts of the engine as problems.

use std::time::Duration;

use axum::http::StatusCode;

use super::Problem;
use crate::http::body::HolderBody;
use crate::lease::{Holder, Mode};
use crate::redlock::{AcquireError, ExtendError, ForceError, InspectError, ListError, Locks, NoPlace, ReleaseError, WaitError};

const HELD_BY_OTHER: &str =
    "Another lease holds the lock, or one of the locks; it stays as it is. The lease that you named is over, or was never granted.";

impl Problem {
    /// What was in the way of an acquire of `locks` in `mode`.
    pub fn not_acquired(error: WaitError, locks: &Locks, mode: Mode) -> Self {
        let error = match error {
            WaitError::Acquire(error) => error,
            WaitError::NoPlace(no_place) => return no_place.into(),
        };
        match error {
            AcquireError::Held(Some(holder)) => Self::held(&holder, locks, mode),
            AcquireError::Held(None) => {
                let detail = "Several callers ask for it at once and this one did not get it. Try again in a moment.";
                Self::new(StatusCode::LOCKED, "locked", "Locked", detail).retry_after(Duration::from_secs(1))
            }
            AcquireError::OtherLimit { limit, holder } => {
                let detail = format!(
                    "limit={} was given, and those who hold the semaphore agree on limit={limit}. Use that, or wait until all of them are gone.",
                    mode.limit()
                );
                Self::new(StatusCode::CONFLICT, "limit_differs", "Another limit", detail).held_by(holder.as_ref(), mode)
            }
            AcquireError::Crowded(holder) => {
                let detail = format!("{} callers share the lock, as many as may. Try again when one of them has left.", Mode::MAX_TOGETHER);
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_holders", "Too many holders", detail).held_by(holder.as_ref(), mode)
            }
            AcquireError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could vote, so nobody can get a lock now; nothing is held. GET /nodes says why.")
            }
            AcquireError::Indeterminate(shortfall) => Self::indeterminate(
                shortfall,
                "Answers of nodes were lost or came too late. What was written is being undone; it is safe to repeat with the same lease_id.",
            ),
        }
    }

    fn held(holder: &Holder, locks: &Locks, mode: Mode) -> Self {
        let locked = |detail: String| Self::new(StatusCode::LOCKED, "locked", "Locked", detail);
        if let Some(key) = holder.member.and_then(|member| locks.members().get(member)) {
            let detail = "is held by another, so that none of them was taken. Try again when it has expired or was released.";
            return locked(format!("The lock {:?} {detail}", key.as_str())).held_by(Some(holder), mode);
        }
        if locks.is_set() {
            let detail = "The lease with this lease_id has another set of locks. Release that, or use another lease_id.";
            return Self::new(StatusCode::CONFLICT, "lease_in_use", "Lease in use", detail);
        }
        match mode {
            Mode::Slot(_) => {
                let detail = "Every slot is taken. Try again when one was given back.";
                locked(detail.into()).held_by(Some(holder), mode)
            }
            // It is shared, and no holder is in the way.
            Mode::Shared if holder.is_shared && holder.ballot.is_none() => {
                let detail = "Somebody waits who wants the lock alone, and nobody else is let in to share it until then. Try again in a moment.";
                locked(detail.into()).held_by(Some(holder), mode)
            }
            Mode::Exclusive | Mode::Shared => {
                let detail = "The lock is held by another. Try again when it has expired or was released.";
                locked(detail.into()).held_by(Some(holder), mode)
            }
        }
    }

    /// With who it is and until when it may stay.
    fn held_by(self, holder: Option<&Holder>, mode: Mode) -> Self {
        let left = holder.and_then(|holder| holder.left).unwrap_or(Duration::from_secs(1));
        // Nobody, but one who waits to have it alone.
        let holder = holder.filter(|holder| !(holder.is_shared && holder.ballot.is_none()));
        self.retry_after(left).holder(holder.map(|holder| HolderBody::beside(holder, mode)))
    }

    /// Nobody holds several locks under the lease.
    pub fn no_such_set() -> Self {
        Self::lease_expired(
            "No locks are held together under this lease, which is over or was never granted. One that was acquired alone is extended by its name.",
        )
    }

    fn lease_expired(detail: &str) -> Self {
        Self::new(StatusCode::GONE, "lease_expired", "Lease expired", detail)
    }
}

impl From<NoPlace> for Problem {
    fn from(no_place: NoPlace) -> Self {
        let detail = match no_place {
            NoPlace::Closed => return Self::draining(),
            NoPlace::LineIsFull { max } => format!(
                "{max} requests wait for this in this gateway, as many as max_waiters_per_lock allows. Try again in a moment, or without wait."
            ),
            NoPlace::AllAreFull { max } => {
                format!("{max} requests wait in this gateway, as many as max_waiters allows. Ask another one, or try again in a moment.")
            }
        };
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_waiters", "Too many waiters", detail).retry_after(Duration::from_secs(1))
    }
}

impl From<ExtendError> for Problem {
    fn from(error: ExtendError) -> Self {
        match error {
            ExtendError::HeldByOther => Self::not_holder(HELD_BY_OTHER),
            ExtendError::Expired => Self::lease_expired(
                "The lease is gone, by its ttl, its max_lifetime or a release, and was not made anew. Stop what it protected, then acquire again.",
            ),
            ExtendError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could answer; the lease keeps the deadline that it had. GET /nodes says why.")
            }
            ExtendError::Indeterminate(shortfall) => Self::indeterminate(
                shortfall,
                "Answers of nodes were lost or came too late, or next to nothing is left of the lease; count on the deadline that it had. It is safe to repeat.",
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
                "The lease is held under the newer fencing token {}, and stays. To release it, name that token or none.",
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
