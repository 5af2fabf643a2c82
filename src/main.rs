//! The program: parse, start logging, dispatch.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use redlockd::app::{self, App, AppError, Listeners, Shutdown};
use redlockd::auth::{self, BearerToken, Digest};
use redlockd::bench::{self, BenchOptions, Report};
use redlockd::cli::{self, BenchArgs, Command, ExecArgs, NewTokenArgs, TokenCommand};
use redlockd::config::{Config, Layered};
use redlockd::exec::{self, ExecOptions};
use redlockd::healthcheck::healthcheck;
use redlockd::metrics::Metrics;
use redlockd::redlock::Redlock;
use redlockd::telemetry::Traces;
use redlockd::{doctor, http, telemetry};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

// Leases are many small, short-lived allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse().map_err(|error| error.to_string()).and_then(run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("redlockd: {error}");
            ExitCode::from(cli::failure_code(1))
        }
    }
}

fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Doctor { config, json } => {
            let report = runtime(Some(1))?.block_on(doctor::examine(&config)).map_err(|error| error.to_string())?;
            say(&if json { report.to_json().map_err(|error| error.to_string())? } else { report.to_string() })?;
            return Ok(ExitCode::from(report.exit_code()));
        }
        Command::Serve(config) => {
            telemetry::init(config.log);
            let runtime = runtime(config.threads)?;
            let traces = Traces::from_environment(runtime.handle()).map_err(|error| error.to_string())?;
            let outcome = runtime.block_on(serve(&config));
            traces.into_iter().for_each(Traces::end);
            // A name that is being looked up can't be interrupted.
            runtime.shutdown_timeout(Duration::from_secs(1));
            outcome.map_err(|error| error.to_string())?;
        }
        Command::Config(layered) => {
            say(layered.to_string().trim_end())?;
        }
        Command::Openapi => {
            let document = http::openapi().to_pretty_json().map_err(|error| error.to_string())?;
            say(&document)?;
        }
        Command::Healthcheck { url, timeout } => runtime(Some(1))?.block_on(healthcheck(&url, timeout)).map_err(|error| error.to_string())?,
        Command::Exec(args) => {
            let ended = runtime(Some(1))?.block_on(exec::exec(exec_options(args)?)).map_err(|error| error.to_string())?;
            return Ok(ExitCode::from(ended.code()));
        }
        Command::Token(TokenCommand::New(args)) => say(&new_token(&args)?)?,
        Command::Bench(args) => {
            let report = runtime(None)?.block_on(measure(&args))?;
            say(&if args.json { report.to_json() } else { report.to_string() })?;
            return Ok(if report.is_usable() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints. Whoever reads the output may have read enough and closed it, which is no failure.
fn say(text: &str) -> Result<(), String> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}

/// A new token, which nobody keeps. What the gateway has to know of it is added to the file, or printed beside it.
fn new_token(args: &NewTokenArgs) -> Result<String, String> {
    let token = BearerToken::from_random([rand::rng().random(), rand::rng().random()]);
    let entry = auth::entry(&args.name, &Digest::of(token.reveal()), &args.allow);
    match &args.file {
        None => eprint!("{entry}"),
        Some(path) => auth::add_to_file(path, &entry).map_err(|error| error.to_string())?,
    }
    Ok(token.reveal().to_owned())
}

/// Checks what the arguments say of each other, and what only the system can tell.
fn exec_options(args: ExecArgs) -> Result<ExecOptions, String> {
    let ExecArgs { key, ttl, wait, owner, shared, min_hold, grace, servers, token_file, command } = args;
    if let Some(grace) = grace.filter(|grace| ttl / 2 < *grace) {
        let [grace, most] = [grace, ttl / 2].map(humantime::format_duration);
        return Err(format!("--grace: {grace} is more than {most}, half of the ttl: no time would be left to renew the lock"));
    }
    if let Some(min_hold) = min_hold.filter(|min_hold| ttl < *min_hold) {
        let [min_hold, ttl] = [min_hold, ttl].map(humantime::format_duration);
        return Err(format!("--min-hold: {min_hold} is more than the ttl, which is {ttl}"));
    }
    let token = match token_file {
        Some(path) => Some(std::fs::read_to_string(&path).map_err(|error| format!("token_file: {}: {error}", path.display()))?),
        None => std::env::var("REDLOCKD_TOKEN").ok(),
    };
    let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    Ok(ExecOptions { key, ttl, wait: wait.unwrap_or_default(), owner, shared, min_hold, grace, servers, token, command })
}

fn runtime(threads: Option<usize>) -> Result<Runtime, String> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().map_err(|error| format!("cannot start threads: {error}"))
}

async fn serve(config: &Config) -> Result<(), AppError> {
    allow_open_files(config);
    let listeners = Listeners { requests: listen(config.listen)?, metrics: config.metrics_listen.map(listen).transpose()? };
    let signals = Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let app = App::build(config).await?;
    let address = listeners.requests.local_addr()?;
    if !config.asks_who() && !address.ip().is_loopback() {
        tracing::warn!("listening beyond this machine without authentication: whoever reaches the port may do everything");
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    info!("listening on {scheme}://{address}, documentation at {scheme}://{address}/docs");
    if let Some(metrics) = &listeners.metrics {
        info!("metrics at http://{}/metrics", metrics.local_addr()?);
    }
    app.run(listeners, signals.first()).await
}

/// Asks for as many open files as the system gives: a connection is one, and the usual limit is a courtesy to programs that
/// are older than the larger ones.
fn allow_open_files(config: &Config) {
    /// Connections over the bound and those for metrics, listeners, files.
    const OTHERS: usize = 768;
    let max_connections = config.max_connections;
    let wanted = max_connections + config.nodes.len() * (config.node_concurrency as usize + 1) + OTHERS;
    let allowed = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|_| rlimit::Resource::NOFILE.get_soft().unwrap_or_default());
    if allowed < wanted as u64 {
        tracing::warn!(
            allowed,
            wanted,
            max_connections,
            "the process may open fewer files than max_connections needs: raise its limit (ulimit -n), or lower max_connections"
        );
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, AppError> {
    let listener = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|source| AppError::Listen { address, source })
}

async fn measure(args: &BenchArgs) -> Result<Report, String> {
    let options = BenchOptions { connections: args.connections as usize, duration: args.duration, shared: args.shared };
    if args.raw.is_empty() {
        let targets =
            bench::http_targets(&args.target, options.connections, args.wait.unwrap_or_default()).await.map_err(|error| error.to_string())?;
        return Ok(bench::run(targets, options).await);
    }
    let config = Config::check(&Layered::scratch(args.raw.clone())).map_err(|error| error.to_string())?;
    let metrics = Metrics::new().map_err(|error| error.to_string())?;
    let cluster = app::cluster(&config, Arc::new(metrics)).await.map_err(|error| error.to_string())?;
    if cluster.voting() < cluster.quorum().required() {
        return Err("too few of the nodes can vote; use fresh ones, since a node that was used under other settings is quarantined".into());
    }
    let targets = bench::raw_targets(&Redlock::new(cluster), config.default_ttl, options.connections);
    Ok(bench::run(targets, options).await)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The first signal drains, a second one ends the process at once.
    async fn first(mut self) -> Shutdown {
        let how = self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("told to stop a second time: ending at once; what is half done ends with its ttl");
            std::process::exit(1);
        });
        how
    }

    async fn next(&mut self) -> Shutdown {
        tokio::select! {
            _ = self.terminate.recv() => Shutdown::Gently,
            _ = self.interrupt.recv() => Shutdown::Promptly,
        }
    }
}
