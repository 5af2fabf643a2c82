//! What happens to a lock, as it happens: a stream of events, or one answer when the lock is free.
//!
//! Whatever is told is what a majority of the nodes says. Word of a change, from this gateway or another, says when to ask;
//! without any it is asked every second, and when the holder's lease ends.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{Instant, sleep, sleep_until};

use super::body::{HolderBody, LockBody, LockState};
use super::hold::{self, event, told};
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{Ballot, Holder, LockKey};
use crate::redlock::{Inspected, Watch};

/// How often a lock is looked at of which nothing is heard.
const PATIENCE: Duration = Duration::from_secs(1);
/// A lock is not looked at more often, whatever happens to it.
const AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// A record ends by its node's clock, which is read in whole milliseconds.
const AFTER_THE_END: Duration = Duration::from_millis(3);
/// How long a stream goes without a byte.
const BEAT: Duration = Duration::from_secs(10);
/// How much later than it was known to end a lease must end to have been extended.
const LATER: Duration = Duration::from_millis(50);
/// Events that may wait for a client that does not read. One that is so far behind is let go.
const MAX_EVENTS: usize = 64;

/// By which grants a lock was held when it was seen last, and when each ends by itself, if it does.
struct Seen(BTreeMap<Option<Ballot>, Option<Instant>>);

/// The state of the lock when it is free, or after `wait`.
pub async fn until_free(state: &AppState, key: &LockKey, wait: Duration) -> Result<Inspected, Problem> {
    let give_up = Instant::now() + wait;
    let mut watch = state.redlock.watch(key);
    let mut bystander = None;
    loop {
        let inspected = state.redlock.inspect(key.clone()).await?;
        if inspected == Inspected::Free || give_up <= Instant::now() {
            return Ok(inspected);
        }
        if bystander.is_none() {
            let waiters = state.redlock.cluster().waiters();
            bystander = Some(waiters.stand_by().inspect_err(|_| state.metrics.limit_hit("waiters"))?);
        }
        let seen = Seen::of(&inspected);
        tokio::select! {
            () = state.draining.begun() => return Err(Problem::draining()),
            () = next_look(&mut watch, &seen, give_up) => {}
        }
    }
}

/// The events from now on, of which the present state is the first.
pub fn events(state: AppState, key: LockKey, watch: Watch, first: Inspected) -> Response {
    let (events, happened) = channel(MAX_EVENTS);
    tokio::spawn(follow(state, key, watch, first, events));
    hold::events(happened).into_response()
}

/// Until nobody reads any more, or not quickly enough.
async fn follow(state: AppState, key: LockKey, mut watch: Watch, first: Inspected, events: Sender<Bytes>) {
    let mut seen = Seen::of(&first);
    let mut tell = Some(described("state", &key, &first));
    let mut is_known = true;
    let mut beat = Instant::now() + BEAT;
    loop {
        if let Some(event) = tell.take() {
            if events.try_send(event).is_err() {
                return;
            }
            beat = Instant::now() + BEAT;
        }
        tokio::select! {
            biased;
            () = events.closed() => return,
            () = state.draining.begun() => {
                let _ = events.try_send(event("draining", b"{}"));
                return;
            }
            () = next_look(&mut watch, &seen, beat) => {}
        }
        match state.redlock.inspect(key.clone()).await {
            // While nobody knows who has it, it is as it was.
            Ok(Inspected::Contended) => {}
            Ok(now) => {
                let after = Seen::of(&now);
                let name = if is_known { seen.what_happened(&after) } else { Some("state") };
                tell = name.map(|name| described(name, &key, &now));
                seen = after;
                is_known = true;
            }
            Err(_) => {
                tell = is_known.then(|| event("unknown", b"{}"));
                is_known = false;
            }
        }
        if tell.is_none() && beat <= Instant::now() {
            tell = Some(Bytes::from_static(b":\n\n"));
        }
    }
}

