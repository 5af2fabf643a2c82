//! Whoever asks a node for a lock, and the commands it sends.

use std::sync::Arc;
use std::time::Duration;

use redlockd::lease::{AttemptId, Ballot, LeaseId, Lifetime, LockKey, Mode, OwnerLabel};
use redlockd::node::{Acquire, Command};

/// One attempt of one lease on one lock, from which every command of it can be made.
#[derive(Clone)]
pub struct Caller {
    pub key: LockKey,
    pub lease: LeaseId,
    pub attempt: AttemptId,
    pub ttl: Duration,
    pub owner: Option<OwnerLabel>,
    pub lifetime: Lifetime,
    pub mode: Mode,
    pub holds_back: Duration,
    /// The locks of a set.
    pub members: Arc<[LockKey]>,
}

pub fn lock_key(name: &str) -> LockKey {
    LockKey::new(name).unwrap()
}

impl Caller {
    /// Its owner label is `name`, and its lease id is made of it.
    pub fn new(lock: &str, name: &str) -> Self {
        let lease = LeaseId::new(&format!("lease-of-{name:-<16}")).unwrap();
        let (ttl, owner) = (Duration::from_secs(30), OwnerLabel::new(name).ok());
        Self {
            key: lock_key(lock),
            lease,
            attempt: AttemptId(1),
            ttl,
            owner,
            lifetime: Lifetime::default(),
            mode: Mode::Exclusive,
            holds_back: Duration::ZERO,
            members: [].into(),
        }
    }

    /// Of a set of `locks`.
    pub fn of_set(locks: &[&str], name: &str) -> Self {
        let one = Self::new("lock", name);
        Self { key: LockKey::of_set(&one.lease), members: locks.iter().map(|lock| lock_key(lock)).collect(), ..one }
    }

    /// The same in another mode.
    pub fn mode(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    pub fn waiting(&self) -> Self {
        Self { holds_back: Duration::from_secs(1), ..self.clone() }
    }

    /// The same lease in another attempt.
    pub fn attempt(&self, attempt: u64) -> Self {
        Self { attempt: AttemptId(attempt), ..self.clone() }
    }

    pub fn ttl(&self, ttl: Duration) -> Self {
        Self { ttl, ..self.clone() }
    }

    pub fn acquire(&self, ballot: Ballot) -> Command {
        self.acquire_over(ballot, None)
    }

    pub fn acquire_over(&self, ballot: Ballot, over: Option<Ballot>) -> Command {
        let Self { key, lease, attempt, ttl, owner, lifetime, mode, holds_back, members } = self.clone();
        Command::Acquire(Acquire { key, lease, attempt, ballot, over, ttl, owner, lifetime, mode, holds_back, members })
    }

    pub fn extend(&self, ttl: Duration) -> Command {
        Command::Extend { key: self.key.clone(), lease: self.lease.clone(), ttl }
    }

    pub fn release(&self, up_to: Ballot) -> Command {
        Command::Release { key: self.key.clone(), lease: Some(self.lease.clone()), up_to }
    }

    /// Of whatever lease holds the lock.
    pub fn force(&self, up_to: Ballot) -> Command {
        Command::Release { key: self.key.clone(), lease: None, up_to }
    }

    pub fn cancel(&self, up_to: Ballot) -> Command {
        Command::Cancel { key: self.key.clone(), lease: self.lease.clone(), attempt: self.attempt, up_to }
    }

    pub fn inspect(&self) -> Command {
        Command::Inspect { key: self.key.clone() }
    }
}
