//! Every series that the gateway publishes, in one place. No lock, owner or lease is ever a label.

use prometheus::core::Collector;
use prometheus::{Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::lease::Quorum;
use crate::node::{Connections, NodeState, NodeStatus};

/// Seconds, from a call on loopback to a request that met every timeout there is.
const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Seconds that a lease is held: from a critical section in memory to a batch job.
const HOLD_SECONDS: &[f64] = &[0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0];
/// How a command can be answered: the labels of `redlockd_node_votes_total`, made in advance so that a vote costs one addition.
const VOTES: &[&str] = &[
    "accepted",
    "mine",
    "busy",
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

/// The gateway's own series and the registry that holds all of them.
pub struct Metrics {
    registry: Registry,
    /// HTTP requests by route, method and status.
    pub http_requests: IntCounterVec,
    /// HTTP request durations by route and method.
    pub http_seconds: HistogramVec,
    pub http_in_flight: IntGauge,
    /// Operations on locks by kind (acquire, extend, release, inspect) and outcome.
    pub operations: IntCounterVec,
    /// Open connections.
    pub connections: IntGauge,
    /// Bounds that were reached, by which.
    limits_hit: IntCounterVec,
    /// TLS handshakes that failed, by reason.
    pub tls_refusals: IntCounterVec,
    /// Events that the audit log had no room for.
    pub audit_dropped: IntCounter,
    /// 1 while the certificates can't be used and older ones are in force.
    pub tls_stale: IntGauge,
    /// 1 while the file with the tokens can't be read and an older one is in force.
    pub roster_stale: IntGauge,
    /// 1 while the issuer's keys can't be had and older ones, or none, are in force.
    pub jwks_stale: IntGauge,
    /// Requests that were not let in, by reason.
    auth_refusals: IntCounterVec,
    /// From the grant of a lease to its release, both by this gateway.
    pub hold_seconds: Histogram,
    pub leases_held: IntGauge,
    pub leases_run_out: IntCounter,
    pub rounds: IntCounter,
    pub second_rounds: IntCounter,
    pub widened: IntCounter,
    pub copies_spared: IntCounter,
    pub copies_refused: IntCounter,
    pub undo_waiting: IntGauge,
    pub undo_dropped: IntCounter,
    findings: IntGaugeVec,
    nodes: IntGauge,
    nodes_required: IntGauge,
    nodes_voting: IntGauge,
    node_votes: IntCounterVec,
    node_faults: IntCounterVec,
    node_up: IntGaugeVec,
    node_quarantined: IntGaugeVec,
    node_round_trip: prometheus::GaugeVec,
    node_clock_offset: prometheus::GaugeVec,
    node_connections: IntGaugeVec,
    batch_seconds: HistogramVec,
    batch_commands: HistogramVec,
}

/// The series of one node.
pub struct NodeMetrics {
    votes: Vec<(&'static str, IntCounter)>,
    pub faults: IntCounter,
    pub up: IntGauge,
    pub quarantined: IntGauge,
    pub round_trip: prometheus::Gauge,
    pub clock_offset: prometheus::Gauge,
    idle_connections: IntGauge,
    busy_connections: IntGauge,
    pub batch_seconds: Histogram,
    pub batch_commands: Histogram,
}

impl Metrics {
    /// Registers everything. Fails only if two series here had one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            http_requests: keep(
                &registry,
                IntCounterVec::new(
                    Opts::new("redlockd_http_requests_total", "HTTP requests answered, by route, method and status."),
                    &["route", "method", "status"],
                ),
            )?,
            http_seconds: keep(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new(
                        "redlockd_http_request_duration_seconds",
                        "Time from the head of a request to the head of its answer, by route and method.",
                    )
                    .buckets(SECONDS.to_vec()),
                    &["route", "method"],
                ),
            )?,
            http_in_flight: keep(
                &registry,
                IntGauge::new("redlockd_http_requests_in_flight", "HTTP requests that are being worked on, probes and metrics aside."),
            )?,
            operations: keep(
                &registry,
                IntCounterVec::new(Opts::new("redlockd_operations_total", "Operations on locks, by kind and outcome."), &["operation", "outcome"]),
            )?,
            connections: keep(&registry, IntGauge::new("redlockd_connections", "Open connections, those for metrics among them."))?,
            limits_hit: keep(
                &registry,
                IntCounterVec::new(Opts::new("redlockd_limits_hit_total", "Requests and connections over a bound, by which."), &["limit"]),
            )?,
            tls_refusals: keep(
                &registry,
                IntCounterVec::new(Opts::new("redlockd_tls_refusals_total", "TLS handshakes that failed, by reason."), &["reason"]),
            )?,
            audit_dropped: keep(
                &registry,
                IntCounter::new("redlockd_audit_dropped_total", "Events that the audit log lost, because whoever reads it is too slow or gone."),
            )?,
            tls_stale: keep(
                &registry,
                IntGauge::new("redlockd_tls_stale", "Whether the certificates can't be used, so that those before are in force."),
            )?,
            roster_stale: keep(
                &registry,
                IntGauge::new("redlockd_roster_stale", "Whether the file with the tokens can't be read, so that what it said before is in force."),
            )?,
            jwks_stale: keep(
                &registry,
                IntGauge::new("redlockd_jwks_stale", "Whether the keys of the issuer of tokens can't be had, so that those before are in force."),
            )?,
            auth_refusals: keep(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "redlockd_auth_refusals_total",
                        "Requests without a credential, with an unknown one, or with one that does not allow it.",
                    ),
                    &["reason"],
                ),
            )?,
            hold_seconds: keep(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "redlockd_lease_hold_duration_seconds",
                        "Time from the grant of a lease to its release, both by this gateway.",
                    )
                    .buckets(HOLD_SECONDS.to_vec()),
                ),
            )?,
            leases_held: keep(
                &registry,
                IntGauge::new("redlockd_leases_held", "Leases that this gateway granted and that are neither released by it nor over."),
            )?,
            leases_run_out: keep(
                &registry,
                IntCounter::new("redlockd_leases_run_out_total", "Leases that this gateway granted and did not release before they were over."),
            )?,
            rounds: keep(&registry, IntCounter::new("redlockd_acquire_rounds_total", "Rounds of votes on acquires."))?,
            widened: keep(
                &registry,
                IntCounter::new(
                    "redlockd_acquire_widened_total",
                    "Acquires for which the majority that was asked first was not enough, or not quick enough.",
                ),
            )?,
            copies_spared: keep(
                &registry,
                IntCounter::new("redlockd_copies_spared_total", "Leases that were given back before the rest of the nodes had a copy of them."),
            )?,
            copies_refused: keep(
                &registry,
                IntCounter::new("redlockd_copies_refused_total", "Nodes that did not take a lease that a majority had granted."),
            )?,
            second_rounds: keep(
                &registry,
                IntCounter::new(
                    "redlockd_acquire_second_rounds_total",
                    "Rounds after the first of an acquire: ballots that came too low or were split.",
                ),
            )?,
            undo_waiting: keep(&registry, IntGauge::new("redlockd_undo_waiting", "Cancels and releases that wait for a node to be reached."))?,
            undo_dropped: keep(
                &registry,
                IntCounter::new(
                    "redlockd_undo_dropped_total",
                    "Cancels and releases given up because the queue was full; the leases end with their ttl.",
                ),
            )?,
            findings: keep(
                &registry,
                IntGaugeVec::new(
                    Opts::new("redlockd_findings", "What is weak or unsafe about the nodes, by severity and code; GET /nodes says what."),
                    &["severity", "code"],
                ),
            )?,
            nodes: keep(&registry, IntGauge::new("redlockd_nodes", "Nodes of the cluster."))?,
            nodes_required: keep(&registry, IntGauge::new("redlockd_nodes_required", "How many nodes make a majority."))?,
            nodes_voting: keep(&registry, IntGauge::new("redlockd_nodes_voting", "Nodes that vote now, as this gateway sees them."))?,
            node_votes: keep(
                &registry,
                IntCounterVec::new(Opts::new("redlockd_node_votes_total", "Answers of a node to commands, by kind."), &["node", "vote"]),
            )?,
            node_faults: keep(
                &registry,
                IntCounterVec::new(Opts::new("redlockd_node_faults_total", "Calls to a node that were not answered."), &["node"]),
            )?,
            node_up: keep(
                &registry,
                IntGaugeVec::new(Opts::new("redlockd_node_up", "Whether the node is reachable and fit to be used, quarantined or not."), &["node"]),
            )?,
            node_quarantined: keep(
                &registry,
                IntGaugeVec::new(Opts::new("redlockd_node_quarantined", "Whether the node may have forgotten and does not vote yet."), &["node"]),
            )?,
            node_round_trip: keep(
                &registry,
                prometheus::GaugeVec::new(Opts::new("redlockd_node_latency_seconds", "Round trip of the last probe of the node."), &["node"]),
            )?,
            node_clock_offset: keep(
                &registry,
                prometheus::GaugeVec::new(
                    Opts::new("redlockd_node_clock_offset_seconds", "How far the node's clock is ahead of the median of all nodes."),
                    &["node"],
                ),
            )?,
            node_connections: keep(
                &registry,
                IntGaugeVec::new(
                    Opts::new("redlockd_node_connections", "Connections to the node for votes, by whether one is in use."),
                    &["node", "state"],
                ),
            )?,
            batch_seconds: keep(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("redlockd_node_batch_duration_seconds", "Time from sending a batch to a node to its answer.")
                        .buckets(SECONDS.to_vec()),
                    &["node"],
                ),
            )?,
            batch_commands: keep(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("redlockd_node_batch_commands", "Commands in a batch.").buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]),
                    &["node"],
                ),
            )?,
            registry,
        };
        let build = IntGaugeVec::new(Opts::new("redlockd_build_info", "Constant 1; the version is in the label."), &["version"]);
        keep(&metrics.registry, build)?.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// A bound was reached. `limit` is one of a few words.
    pub fn limit_hit(&self, limit: &'static str) {
        self.limits_hit.with_label_values(&[limit]).inc();
    }

    /// A request was not let in. `reason` is one of a few words.
    pub fn auth_refused(&self, reason: &'static str) {
        self.auth_refusals.with_label_values(&[reason]).inc();
    }

    /// How far the cluster is from losing its majority.
    pub fn show_quorum(&self, voting: usize, quorum: Quorum) {
        self.nodes.set(quorum.nodes() as i64);
        self.nodes_required.set(quorum.required() as i64);
        self.nodes_voting.set(voting as i64);
    }

    /// The series of the node `name`.
    pub fn node(&self, name: &str) -> NodeMetrics {
        NodeMetrics {
            votes: VOTES.iter().map(|vote| (*vote, self.node_votes.with_label_values(&[name, vote]))).collect(),
            faults: self.node_faults.with_label_values(&[name]),
            up: self.node_up.with_label_values(&[name]),
            quarantined: self.node_quarantined.with_label_values(&[name]),
            round_trip: self.node_round_trip.with_label_values(&[name]),
            clock_offset: self.node_clock_offset.with_label_values(&[name]),
            idle_connections: self.node_connections.with_label_values(&[name, "idle"]),
            busy_connections: self.node_connections.with_label_values(&[name, "busy"]),
            batch_seconds: self.batch_seconds.with_label_values(&[name]),
            batch_commands: self.batch_commands.with_label_values(&[name]),
        }
    }

    /// Publishes what was found, as severities and codes.
    pub fn show_findings<'a>(&self, findings: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.findings.reset();
        findings.into_iter().for_each(|(severity, code)| self.findings.with_label_values(&[severity, code]).inc());
    }

    /// All series in Prometheus' text format.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
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

fn keep<C: Collector + Clone + 'static>(registry: &Registry, series: Result<C, prometheus::Error>) -> Result<C, prometheus::Error> {
    let series = series?;
    registry.register(Box::new(series.clone()))?;
    Ok(series)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lease::Abstention::{self, ClockBack, Epoch, Failed, Overloaded, Quarantined, Refused, Silent, Unreachable};
    use crate::lease::{AcquireVote, Ballot, ExtendVote, Holder, InspectVote, ReleaseVote, Vote};
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
        let holder = Holder { ballot: None, owner: None, left: None };
        vec![
            Reply::Acquire(AcquireVote::Accepted),
            Reply::Acquire(AcquireVote::Mine { ballot, left }),
            Reply::Acquire(AcquireVote::Busy(holder.clone())),
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
            Reply::Inspect(InspectVote::Held { lease: None, holder }),
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
