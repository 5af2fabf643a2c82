//! The program: parse, start logging, dispatch.

use std::net::TcpListener;
use std::process::ExitCode;

use redlockd::app::{App, AppError, Shutdown};
use redlockd::cli::{self, Command};
use redlockd::config::Config;
use redlockd::{http, telemetry};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

// Leases are many small, short-lived allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse().map_err(|error| error.to_string()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redlockd: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Serve(config) => {
            telemetry::init(config.log);
            runtime(config.threads)?.block_on(serve(&config)).map_err(|error| error.to_string())
        }
        Command::Config(layered) => {
            print!("{layered}");
            Ok(())
        }
        Command::Openapi => {
            let document = http::openapi().to_pretty_json().map_err(|error| error.to_string())?;
            println!("{document}");
            Ok(())
        }
        Command::Healthcheck(_) | Command::Bench(_) => Err("not yet".into()),
    }
}

fn runtime(threads: Option<usize>) -> Result<Runtime, String> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().map_err(|error| format!("cannot start threads: {error}"))
}

async fn serve(config: &Config) -> Result<(), AppError> {
    let cannot_listen = |source| AppError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).map_err(cannot_listen)?;
    listener.set_nonblocking(true).map_err(cannot_listen)?;
    let signals = Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let app = App::build(config).await?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    if !address.ip().is_loopback() {
        tracing::warn!("listening beyond this machine without authentication: whoever reaches the port can take locks");
    }
    info!("listening on http://{address}, documentation at http://{address}/docs");
    app.run(listener, signals.first()).await
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
