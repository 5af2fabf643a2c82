//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::auth::Grant;
use crate::config::{Config, ConfigError, Layered, Settings, unknown_variable};
use crate::lease::{LockKey, OwnerLabel};
use crate::{exec, healthcheck};

/// Distributed locks over HTTP, with fencing tokens, on a quorum of Redis or Valkey nodes.
///
/// Without a command redlockd serves; without nodes it runs on one embedded, durable node.
#[derive(Parser)]
#[command(name = "redlockd", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<CliCommand>,
    #[command(flatten)]
    serve: ServeArgs,
}

const AFTER_HELP: &str = "Try it:
  redlockd &
  curl -X POST http://127.0.0.1:8080/locks/demo

A quorum:
  redlockd --node redis://a:6379 --node redis://b:6379 --node redis://c:6379 --bootstrap";

#[derive(Subcommand)]
enum CliCommand {
    /// Serve locks over HTTP (the default)
    Serve(ServeArgs),
    /// Print the configuration that is in force, without passwords
    Config(ServeArgs),
    /// Print the OpenAPI document
    Openapi,
    /// Ask a running gateway whether it is ready; exit code 0 if it is
    Healthcheck(HealthcheckArgs),
    /// Examine the nodes without changing anything; exit code 0 clean, 1 warnings, 2 unsafe, 3 not examined
    Doctor(DoctorArgs),
    /// Make a token for somebody who is to use the gateway
    #[command(subcommand)]
    Token(TokenCommand),
    /// Run a command while a lock is held, and never longer
    #[command(after_help = EXEC_HELP)]
    Exec(ExecArgs),
    /// Measure a gateway, or the nodes themselves
    Bench(BenchArgs),
}

const EXEC_HELP: &str = "Exit codes: that of the command, 128 + n if signal n ended it;
  120  the lock was lost, and the command was ended
  121  somebody else has the lock
  122  too few nodes vote, or no gateway answers
  125  the gateway refused the request, or redlockd itself failed
  126  the command can't be executed
  127  there is no such command

The command finds REDLOCKD_KEY, REDLOCKD_LEASE_ID and REDLOCKD_FENCING_TOKEN in its environment.";

#[derive(Args)]
pub struct ExecArgs {
    /// The lock
    #[arg(long, value_name = "KEY", value_parser = |text: &str| LockKey::new(text))]
    pub key: LockKey,
    /// How long the lock outlives this process, should it die; renewed after a third of it
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = some_time)]
    pub ttl: Duration,
    /// How long to wait for the lock, rather than to try once; a gateway that hangs may add two seconds
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub wait: Option<Duration>,
    /// What others are shown as the holder
    #[arg(long, value_name = "LABEL", value_parser = |text: &str| OwnerLabel::new(text))]
    pub owner: Option<OwnerLabel>,
    /// Let others hold the lock at the same time who share it as well
    #[arg(long)]
    pub shared: bool,
    /// Keep the lock from others for so long although the command ends sooner, at most the ttl: what runs at one time on
    /// several machines, whose clocks differ, runs once
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub min_hold: Option<Duration>,
    /// How long the command may take to end when the lock is about to be lost, at most half of the ttl [default: a sixth of the ttl, at most 5s]
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    pub grace: Option<Duration>,
    /// A gateway; repeatable, for others that are asked when it does not answer
    #[arg(long = "server", env = "REDLOCKD_SERVER", default_value = "http://127.0.0.1:8080", value_delimiter = ',', value_name = "URL")]
    pub servers: Vec<String>,
    /// A file with the bearer token, which else is taken from REDLOCKD_TOKEN if that is set
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What to run, with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Args)]
struct ServeArgs {
    /// A TOML file with settings
    #[arg(long, env = "REDLOCKD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args)]
struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Args)]
struct HealthcheckArgs {
    /// What to ask [default: /readyz at the address of `metrics_listen`, or of `listen`]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How long to wait for the answer
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = some_time)]
    timeout: Duration,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Print a new token; what the gateway keeps of it goes into a file, or to standard error
    New(NewTokenArgs),
}