/// Returns when the lock is to be looked at, by `latest`.
async fn next_look(watch: &mut Watch, seen: &Seen, latest: Instant) {
    sleep(AT_MOST_EVERY).await;
    let timer = Instant::now() + PATIENCE;
    // One that should be over, and is not, is looked at no more often than others.
    let end = seen.ends().map(|ends| ends + AFTER_THE_END).filter(|end| Instant::now() < *end).unwrap_or(timer);
    tokio::select! {
        () = watch.changed() => {}
        () = sleep_until(timer.min(end).min(latest)) => {}
    }
}

fn described(name: &str, key: &LockKey, inspected: &Inspected) -> Bytes {
    let (state, holder, holders) = described_state(inspected);
    told(name, &LockBody { key: key.given(), state, holder, holders })
}

/// As an answer has it: the state, who holds it alone, and who hold it together.
pub fn described_state(inspected: &Inspected) -> (LockState, Option<HolderBody>, Option<Vec<HolderBody>>) {
    match inspected {
        Inspected::Free => (LockState::Free, None, None),
        Inspected::Held(holder) => (LockState::Held, Some(HolderBody::from(holder)), None),
        Inspected::Together { sharers, .. } => {
            (LockState::Held, None, Some(sharers.iter().map(|sharing| HolderBody::from(&sharing.holder)).collect()))
        }
        Inspected::Contended => (LockState::Contended, None, None),
    }
}

impl Seen {
    fn of(inspected: &Inspected) -> Self {
        let tenure = |Holder { ballot, left, .. }: &Holder| (*ballot, left.map(|left| Instant::now() + left));
        Self(match inspected {
            Inspected::Held(holder) => BTreeMap::from([tenure(holder)]),
            Inspected::Together { sharers, .. } => sharers.iter().map(|sharing| tenure(&sharing.holder)).collect(),
            Inspected::Free | Inspected::Contended => BTreeMap::new(),
        })
    }

    /// When the first of them ends by itself, if it does.
    fn ends(&self) -> Option<Instant> {
        self.0.values().flatten().min().copied()
    }

    /// The event between this and `after`, if there was one. Of several the one that says most.
    fn what_happened(&self, after: &Self) -> Option<&'static str> {
        if after.0.keys().any(|grant| !self.0.contains_key(grant)) {
            return Some("acquired");
        }
        let mut gone = self.0.iter().filter(|(grant, _)| !after.0.contains_key(grant)).map(|(_, ends)| ends).peekable();
        if gone.peek().is_some() {
            let is_over = gone.all(|ends| ends.is_some_and(|ends| ends <= Instant::now()));
            return Some(if is_over { "expired" } else { "released" });
        }
        let is_later = |(grant, ends): (&Option<Ballot>, &Option<Instant>)| {
            let after = after.0.get(grant).copied().flatten();
            after.zip(*ends).is_some_and(|(after, before)| before + LATER < after)
        };
        self.0.iter().any(is_later).then_some("extended")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_looks_at_a_lock_tell_what_happened_between_them() {
        let ballot = |micros| Ballot::from_micros(micros);
        let held = |micros, left_ms| {
            Seen::of(&Inspected::Held(Holder { ballot: Some(ballot(micros)), left: Some(Duration::from_millis(left_ms)), ..Holder::default() }))
        };
        let free = || Seen::of(&Inspected::Free);
        assert_eq!(free().what_happened(&free()), None);
        assert_eq!(free().what_happened(&held(1, 100)), Some("acquired"));
        assert_eq!(held(1, 100).what_happened(&held(1, 99)), None);
        assert_eq!(held(1, 100).what_happened(&held(1, 1000)), Some("extended"));
        assert_eq!(held(1, 100).what_happened(&held(2, 100)), Some("acquired"));
        assert_eq!(held(1, 100).what_happened(&free()), Some("released"));
        let before = held(1, 100);
        tokio::time::advance(Duration::from_millis(101)).await;
        assert_eq!(before.what_happened(&free()), Some("expired"));
    }
}
