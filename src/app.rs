//! The composition root: builds the service from its configuration, runs it, drains it.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use rand::RngExt;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::audit::Audit;
use crate::auth::{Guard, Issuer, Pace, RosterSource, SourceError};
use crate::config::Config;
use crate::diagnosis::Diagnosis;
use crate::http::{AppState, Draining, HttpSettings, RunsOn, Seldom, Shared, operations_router, router};
use crate::lease::Quorum;
use crate::metrics::Metrics;
use crate::node::redis::{Greeter, LastSeen, NodeAddress, RedisNode, RedisSettings};
use crate::node::{ClusterClock, EmbeddedError, EmbeddedNode, Fault, Node, NodeName};
use crate::redlock::{Cluster, ClusterSettings, Redlock};
use crate::server::{Entrance, FIRST_HEAD_TIMEOUT, Places, Tls, TlsError, server};

/// The service, ready to run.
pub struct App {
    state: AppState,
    entrance: Entrance,
    drain_delay: Duration,
    grace: Duration,
}

/// Why the service can't start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    #[error("there is no {path}, which a gateway without nodes makes when it starts; name the nodes, or its data_dir", path = .0.display())]
    NoData(PathBuf),
    #[error("cannot use node {name}: {fault}")]
    Node { name: NodeName, fault: Fault },
    #[error("cannot use the tokens: {0}")]
    Tokens(#[from] SourceError),
    #[error("cannot use the certificates: {0}")]
    Tls(#[from] TlsError),
    #[error("cannot make the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("the server failed: {0}")]
    Server(#[from] std::io::Error),
}

/// How the service is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Let balancers notice first.
    Gently,
    /// Somebody waits at a terminal.
    Promptly,
}

/// Where the service listens.
pub struct Listeners {
    pub requests: TcpListener,
    /// For metrics and probes only.
    pub metrics: Option<TcpListener>,
}

/// Room for connections to the address for metrics: scrapers and kubelets are few, but whoever crowds them out has the
/// gateway restarted.
const MAX_METRICS_CONNECTIONS: usize = 512;
/// They ask as soon as they are connected.
const METRICS_FIRST_HEAD: Duration = Duration::from_secs(1);

impl App {
    /// Opens or connects the nodes. Returns when each has answered or failed once.
    pub async fn build(config: &Config) -> Result<Self, AppError> {
        let metrics = Arc::new(Metrics::new()?);
        let cluster = cluster(config, Arc::clone(&metrics)).await?;
        let state = AppState::from(Shared {
            redlock: Redlock::new(cluster),
            settings: HttpSettings {
                ttl_bounds: config.ttl_bounds,
                default_ttl: config.default_ttl,
                max_wait: config.max_wait,
                max_requests: config.max_requests,
            },
            draining: Draining::default(),
            guard: guard(config, &metrics).await?,
            pace: Pace::new(config.rate_limit),
            tells_refusals: Seldom::default(),
            audit: if config.audit { Audit::to_stdout(metrics.audit_dropped.clone())? } else { Audit::off() },
            metrics,
            diagnosis: Arc::new(diagnosis(config)),
            runs_on: if config.nodes.is_empty() { RunsOn::EmbeddedNode } else { RunsOn::RedisNodes },
        });
        let entrance = Entrance::new(
            places(config.max_connections, &state.metrics),
            tls(config, &state.metrics)?,
            FIRST_HEAD_TIMEOUT,
            Arc::clone(&state.metrics),
        );
        Ok(Self { state, entrance, drain_delay: config.drain_delay, grace: config.grace })
    }

    pub fn router(&self) -> axum::Router {
        router(self.state.clone())
    }

    pub fn redlock(&self) -> &Redlock {
        &self.state.redlock
    }

    /// The switch that [`App::run`] turns when it is told to stop.
    pub fn draining(&self) -> &Draining {
        &self.state.draining
    }

    /// Serves until `shutdown`, then drains: no new locks, running requests finish, what is half done is undone.
    pub async fn run(self, listeners: Listeners, shutdown: impl Future<Output = Shutdown> + Send + 'static) -> Result<(), AppError> {
        let handle = Handle::new();
        let server = server(listeners.requests, self.entrance)?.handle(handle.clone());
        // It goes on until the process ends, so that the draining can be watched.
        if let Some(listener) = listeners.metrics {
            tokio::spawn(server_of_metrics(listener, self.state.clone())?);
        }
        let (draining, redlock) = (self.state.draining.clone(), self.state.redlock.clone());
        let (drain_delay, grace) = (self.drain_delay, self.grace);
        tokio::spawn(async move {
            let delay = match shutdown.await {
                Shutdown::Gently => drain_delay,
                Shutdown::Promptly => Duration::ZERO,
            };
            info!("shutting down: no new locks; holders may still extend and release");
            draining.begin();
            redlock.cluster().waiters().close();
            tokio::time::sleep(delay).await;
            handle.graceful_shutdown(Some(grace));
        });
        server.serve(router(self.state.clone()).into_make_service()).await?;
        if timeout(grace, self.state.redlock.cluster().settled()).await.is_err() {
            warn!("some nodes could not be told to undo; what they hold ends with its ttl");
        }
        self.state.audit.flush();
        info!("stopped");
        Ok(())
    }
}

fn server_of_metrics(listener: TcpListener, state: AppState) -> std::io::Result<impl Future<Output = ()> + Send> {
    let places = places(MAX_METRICS_CONNECTIONS, &state.metrics);
    let server = server(listener, Entrance::new(places, None, METRICS_FIRST_HEAD, Arc::clone(&state.metrics)))?;
    Ok(async move {
        if let Err(error) = server.serve(operations_router(state).into_make_service()).await {
            warn!("metrics are not served any more: {error}");
        }
    })
}

fn places(max: usize, metrics: &Metrics) -> Places {
    Places::new(max, metrics.connections.clone())
}

/// Lets in whom the configuration names, and follows its changes.
async fn guard(config: &Config, metrics: &Metrics) -> Result<Guard, SourceError> {
    if config.tokens.is_none() && config.jwt.is_none() {
        let wants_certificates = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        return Ok(if wants_certificates { Guard::OpenToCertificates } else { Guard::Open });
    }
    let issuer = config.jwt.as_ref().map(|jwt| Arc::new(Issuer::new(jwt.rules.clone())));
    if let (Some(jwt), Some(issuer)) = (&config.jwt, &issuer) {
        jwt.keys.begin(issuer, &metrics.jwks_stale).await;
        tokio::spawn(jwt.keys.clone().follow(Arc::clone(issuer), metrics.jwks_stale.clone()));
    }
    let roster = config.tokens.as_ref().map(RosterSource::read).transpose()?.unwrap_or_default();
    let guard = Guard::with(roster, issuer);
    if let Some(source) = &config.tokens {
        tokio::spawn(source.clone().follow(guard.clone(), metrics.roster_stale.clone()));
    }
    Ok(guard)
}

/// The certificates that the configuration names, followed as they change.
fn tls(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Tls>, TlsError> {
    let Some(files) = &config.tls else { return Ok(None) };
    let tls = files.read()?;
    tokio::spawn(files.clone().follow(tls.clone(), Arc::clone(metrics)));
    Ok(Some(tls))
}

/// The cluster of a configuration: Redis nodes, or the embedded one.
pub async fn cluster(config: &Config, metrics: Arc<Metrics>) -> Result<Arc<Cluster>, AppError> {
    let clock = Arc::new(ClusterClock::new(Quorum::of(config.nodes.len().max(1))));
    let nodes = if config.nodes.is_empty() { embedded(config, &clock)? } else { redis_nodes(config, &clock)? };
    announce(config);
    let settings = ClusterSettings {
        window: config.agreement.window,
        clock_jump_margin: config.clock_jump_margin,
        node_timeout: node_timeout(config),
        max_ttl: config.agreement.max_ttl,
        in_flight: config.node_concurrency,
        bootstrap: config.bootstrap,
        wait_bounds: config.wait_bounds,
    };
    Ok(Cluster::start(nodes, clock, settings, metrics).await)
}

/// The longest that a call to a node may take, and that of the embedded one to its disk.
fn node_timeout(config: &Config) -> Duration {
    if config.nodes.is_empty() { config.node_timeout.max(DISK_TIMEOUT) } else { config.node_timeout }
}

/// What a disk is given to write down a batch. A busy one needs more than a server in memory does, and there is no other to ask.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);

/// What the rules of a diagnosis need of the configuration of a gateway that runs.
pub fn diagnosis(config: &Config) -> Diagnosis {
    let hosts = config.nodes.iter().map(NodeAddress::host).collect();
    let bootstrap_left_on = config.bootstrap && !config.nodes.is_empty();
    Diagnosis {
        window: config.agreement.window,
        node_timeout: node_timeout(config),
        bootstrap_left_on,
        trusts_persistence: config.trust_persistence,
        hosts,
    }
}

pub type NamedNodes = Vec<(NodeName, Arc<dyn Node>)>;

fn embedded(config: &Config, clock: &Arc<ClusterClock>) -> Result<NamedNodes, AppError> {
    let run_id = format!("{:032x}", rand::rng().random::<u128>());
    let node = EmbeddedNode::open(&config.data_dir, config.agreement, run_id, Arc::clone(clock))?;
    Ok(vec![(EmbeddedNode::name(), Arc::new(node))])
}

/// Says what the gateway runs on, and what to do for more.
fn announce(config: &Config) {
    let quorum = Quorum::of(config.nodes.len().max(1));
    if config.nodes.is_empty() {
        info!(data_dir = %config.data_dir.display(), "running on one embedded node: locks survive a restart, but not the loss of this machine");
        info!("for a quorum, start three or five Redis servers and name each: --node redis://HOST:PORT --node … (add --bootstrap the first time)");
        return;
    }
    info!(nodes = quorum.nodes(), required = quorum.required(), "running on a quorum of Redis nodes");
    if quorum.nodes().is_multiple_of(2) {
        warn!(nodes = quorum.nodes(), "an even number of nodes survives no more failures than one less; use an odd one");
    }
}

/// The nodes that a configuration names. Connects to none.
pub fn redis_nodes(config: &Config, clock: &Arc<ClusterClock>) -> Result<NamedNodes, AppError> {
    let node = |(index, address): (usize, &NodeAddress)| {
        let name = address.name().clone();
        let (address, clock) = (address.clone(), Arc::clone(clock));
        let (trusts_persistence, last) = (config.trust_persistence, LastSeen::default());
        let greeter = Greeter { index, address, agreement: config.agreement, clock, trusts_persistence, last };
        let settings = RedisSettings { greeter, lock_prefix: config.lock_prefix.clone(), pool_size: config.node_concurrency };
        match RedisNode::new(settings) {
            Ok(node) => Ok((name, Arc::new(node) as Arc<dyn Node>)),
            Err(fault) => Err(AppError::Node { name, fault }),
        }
    };
    config.nodes.iter().enumerate().map(node).collect()
}
