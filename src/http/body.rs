//! The shapes of successful answers.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use crate::lease::{FencingToken, Holder, LeaseId, LockKey, Mode, Quorum, Sharing, Ttl};
use crate::redlock::Locks;

/// A lease, in the answer to whoever holds it.
#[derive(Serialize, ToSchema)]
pub struct LeaseBody<'a> {
    /// What is held: a lock or a semaphore. Not there if it is a set of locks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "orders/42", nullable = false)]
    pub key: Option<&'a str>,
    /// The locks of a set, in the order of their names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub keys: Option<Vec<&'a str>>,
    /// `shared`, in the answer to an acquire that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mode: Option<&'static str>,
    /// Which slot of a semaphore, in the answer to an acquire: from 1 to `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub slot: Option<u16>,
    /// How many slots the semaphore has, in the answer to an acquire.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub limit: Option<u16>,
    /// The secret that extends and releases this lease.
    #[schema(example = "0mN3kX9vQ2bT7cYw5LrEfA")]
    pub lease_id: &'a str,
    /// Greater than every token that was granted for this lock before. Below 2^53.
    #[schema(example = 1_763_901_234_567_890_u64)]
    pub fencing_token: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "worker-7")]
    pub owner: Option<&'a str>,
    #[schema(example = 30_000)]
    pub ttl_ms: u64,
    /// How long the request waited before the attempt that won.
    #[schema(example = 0)]
    pub waited_ms: u64,
    /// The holder must stop this long, plus `waited_ms`, after it sent the request.
    #[schema(example = 29_698)]
    pub valid_for_ms: u64,
    /// A good moment to extend: a third of the time.
    #[schema(example = 10_000)]
    pub renew_after_ms: u64,
    /// The same deadline by the nodes' clocks, for people; count from your own request instead.
    #[schema(example = "2026-11-23T12:00:29.698Z")]
    pub expires_at: String,
    pub votes: VotesBody,
}

/// What the answers to an acquire and to an extend say alike.
pub struct Term<'a> {
    pub locks: &'a Locks,
    pub lease: &'a LeaseId,
    pub fencing_token: FencingToken,
    pub ttl: Ttl,
    pub valid_for: Duration,
    pub expires_at_us: u64,
    /// How many nodes had said yes when the verdict fell.
    pub granted: usize,
}

impl<'a> Term<'a> {
    pub fn body(&self, quorum: Quorum) -> LeaseBody<'a> {
        let (key, keys) = names(self.locks);
        LeaseBody {
            key,
            keys,
            mode: None,
            slot: None,
            limit: None,
            lease_id: self.lease.reveal(),
            fencing_token: self.fencing_token.get(),
            owner: None,
            ttl_ms: self.ttl.as_millis(),
            waited_ms: 0,
            valid_for_ms: self.valid_for.as_millis() as u64,
            renew_after_ms: renew_after(self.ttl, self.valid_for),
            expires_at: rfc3339(self.expires_at_us),
            votes: VotesBody { granted: self.granted, required: quorum.required(), nodes: quorum.nodes() },
        }
    }
}

/// As their owner knows them: the one, or those of a set.
fn names(locks: &Locks) -> (Option<&str>, Option<Vec<&str>>) {
    match locks {
        Locks::One(key) => (Some(key.given()), None),
        Locks::Set(_) | Locks::UnknownSet => (None, Some(locks.members().iter().map(LockKey::given).collect())),
    }
}

/// How many nodes said yes when the verdict fell; the others were not waited for.
#[derive(Serialize, ToSchema)]
pub struct VotesBody {
    #[schema(example = 3)]
    pub granted: usize,
    #[schema(example = 3)]
    pub required: usize,
    #[schema(example = 5)]
    pub nodes: usize,
}

#[derive(Serialize, ToSchema)]
pub struct ReleaseBody<'a> {
    /// What is not held any more: a lock or a semaphore. Not there if it is a set of locks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "orders/42", nullable = false)]
    pub key: Option<&'a str>,
    /// The locks of a set; none if the lease holds none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub keys: Option<Vec<&'a str>>,
    /// Whether the lease held it until now.
    pub released: bool,
}

impl<'a> ReleaseBody<'a> {
    pub fn of(locks: &'a Locks, released: bool) -> Self {
        let (key, keys) = names(locks);
        Self { key, keys, released }
    }
}

