//! The series that every node has.

use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::{SECONDS, keep};
use crate::node::{Connections, NodeState, NodeStatus};

/// How a command can be answered: the labels of `redlockd_node_votes_total`, made in advance so that a vote costs one addition.
const VOTES: &[&str] = &[
    "accepted",
    "mine",
    "busy",
    "taken",
    "other_limit",
    "crowded",
    "stale",
    "ahead",
    "extended",
    "gone",
    "held_by_other",
    "freed",
    "not_held",
    "newer",
    "free",
    "held",
    "cancelled",
    "page",
    "quarantined",
    "epoch",
    "clock_back",
    "unreachable",
    "refused",
    "overloaded",
    "silent",
    "failed",
];

/// All of them, with the node as a label.
pub struct NodeSeries {
    votes: IntCounterVec,
    faults: IntCounterVec,
    up: IntGaugeVec,
    quarantined: IntGaugeVec,
    round_trip: GaugeVec,
    clock_offset: GaugeVec,
    connections: IntGaugeVec,
    batch_seconds: HistogramVec,
    batch_commands: HistogramVec,
}

/// The series of one node.
pub struct NodeMetrics {
    votes: Vec<(&'static str, IntCounter)>,
    pub faults: IntCounter,
    pub up: IntGauge,
    pub quarantined: IntGauge,
    pub round_trip: Gauge,
    pub clock_offset: Gauge,
    idle_connections: IntGauge,
    busy_connections: IntGauge,
    pub batch_seconds: Histogram,
    pub batch_commands: Histogram,
}

impl NodeSeries {
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            votes: keep(
                registry,
                IntCounterVec::new(Opts::new("redlockd_node_votes_total", "Answers of a node to commands, by kind."), &["node", "vote"]),
            )?,
            faults: keep(
                registry,
                IntCounterVec::new(Opts::new("redlockd_node_faults_total", "Calls to a node that were not answered."), &["node"]),
            )?,
            up: keep(
                registry,
                IntGaugeVec::new(Opts::new("redlockd_node_up", "Whether the node is reachable and fit to be used, quarantined or not."), &["node"]),
            )?,
            quarantined: keep(
                registry,
                IntGaugeVec::new(Opts::new("redlockd_node_quarantined", "Whether the node may have forgotten and does not vote yet."), &["node"]),
            )?,
            round_trip: keep(
                registry,
                GaugeVec::new(Opts::new("redlockd_node_latency_seconds", "Round trip of the last probe of the node."), &["node"]),
            )?,
            clock_offset: keep(
                registry,
                GaugeVec::new(
                    Opts::new("redlockd_node_clock_offset_seconds", "How far the node's clock is ahead of the median of all nodes."),
                    &["node"],
                ),
            )?,
            connections: keep(
                registry,
                IntGaugeVec::new(
                    Opts::new("redlockd_node_connections", "Connections to the node for votes, by whether one is in use."),
                    &["node", "state"],
                ),
            )?,
            batch_seconds: keep(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("redlockd_node_batch_duration_seconds", "Time from sending a batch to a node to its answer.")
                        .buckets(SECONDS.to_vec()),
                    &["node"],
                ),
            )?,
            batch_commands: keep(
                registry,
                HistogramVec::new(
                    HistogramOpts::new("redlockd_node_batch_commands", "Commands in a batch.").buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
                    &["node"],
                ),
            )?,
        })
    }

    /// Those of the node `name`.
    pub fn of(&self, name: &str) -> NodeMetrics {
        NodeMetrics {
            votes: VOTES.iter().map(|vote| (*vote, self.votes.with_label_values(&[name, vote]))).collect(),
            faults: self.faults.with_label_values(&[name]),
            up: self.up.with_label_values(&[name]),
            quarantined: self.quarantined.with_label_values(&[name]),
            round_trip: self.round_trip.with_label_values(&[name]),
            clock_offset: self.clock_offset.with_label_values(&[name]),
            idle_connections: self.connections.with_label_values(&[name, "idle"]),
            busy_connections: self.connections.with_label_values(&[name, "busy"]),
            batch_seconds: self.batch_seconds.with_label_values(&[name]),
            batch_commands: self.batch_commands.with_label_values(&[name]),
        }
    }
}

