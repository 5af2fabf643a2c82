//! Random commands that collide: few locks, few leases, and ballots and times on the edges of what is allowed.

use std::time::Duration;

use redlockd::lease::{AttemptId, Ballot, LeaseId, Lifetime, LockKey, Mode, OwnerLabel, Slot};
use redlockd::node::{Acquire, Agreement, Command, Record, State};

use crate::support::Chance;
use crate::support::lock_key;

pub const MAX_TTL_MS: u64 = 2_000;
const LOCKS: &[&str] = &["a", "b/ß", "c d"];
const LEASES: &[&str] = &["lease-of-alice--", "lease-of-bob----", "lease-of-carol--"];
const OWNERS: &[&str] = &["worker 7", "-", "größe ½"];
const TTLS_MS: &[u64] = &[1, 2, 100, 750, 1_000, MAX_TTL_MS];
const MAX_BATCH: u64 = 8;

/// The locks that callers ask for, and the sets' own.
pub fn locks() -> Vec<LockKey> {
    LOCKS.iter().map(|name| lock_key(name)).chain(LEASES.iter().map(|lease| LockKey::of_set(&lease_id(lease)))).collect()
}

fn lease_id(lease: &str) -> LeaseId {
    LeaseId::new(lease).unwrap()
}

/// Scans are left out: the two sides page in different orders and cursors. The contract suite compares whole scans.
pub fn batch(chance: &mut Chance, state: &State, agreement: &Agreement, now_us: u64) -> Vec<Command> {
    (0..=chance.below(MAX_BATCH)).map(|_| command(chance, state, agreement, now_us)).collect()
}

fn command(chance: &mut Chance, state: &State, agreement: &Agreement, now_us: u64) -> Command {
    let lease = lease_id(chance.pick(LEASES));
    // A set is asked for under the lease that it is named after, a lock under any.
    let key = if chance.one_in(4) { LockKey::of_set(&lease) } else { lock_key(chance.pick(LOCKS)) };
    let attempt = AttemptId(chance.pick(&[1, 2, u64::MAX]));
    let ttl = Duration::from_millis(chance.pick(TTLS_MS));
    let ballots = ballots(state, &key, agreement, now_us);
    match chance.below(16) {
        0..=6 => {
            let over = chance.one_in(2).then(|| chance.pick(&ballots));
            let owner = OwnerLabel::new(chance.pick(OWNERS)).ok().filter(|_| chance.one_in(2));
            let (mode, members) = if key.is_set() { (Mode::Exclusive, members(chance)) } else { (mode(chance), Vec::new()) };
            let (ballot, holds_back, members) = (chance.pick(&ballots), Duration::from_millis(chance.pick(&[0, 0, 0, 1, 700])), members.into());
            Command::Acquire(Acquire { key, lease, attempt, ballot, over, ttl, owner, lifetime: lifetime(chance, now_us), mode, holds_back, members })
        }
        7..=9 => Command::Extend { key, lease, ttl },
        10..=11 => Command::Release { key, lease: Some(lease).filter(|_| !chance.one_in(4)), up_to: chance.pick(&ballots) },
        12..=14 => Command::Cancel { key, lease, attempt, up_to: chance.pick(&ballots) },
        _ => Command::Inspect { key },
    }
}

/// Mostly none.
fn lifetime(chance: &mut Chance, now_us: u64) -> Lifetime {
    let mut some = |longest_ms: u64| if chance.one_in(6) { (now_us / 1000 + chance.below(longest_ms)).max(1) } else { 0 };
    let (ends_ms, kept_ms) = (some(MAX_TTL_MS), some(MAX_TTL_MS));
    Lifetime { ends_ms, kept_ms, delay_ms: chance.pick(&[0, 0, 0, 1, 300]) }
}

fn mode(chance: &mut Chance) -> Mode {
    match chance.below(8) {
        0..=3 => Mode::Exclusive,
        4..=5 => Mode::Shared,
        // Two that agree on the limit, and one that does not.
        _ => Mode::Slot(Slot { number: chance.pick(&[1, 2]), limit: chance.pick(&[2, 2, 3]) }),
    }
}

