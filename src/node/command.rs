//! What a node can be asked, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use crate::lease::{AcquireVote, Answer, AttemptId, Ballot, ExtendVote, InspectVote, LeaseId, Lifetime, LockKey, Mode, OwnerLabel, ReleaseVote};

/// One atomic step on one lock. Many travel in one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write the lock and its fence, if nobody is in the way and the ballot is high enough.
    Acquire(Acquire),
    /// Let a live record of this lease last at least `ttl` from now. Never shortens, never creates.
    Extend { key: LockKey, lease: LeaseId, ttl: Duration },
    /// Free every record of the lease, or of any if none is named, up to this ballot and raise the fence to it.
    Release { key: LockKey, lease: Option<LeaseId>, up_to: Ballot },
    /// Undo one attempt: free what it wrote unless that became firm, and raise the fence so that nothing
    /// of it that is still under way can be accepted.
    Cancel { key: LockKey, lease: LeaseId, attempt: AttemptId, up_to: Ballot },
    /// Read the lock.
    Inspect { key: LockKey },
    /// Read a page of the names of held locks that begin with `prefix`.
    Scan { prefix: String, cursor: String, limit: usize },
}

/// What an acquire wants of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquire {
    pub key: LockKey,
    pub lease: LeaseId,
    pub attempt: AttemptId,
    pub ballot: Ballot,
    /// A record of this lease up to this ballot may be raised although another attempt wrote it.
    pub over: Option<Ballot>,
    pub ttl: Duration,
    pub owner: Option<OwnerLabel>,
    pub lifetime: Lifetime,
    pub mode: Mode,
    /// How long nobody else is to share the lock, if that is in the way: the caller waits for it, to have it alone.
    pub holds_back: Duration,
    /// The locks that are to be held with this one, all or none, exclusively. This one is the [set's](LockKey::of_set) then.
    pub members: Arc<[LockKey]>,
}

impl Command {
    /// Its name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Acquire(_) => "acquire",
            Self::Extend { .. } => "extend",
            Self::Release { .. } => "release",
            Self::Cancel { .. } => "cancel",
            Self::Inspect { .. } => "inspect",
            Self::Scan { .. } => "scan",
        }
    }

    /// Whether it makes room for others, and so goes ahead of what only wants in.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Self::Extend { .. } | Self::Release { .. } | Self::Cancel { .. })
    }

    /// Whether the answer counts towards a majority, which a node that may have forgotten must not give.
    pub fn is_voting(&self) -> bool {
        !matches!(self, Self::Release { .. } | Self::Cancel { .. })
    }
}

/// The answer to one [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Acquire(AcquireVote),
    Extend(ExtendVote),
    Release(ReleaseVote),
    /// Whether there was anything to free. The tombstone is set in any case.
    Cancel {
        freed: bool,
    },
    Inspect(InspectVote),
    Page(Page),
}

/// Names of held locks, in no particular order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub keys: Vec<LockKey>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

/// The answers to a batch, in the order of its commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchReply {
    /// The node's clock while it worked, in microseconds since 1970.
    pub now_us: u64,
    pub answers: Vec<Answer<Reply>>,
}