impl NodeMetrics {
    /// Counts one answer. A label that is not in [`VOTES`] would be lost, so a test compares them.
    pub fn vote(&self, label: &str) {
        if let Some((_, counter)) = self.votes.iter().find(|(vote, _)| *vote == label) {
            counter.inc();
        }
    }

    /// Publishes what a probe has found.
    pub fn show(&self, status: &NodeStatus, clock_offset_us: Option<i64>, connections: Connections) {
        self.idle_connections.set(connections.idle.into());
        self.busy_connections.set(connections.busy.into());
        self.up.set(matches!(status.state, NodeState::Up | NodeState::Quarantined { .. }).into());
        self.quarantined.set(matches!(status.state, NodeState::Quarantined { .. }).into());
        self.round_trip.set(status.round_trip.map_or(0.0, |time| time.as_secs_f64()));
        self.clock_offset.set(clock_offset_us.unwrap_or(0) as f64 / 1e6);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lease::Abstention::{self, ClockBack, Epoch, Failed, Overloaded, Quarantined, Refused, Silent, Unreachable};
    use crate::lease::{AcquireVote, Ballot, ExtendVote, Holder, InspectVote, ReleaseVote, Slots, Vote};
    use crate::node::{Page, Reply};

    /// Goes through all of them: a new one does not compile before it is added here.
    fn after(abstention: &Abstention) -> Option<Abstention> {
        match abstention {
            Quarantined { .. } => Some(Epoch),
            Epoch => Some(ClockBack),
            ClockBack => Some(Unreachable),
            Unreachable => Some(Refused),
            Refused => Some(Overloaded),
            Overloaded => Some(Silent),
            Silent => Some(Failed("of memory".into())),
            Failed(_) => None,
        }
    }

    fn replies() -> Vec<Reply> {
        let (ballot, left) = (Ballot::default(), Duration::ZERO);
        let holder = Holder::default();
        vec![
            Reply::Acquire(AcquireVote::Accepted),
            Reply::Acquire(AcquireVote::Mine { ballot, left, slot: 0 }),
            Reply::Acquire(AcquireVote::Busy(holder.clone())),
            Reply::Acquire(AcquireVote::Taken { slots: Slots::default(), holder: holder.clone() }),
            Reply::Acquire(AcquireVote::OtherLimit { limit: 0, holder: holder.clone() }),
            Reply::Acquire(AcquireVote::Crowded(holder.clone())),
            Reply::Acquire(AcquireVote::Stale { floor: ballot }),
            Reply::Acquire(AcquireVote::Ahead),
            Reply::Extend(ExtendVote::Extended { ballot, left }),
            Reply::Extend(ExtendVote::Gone),
            Reply::Extend(ExtendVote::HeldByOther),
            Reply::Release(ReleaseVote::Freed),
            Reply::Release(ReleaseVote::NotHeld),
            Reply::Release(ReleaseVote::HeldByOther),
            Reply::Release(ReleaseVote::Newer { ballot }),
            Reply::Cancel { freed: true },
            Reply::Inspect(InspectVote::Free),
            Reply::Inspect(InspectVote::Held { lease: None, holder, members: [].into() }),
            Reply::Page(Page { keys: Vec::new(), next: None }),
        ]
    }

    #[test]
    fn every_answer_of_a_node_has_its_series_and_every_series_its_answer() {
        let abstentions = std::iter::successors(Some(Quarantined { left: Duration::ZERO }), after);
        let mut labels: Vec<_> = abstentions.map(|abstention| abstention.label()).chain(replies().iter().map(Vote::label)).collect();
        let mut votes = VOTES.to_vec();
        labels.sort_unstable();
        labels.dedup();
        votes.sort_unstable();
        assert_eq!(labels, votes);
    }
}
