//! Every series that the gateway publishes, in one place. No lock, owner or lease is ever a label.

mod node;

use prometheus::core::Collector;
use prometheus::{Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

pub use node::NodeMetrics;
use node::NodeSeries;

use crate::lease::Quorum;

/// Seconds, from a call on loopback to a request that met every timeout there is.
const SECONDS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
/// Seconds that a lease is held: from a critical section in memory to a batch job.
const HOLD_SECONDS: &[f64] = &[0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0];
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
    /// When the gateway's certificate is over, in seconds since 1970; 0 where it has none.
    pub tls_expires: IntGauge,
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
    /// Time that was waited for a lock, by how it ended.
    pub wait_seconds: HistogramVec,
    /// Those who wait for a lock.
    pub waiting: IntGauge,
    /// Connections that hold a lock.
    pub holders: IntGauge,
    /// Hints to other gateways about locks that are awaited or watched.
    pub words_said: IntCounter,
    /// Hints from other gateways, each once.
    pub words_heard: IntCounter,
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
    per_node: NodeSeries,
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
            tls_expires: keep(
                &registry,
                IntGauge::new(
                    "redlockd_tls_certificate_expiry_timestamp_seconds",
                    "When the certificate in force is over, in seconds since 1970; 0 without TLS.",
                ),
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
            wait_seconds: keep(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("redlockd_wait_duration_seconds", "Time that was waited for a lock, by how it ended.")
                        .buckets(HOLD_SECONDS.to_vec()),
                    &["outcome"],
                ),
            )?,
            waiting: keep(&registry, IntGauge::new("redlockd_waiters", "Requests that wait for a lock."))?,
            holders: keep(&registry, IntGauge::new("redlockd_holders", "Connections that hold a lock for as long as they live."))?,
            words_said: keep(
                &registry,
                IntCounter::new(
                    "redlockd_words_said_total",
                    "Hints to other gateways: a lock is awaited or watched here, or something happened to one of theirs.",
                ),
            )?,
            words_heard: keep(&registry, IntCounter::new("redlockd_words_heard_total", "Hints from other gateways."))?,
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
            per_node: NodeSeries::new(&registry)?,
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
        self.per_node.of(name)
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

fn keep<C: Collector + Clone + 'static>(registry: &Registry, series: Result<C, prometheus::Error>) -> Result<C, prometheus::Error> {
    let series = series?;
    registry.register(Box::new(series.clone()))?;
    Ok(series)
}