/// What a semaphore looks like from outside.
#[derive(Serialize, ToSchema)]
pub struct SemaphoreBody<'a> {
    #[schema(example = "imports")]
    pub key: &'a str,
    /// How many slots there are, in the eyes of those who have one; not known while nobody has.
    pub limit: Option<u16>,
    #[schema(example = 2)]
    pub held: usize,
    pub free: Option<usize>,
    /// No majority agrees on anybody: attempts are under way, or a failed one left something on a few nodes.
    #[serde(rename = "contended")]
    pub is_contended: bool,
    /// In the order of their slots.
    pub holders: Vec<SlotBody>,
}

/// Who has a slot.
#[derive(Serialize, ToSchema)]
pub struct SlotBody {
    #[schema(example = 1)]
    slot: u16,
    #[serde(flatten)]
    holder: HolderBody,
}

impl From<&Sharing> for SlotBody {
    fn from(sharing: &Sharing) -> Self {
        Self { slot: sharing.slot, holder: HolderBody { mode: None, ..HolderBody::from(&sharing.holder) } }
    }
}

impl HolderBody {
    /// As whoever asked for it in `mode` is told of it: a slot has no mode.
    pub fn beside(holder: &Holder, mode: Mode) -> Self {
        let body = Self::from(holder);
        if let Mode::Slot(_) = mode { Self { mode: None, ..body } } else { body }
    }
}

/// What a lock looks like from outside.
#[derive(Serialize, ToSchema)]
pub struct LockBody<'a> {
    #[schema(example = "orders/42")]
    pub key: &'a str,
    pub state: LockState,
    /// Who holds it alone, while somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<HolderBody>,
    /// Who share it, while some do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holders: Option<Vec<HolderBody>>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockState {
    Free,
    Held,
    /// No majority agrees: attempts are under way, or a failed one left something on a few nodes.
    Contended,
}

/// A holder as others see it. Its lease id is its secret and is not here.
#[derive(Debug, Serialize, ToSchema)]
pub struct HolderBody {
    /// `shared` where others hold it as well, or may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    mode: Option<&'static str>,
    /// The label that the holder gave itself.
    #[schema(example = "worker-7")]
    owner: Option<String>,
    /// Null if another program than redlockd wrote the record.
    #[schema(example = 1_763_901_234_567_890_u64)]
    fencing_token: Option<u64>,
    /// Null if the record never expires.
    #[schema(example = 12_345)]
    expires_in_ms: Option<u64>,
}

impl From<&Holder> for HolderBody {
    fn from(holder: &Holder) -> Self {
        Self {
            mode: holder.is_shared.then_some("shared"),
            owner: holder.owner.as_ref().map(ToString::to_string),
            fencing_token: holder.ballot.map(|ballot| FencingToken::of(ballot).get()),
            expires_in_ms: holder.left.map(|left| left.as_millis() as u64),
        }
    }
}

/// A page of held locks.
#[derive(Serialize, ToSchema)]
pub struct ListBody {
    pub locks: Vec<ListedBody>,
    /// Pass it as `cursor` for the next page; null after the last. A page may be empty although more follow.
    pub next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct ListedBody {
    #[schema(example = "orders/42")]
    pub key: String,
    #[serde(flatten)]
    pub holder: HolderBody,
}

/// `2026-11-23T12:00:29.698Z` for microseconds since 1970.
pub fn rfc3339(micros: u64) -> String {
    let millis = i64::try_from(micros / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|time| format!("{time:.3}")).unwrap_or_default()
}

/// When to extend, in milliseconds: two more tries fit into the lease after it. Sooner if less is left, as after a repeat.
fn renew_after(ttl: Ttl, valid_for: Duration) -> u64 {
    (ttl.get().max(valid_for) / 3).min(valid_for / 2).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::TtlBounds;

    #[test]
    fn times_are_written_with_milliseconds() {
        assert_eq!(rfc3339(1_795_435_229_698_999), "2026-11-23T12:00:29.698Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_time_to_extend_is_a_third_of_what_the_lease_lasts() {
        let bounds = TtlBounds { min: TtlBounds::SHORTEST, max: Duration::from_secs(300) };
        let after = |ttl, left| renew_after(Ttl::new(Duration::from_secs(ttl), bounds).unwrap(), Duration::from_secs(left));
        // A short extend does not shorten the lease, a repeat does not prolong it.
        assert_eq!([after(30, 29), after(1, 240), after(30, 4)], [10_000, 80_000, 2_000]);
    }
}