/// Some of the locks, mostly the same ones.
fn members(chance: &mut Chance) -> Vec<LockKey> {
    let names = chance.pick(&[&LOCKS[..2], &LOCKS[..2], &LOCKS[1..], LOCKS]);
    names.iter().map(|name| lock_key(name)).collect()
}

/// The command with the name of its lease, which it does not print itself.
pub fn told(command: &Command) -> String {
    let lease = match command {
        Command::Acquire(Acquire { lease, .. }) | Command::Extend { lease, .. } | Command::Cancel { lease, .. } => lease.reveal(),
        Command::Release { lease: Some(lease), .. } => lease.reveal(),
        Command::Release { lease: None, .. } | Command::Inspect { .. } | Command::Scan { .. } => "nobody",
    };
    format!("{lease}: {command:?}")
}

/// Where a decision turns: the ends of the window, the fence and the record, each with its neighbours.
fn ballots(state: &State, key: &LockKey, agreement: &Agreement, now_us: u64) -> Vec<Ballot> {
    let window_us = agreement.window.as_micros() as u64;
    let fence = state.fence(key).into_iter().flat_map(|(fence, _)| [fence.high.micros(), fence.low.micros().max(1)]);
    let held = state.lock(key).into_iter().flat_map(|(record, _)| match record {
        Record::Alone(record) => vec![record.ballot.micros()],
        Record::Together(together) => together.sharers.iter().map(|sharer| sharer.record.ballot.micros()).collect(),
    });
    // The present is there more than once, or hardly anything would ever be accepted.
    let edges = [now_us, now_us, now_us + window_us, now_us - window_us].into_iter().chain(fence.clone()).chain(fence).chain(held);
    let near = edges.flat_map(|edge| [edge - 1, edge, edge + 1]);
    near.chain([0, Ballot::MAX]).map(Ballot::from_micros).collect()
}

/// The next reading of the clock, mostly where something ends: a lock, a fence, a quarantine, the lag of the high-water mark.
pub fn next_time(chance: &mut Chance, state: &State, agreement: &Agreement, now_us: u64) -> u64 {
    let mut ends_us: Vec<u64> = Vec::new();
    for key in locks() {
        let lock = state.lock(&key).map(|(_, expires_ms)| expires_ms * 1000);
        let fence = state.fence(&key).map(|(_, expires_ms)| expires_ms * 1000);
        let overtaken = state.fence(&key).map(|(fence, _)| fence.high.micros() + agreement.window.as_micros() as u64);
        ends_us.extend([lock, fence, overtaken].into_iter().flatten());
        if let Some((Record::Together(together), _)) = state.lock(&key) {
            ends_us.extend(together.sharers.iter().map(|sharer| sharer.expires_ms * 1000));
            ends_us.push(together.awaited_ms.max(1) * 1000);
        }
    }
    ends_us.push(state.high_water_us() + Agreement::HIGH_WATER_LAG.as_micros() as u64);
    ends_us.extend(state.marker().map(|marker| marker.ready_at_ms * 1000));
    // Just not far enough back to be noticed, or just too far.
    let marked_us = if state.high_water_us() == 0 { now_us } else { state.high_water_us() };
    let backwards = marked_us - Agreement::STEP_BACK.as_micros() as u64;
    match chance.below(64) {
        0..=11 => now_us,
        12..=17 => now_us + 1,
        18..=23 => now_us + 1_000,
        24..=31 => now_us + chance.below(agreement.window.as_micros() as u64),
        // A millisecond lasts a thousand microseconds, and what ends in it lives to its end.
        32..=56 => (chance.pick(&ends_us) - 1 + chance.pick(&[0, 1, 2, 1_000, 1_001])).max(now_us),
        57..=60 => now_us + chance.below(2 * agreement.quarantine().as_micros() as u64),
        61 => now_us - chance.below(Agreement::STEP_BACK.as_micros() as u64),
        62 => backwards + chance.below(3) - 1,
        _ => now_us - chance.below(1_000_000),
    }
}