#[derive(Args)]
pub struct NewTokenArgs {
    /// Whose it is: the owner that others are shown, and the name in the log
    #[arg(long, value_name = "NAME", value_parser = |text: &str| OwnerLabel::new(text))]
    pub name: OwnerLabel,
    /// ACTIONS:PREFIX, such as acquire,extend,release:orders/, or *: for all that one does with locks, or admin; repeatable
    #[arg(long, value_name = "GRANT", required = true, value_parser = |text: &str| text.parse::<Grant>().map(|_| text.to_owned()))]
    pub allow: Vec<String>,
    /// The tokens_file to add it to; it is made if it is not there
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[derive(Args)]
pub struct BenchArgs {
    /// The gateway to load
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL", conflicts_with = "raw")]
    pub target: String,
    /// Measure the quorum engine straight on these nodes, without HTTP: the floor under every gateway
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub raw: Vec<String>,
    /// Closed loops that acquire and release at the same time
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub connections: u64,
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = some_time)]
    pub duration: Duration,
    /// All loops contend for one lock instead of one each
    #[arg(long)]
    pub shared: bool,
    /// How long an acquire waits for the lock, rather than to try once
    #[arg(long, value_name = "DURATION", value_parser = some_time, conflicts_with = "raw")]
    pub wait: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A duration in which something can happen.
fn some_time(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|_| "write a number and a unit, such as 500ms, 30s or 5m".to_owned())?;
    if duration.is_zero() { Err("it must be longer than 0".into()) } else { Ok(duration) }
}

/// What the program was told to do.
pub enum Command {
    Serve(Config),
    Config(Layered),
    Openapi,
    Healthcheck { url: String, timeout: Duration },
    Doctor { config: Config, json: bool },
    Token(TokenCommand),
    Bench(BenchArgs),
    Exec(ExecArgs),
}

/// Reads the command line, the environment and the file. Help and mistakes of usage end the process here, as clap does.
pub fn parse() -> Result<Command, ConfigError> {
    let matches = Cli::command().try_get_matches().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { failure_code(2).into() } else { 0 })
    });
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let sub = matches.subcommand().map(|(_, sub)| sub);
    match cli.command {
        None => checked(&cli.serve, &matches).map(Command::Serve),
        Some(CliCommand::Serve(args)) => checked(&args, sub.unwrap_or(&matches)).map(Command::Serve),
        Some(CliCommand::Doctor(args)) => checked(&args.serve, sub.unwrap_or(&matches)).map(|config| Command::Doctor { config, json: args.json }),
        Some(CliCommand::Config(args)) => {
            let layered = layered(&args, sub.unwrap_or(&matches))?;
            Config::check(&layered)?;
            Ok(Command::Config(layered))
        }
        Some(CliCommand::Openapi) => Ok(Command::Openapi),
        Some(CliCommand::Healthcheck(args)) => {
            // Nothing else is looked at: a gateway that runs is not unwell because a file beside it has changed.
            let own = || layered(&args.serve, sub.unwrap_or(&matches)).and_then(|layered| Config::health_address(&layered)).map(healthcheck::own_url);
            Ok(Command::Healthcheck { url: args.url.map_or_else(own, Ok)?, timeout: args.timeout })
        }
        Some(CliCommand::Token(command)) => Ok(Command::Token(command)),
        Some(CliCommand::Bench(args)) => Ok(Command::Bench(args)),
        Some(CliCommand::Exec(args)) => Ok(Command::Exec(args)),
    }
}

/// The exit code where nothing could be done: `otherwise`, unless it would mean something else after this command.
pub fn failure_code(otherwise: u8) -> u8 {
    match std::env::args().nth(1).as_deref() {
        // 1 and 2 are what it found.
        Some("doctor") => 3,
        // Whatever is smaller may be the command's own.
        Some("exec") => exec::Ended::Refused.code(),
        _ => otherwise,
    }
}

fn checked(args: &ServeArgs, matches: &ArgMatches) -> Result<Config, ConfigError> {
    Config::check(&layered(args, matches)?)
}

fn layered(args: &ServeArgs, matches: &ArgMatches) -> Result<Layered, ConfigError> {
    let command = Cli::command();
    let known = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    // A command that runs under a lock may be this program.
    let known: Vec<&str> = known.chain(exec::VARIABLES).chain(exec::OWN_VARIABLES).collect();
    let names: Vec<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    unknown_variable(names.iter().map(String::as_str), &known)?;
    Layered::new(&args.settings, matches, args.config.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_one_name_everywhere() {
        let command = Cli::command();
        let fields = serde_json::to_value(Settings::defaults()).unwrap();
        for name in fields.as_object().unwrap().keys() {
            let arg = command.get_arguments().find(|arg| arg.get_id() == name).unwrap_or_else(|| panic!("{name} has no flag"));
            let flag = if name == "nodes" { "node".to_owned() } else { name.replace('_', "-") };
            assert_eq!(arg.get_long(), Some(&*flag));
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(&*format!("REDLOCKD_{}", name.to_uppercase())));
        }
    }
}
