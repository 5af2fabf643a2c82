//! Runs a command while a lock is held, and never longer: `redlockd exec`.
//!
//! The lease is renewed while the command runs. If that fails for too long the command is told to end (TERM) and then
//! ended (KILL) before the lease's validity is over, so that it is gone when somebody else gets the lock.

mod command;
mod gateway;
mod timing;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::pin::pin;
use std::time::Duration;

use command::{Running, Signals};
pub use gateway::ServerError;
use gateway::{Failure, Gateway, Lease};
use timing::Timing;
use tokio::time::{Instant, sleep_until, timeout};

use crate::lease::{LeaseId, LockKey, OwnerLabel};

/// What to run, and under which lock.
pub struct ExecOptions {
    pub key: LockKey,
    pub ttl: Duration,
    /// How long to wait for the lock; zero to try once.
    pub wait: Duration,
    pub owner: Option<OwnerLabel>,
    /// Others may hold the lock in the same way meanwhile.
    pub shared: bool,
    /// How long the lock is nobody else's although the command has ended.
    pub min_hold: Option<Duration>,
    /// How long the command may take to end when it is told to because the lock is about to be lost.
    pub grace: Option<Duration>,
    /// Gateways, one of which is asked; the next one when it does not answer.
    pub servers: Vec<String>,
    /// What the gateway knows the caller by.
    pub token: Option<String>,
    pub command: Vec<OsString>,
}

/// What the caller's own environment may hold for this.
pub const OWN_VARIABLES: [&str; 2] = ["REDLOCKD_SERVER", "REDLOCKD_TOKEN"];

/// What a command finds in its environment.
pub const VARIABLES: [&str; 3] = ["REDLOCKD_KEY", "REDLOCKD_LEASE_ID", "REDLOCKD_FENCING_TOKEN"];

/// How it ended. Codes of the command itself are passed through; these are beyond those that commands usually have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command ended, with this code; 128 + n by signal n.
    Command(u8),
    /// The lock was lost, and the command was ended.
    Lost,
    /// Somebody else has the lock.
    Contended,
    /// Too few nodes vote, or no gateway answers.
    Unavailable,
    /// The gateway refused what was asked of it, or something here did not work.
    Refused,
    /// The command can't be executed.
    NotExecutable,
    /// There is no such command.
    NotFound,
}

impl Ended {
    /// The exit code. Those from 125 on are the ones of env, nice and timeout.
    pub fn code(self) -> u8 {
        match self {
            Self::Command(code) => code,
            Self::Lost => 120,
            Self::Contended => 121,
            Self::Unavailable => 122,
            Self::Refused => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

/// How long a release may take at the end: the lease would end by itself.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// Gets the lock, runs the command, lets the lock go. What goes wrong is told on standard error.
pub async fn exec(options: ExecOptions) -> Result<Ended, ServerError> {
    let mut gateway = Gateway::new(&options, LeaseId::from_random(rand::random()))?;
    let mut signals = Signals::listen()?;
    let acquired = tokio::select! {
        acquired = gateway.acquire(options.wait) => acquired,
        // What was asked for may have been granted meanwhile.
        signal = signals.next() => {
            release(&mut gateway, None).await;
            return Ok(Ended::Command(128 + signal.as_raw() as u8));
        }
    };
    let key = options.key.as_str();
    match acquired {
        Ok(lease) => {
            let ended = under(lease, &mut gateway, &mut signals, &options).await;
            // What is lost is over by itself.
            if ended != Ended::Lost && !release(&mut gateway, Some(lease.fencing_token)).await {
                tell(key, "no gateway took the release; the lease ends by itself");
            }
            Ok(ended)
        }
        Err(failure) => {
            tell(key, failure.to_string());
            if failure.may_be_held() {
                release(&mut gateway, None).await;
            }
            Ok(failure.ended())
        }
    }
}

/// On standard error, if anybody reads that.
fn tell(key: &str, what: impl Display) {
    let _ = writeln!(std::io::stderr(), "redlockd: {key}: {what}");
}

/// Whether it was answered in time.
async fn release(gateway: &mut Gateway, fencing_token: Option<u64>) -> bool {
    timeout(RELEASE_TIMEOUT, gateway.release(fencing_token)).await.is_ok()
}

/// Runs the command, which is gone when this returns.
async fn under(lease: Lease, gateway: &mut Gateway, signals: &mut Signals, options: &ExecOptions) -> Ended {
    let timing = Timing::new(options.ttl, options.grace);
    if timing.of(&lease).ends_at <= Instant::now() {
        tell(options.key.as_str(), "the answer came when the lease was nearly over");
        return Ended::Unavailable;
    }
    let values = gateway.environment(&options.key, lease.fencing_token);
    match Running::start(&options.command, VARIABLES.iter().zip(&values)) {
        Ok(running) => hold(gateway, lease, timing, running, signals, &options.key).await,
        Err(error) => {
            tell(options.key.as_str(), format!("cannot run {}: {error}", options.command[0].display()));
            if error.kind() == ErrorKind::NotFound { Ended::NotFound } else { Ended::NotExecutable }
        }
    }
}

/// Until the command has ended, by itself or because the lock is lost.
async fn hold(gateway: &mut Gateway, mut lease: Lease, timing: Timing, mut running: Running, signals: &mut Signals, key: &LockKey) -> Ended {
    let mut renew_at = timing.of(&lease).renew_at;
    let mut why = "it could not be renewed in time".to_owned();
    let mut passing_on = pin!(running.pass_on(signals));
    loop {
        let renewal = async {
            sleep_until(renew_at).await;
            gateway.extend().await
        };
        tokio::select! {
            biased;
            () = sleep_until(timing.of(&lease).ends_at) => break,
            code = running.wait() => return Ended::Command(code),
            () = &mut passing_on => {}
            renewed = renewal => match renewed {
                Ok(renewed) => {
                    lease.prolong(renewed);
                    renew_at = timing.of(&lease).renew_at;
                }
                Err(failure @ Failure::Gone(_)) => {
                    why = failure.to_string();
                    break;
                }
                Err(failure) => {
                    why = format!("it could not be renewed in time: {failure}");
                    renew_at = Instant::now() + timing.retry;
                }
            },
        }
    }
    // First of all: nobody may read what is told, or not take it.
    running.end(timing.of(&lease).kill_at.min(Instant::now() + timing.grace)).await;
    tell(key.as_str(), format!("the lock is lost, and the command was ended: {why}"));
    Ended::Lost
}
