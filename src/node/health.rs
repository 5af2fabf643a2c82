//! What the gateway knows about a node, and whether it is worth asking.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Fault, NodeFacts, Probe};
use crate::lease::Abstention;

/// Three faults in a row open the breaker: one may be a lost packet, two a restart under way.
const FAULTS_TO_OPEN: u32 = 3;

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Certified: it votes.
    Up,
    /// It may have forgotten; it votes again in this time.
    Quarantined {
        left: Duration,
    },
    /// It is there and must not be used as it is.
    Refused,
    Down,
}

impl NodeState {
    /// The word for it in JSON and in metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Quarantined { .. } => "quarantined",
            Self::Refused => "refused",
            Self::Down => "down",
        }
    }
}

/// A node as the operator sees it.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub state: NodeState,
    /// Why it is down or refused.
    pub reason: Option<String>,
    pub round_trip: Option<Duration>,
    /// What it said of itself when it was last heard.
    pub facts: Option<NodeFacts>,
}

/// The last that was heard of a node. Calls open the breaker; only a probe closes it.
#[derive(Debug)]
pub struct Health {
    faults_in_a_row: AtomicU32,
    open: AtomicBool,
    /// When a probe was answered last it had no quarantine before it.
    votes: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    status: NodeStatus,
    ready_at: Instant,
}

/// The reason before the first probe. What that finds is news, whatever it is.
const UNKNOWN: &str = "not asked yet";

impl Default for Health {
    fn default() -> Self {
        let reason = Some(UNKNOWN.to_owned());
        let status = NodeStatus { state: NodeState::Down, reason, round_trip: None, facts: None };
        Self {
            faults_in_a_row: AtomicU32::new(0),
            open: AtomicBool::new(true),
            votes: AtomicBool::new(false),
            seen: Mutex::new(Seen { status, ready_at: Instant::now() }),
        }
    }
}

impl Health {
    /// Whether asking the node makes sense at all.
    pub fn is_reachable(&self) -> bool {
        !self.open.load(Ordering::Relaxed)
    }

    /// Whether it is likely to vote when it is asked, and at once.
    pub fn is_promising(&self) -> bool {
        self.is_reachable() && self.votes.load(Ordering::Relaxed) && self.faults_in_a_row.load(Ordering::Relaxed) == 0
    }

    /// Why a node that is not reachable is not asked.
    pub fn absence(&self) -> Abstention {
        if self.seen().status.state == NodeState::Refused { Abstention::Refused } else { Abstention::Unreachable }
    }

    pub fn status(&self) -> NodeStatus {
        let seen = self.seen();
        let mut status = seen.status.clone();
        let left = seen.ready_at.saturating_duration_since(Instant::now());
        if let NodeState::Quarantined { .. } = status.state {
            status.state = if left.is_zero() { NodeState::Up } else { NodeState::Quarantined { left } };
        }
        status
    }

    /// A call was answered.
    pub fn call_succeeded(&self) {
        self.faults_in_a_row.store(0, Ordering::Relaxed);
    }

    /// A call was not answered. True if this opened the breaker, which stays open until a probe is answered.
    pub fn call_failed(&self, fault: &Fault) -> bool {
        if self.faults_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 < FAULTS_TO_OPEN || self.open.swap(true, Ordering::Relaxed) {
            return false;
        }
        self.down(fault);
        true
    }

    /// A probe was answered. True if the node's state is another than before.
    pub fn probe_succeeded(&self, probe: Probe) -> bool {
        let mut seen = self.seen();
        let state = if probe.quarantine_left.is_zero() { NodeState::Up } else { NodeState::Quarantined { left: probe.quarantine_left } };
        let changed = state.as_str() != seen.status.state.as_str();
        self.votes.store(state == NodeState::Up, Ordering::Relaxed);
        seen.ready_at = Instant::now() + probe.quarantine_left;
        seen.status = NodeStatus { state, reason: None, round_trip: Some(probe.round_trip), facts: Some(probe.facts) };
        drop(seen);
        self.call_succeeded();
        self.open.store(false, Ordering::Relaxed);
        changed
    }

    /// A probe failed. True if the node's state or the reason is another than before.
    ///
    /// A node that refuses, or takes no connection, is out at once. Silence counts as that of a call does: it may be
    /// the gateway that was starved, and then every node is silent.
    pub fn probe_failed(&self, fault: &Fault) -> bool {
        if matches!(fault, Fault::Lost(_)) && self.is_reachable() {
            return self.call_failed(fault);
        }
        self.open.store(true, Ordering::Relaxed);
        self.down(fault)
    }

    fn down(&self, fault: &Fault) -> bool {
        let mut seen = self.seen();
        let state = if matches!(fault, Fault::Refused(_)) { NodeState::Refused } else { NodeState::Down };
        let reason = Some(fault.to_string());
        let was_unknown = seen.status.reason.as_deref() == Some(UNKNOWN);
        let changed = was_unknown || seen.status.state.as_str() != state.as_str() || (state == NodeState::Refused && seen.status.reason != reason);
        seen.status.state = state;
        seen.status.reason = reason;
        changed
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().expect("no code panics while it holds this")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up() -> Health {
        let health = Health::default();
        let probe = Probe { quarantine_left: Duration::ZERO, round_trip: Duration::ZERO, facts: NodeFacts::default() };
        health.probe_succeeded(probe);
        health
    }

    #[test]
    fn what_the_first_probe_finds_is_news() {
        assert!(Health::default().probe_failed(&Fault::NotSent("connection refused".into())));
    }

    #[test]
    fn one_silent_probe_does_not_put_a_node_out_and_three_do() {
        let health = up();
        let silent = Fault::Lost("no answer in time".into());
        assert_eq!([(); 3].map(|()| (health.probe_failed(&silent), health.is_reachable())), [(false, true), (false, true), (true, false)]);
    }

    #[test]
    fn a_node_that_refuses_or_takes_no_connection_is_out_at_once() {
        for (fault, state) in [(Fault::Refused("no".into()), NodeState::Refused), (Fault::NotSent("connection refused".into()), NodeState::Down)] {
            let health = up();
            assert!(health.probe_failed(&fault));
            let absence = if state == NodeState::Refused { Abstention::Refused } else { Abstention::Unreachable };
            assert_eq!((health.is_reachable(), health.status().state, health.absence()), (false, state, absence));
        }
    }
}
