//! From raw settings to a [`Config`]: each error names the setting, what was given and what is allowed.

use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::{Config, ConfigError, JwtConfig, Layered, LogFormat, LogSettings};
use crate::auth::{JwksSource, JwtRules, RosterSource};
use crate::http_client::UrlError;
use crate::lease::{LockKey, Quorum, Ttl, TtlBounds};
use crate::node::redis::{NodeAddress, NodeCertificates};
use crate::node::{Agreement, Members};
use crate::redlock::WaitBounds;
use crate::server::TlsFiles;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
/// The prefix that is ours, under `redlockd:`, where nobody else's records may be.
const OWN_PREFIX: &str = "redlockd:lock:";

impl Config {
    /// Checks everything, and stops at the first that is impossible.
    pub fn check(layered: &Layered) -> Result<Self, ConfigError> {
        let settings = &layered.settings;
        let max_ttl = duration(layered, "max_ttl", &settings.max_ttl, TtlBounds::SHORTEST, 24 * HOUR)?;
        let window = duration(layered, "clock_window", &settings.clock_window, 10 * MS, 10 * SECOND)?;
        let clock_jump_margin = duration(layered, "clock_jump_margin", &settings.clock_jump_margin, Duration::ZERO, HOUR)?;
        let max_wait = duration(layered, "max_wait", &settings.max_wait, Duration::ZERO, HOUR)?;
        let max_requests = within(layered, "max_requests", settings.max_requests.unwrap_or(4096), 1, 1_000_000)?;
        let max_connections = within(layered, "max_connections", settings.max_connections.unwrap_or(4096), 1, 1_000_000)?;
        let ttl_bounds = TtlBounds::new(max_ttl, clock_jump_margin);
        if max_ttl < ttl_bounds.min {
            let needed = humantime::format_duration(ttl_bounds.min);
            return Err(impossible(layered, "clock_jump_margin", format!("with it a ttl must be at least {needed}, which is more than max_ttl")));
        }
        let nodes = nodes(layered)?;
        let lock_prefix = lock_prefix(layered)?;
        let members = Members::of(nodes.iter().map(|node| node.name().as_str()), &lock_prefix)
            .with_margin(clock_jump_margin)
            .with_trust(settings.trust_persistence.unwrap_or_default());
        let tls = tls(layered)?;
        let tokens = tokens(layered, tls.as_ref().is_some_and(|files| files.client_ca.is_some()))?;
        let config = Self {
            listen: address(layered, "listen", &settings.listen)?,
            metrics_listen: metrics_listen(layered)?,
            tokens,
            jwt: jwt(layered)?,
            tls,
            rate_limit: NonZeroU32::new(within(layered, "rate_limit", settings.rate_limit.unwrap_or(0), 0, 1_000_000)?),
            wait_bounds: wait_bounds(layered, max_requests.min(max_connections))?,
            max_wait,
            max_requests,
            max_connections,
            bootstrap: settings.bootstrap.unwrap_or_default(),
            trust_persistence: settings.trust_persistence.unwrap_or_default(),
            data_dir: settings.data_dir.clone().unwrap_or_default().into(),
            agreement: Agreement { generation: settings.generation.unwrap_or(1), max_ttl, window, members },
            default_ttl: default_ttl(layered, ttl_bounds)?,
            ttl_bounds,
            clock_jump_margin,
            lock_prefix,
            node_timeout: duration(layered, "node_timeout", &settings.node_timeout, MS, 10 * SECOND)?,
            node_concurrency: within(layered, "node_concurrency", settings.node_concurrency.unwrap_or(2), 1, 64)?,
            drain_delay: duration(layered, "drain_delay", &settings.drain_delay, Duration::ZERO, HOUR)?,
            grace: duration(layered, "grace", &settings.grace, Duration::ZERO, HOUR)?,
            threads: Some(within(layered, "threads", settings.threads.unwrap_or(0), 0, 1024)?).filter(|threads| *threads != 0),
            audit: settings.audit.unwrap_or_default(),
            log: LogSettings { level: log_level(layered)?, format: log_format(layered)? },
            nodes,
        };
        config.check_reach(layered)?;
        Ok(config)
    }

    /// Whether nobody is served who did not show a token or a certificate.
    pub fn asks_who(&self) -> bool {
        self.tokens.is_some() || self.jwt.is_some() || self.tls.as_ref().is_some_and(|files| files.client_ca.is_some())
    }

    /// Where others can reach it somebody has to be asked, or the operator has to say that nobody is.
    fn check_reach(&self, layered: &Layered) -> Result<(), ConfigError> {
        if self.listen.ip().is_loopback() || self.asks_who() || layered.settings.insecure_no_auth == Some(true) {
            return Ok(());
        }
        let problem = format!(
            "{} can be reached from other machines, and nobody would be asked for a token; set tokens_file (redlockd token new writes it), jwks or tls_client_ca_file, or insecure_no_auth if whoever reaches the port may do everything",
            self.listen
        );
        Err(impossible(layered, "listen", problem))
    }

    /// Where a gateway of these settings can be asked in the open whether it is well, whatever the other settings are.
    pub fn health_address(layered: &Layered) -> Result<SocketAddr, ConfigError> {
        if let Some(address) = metrics_listen(layered)? {
            return Ok(address);
        }
        if given(&layered.settings.tls_cert_file).is_some() {
            let problem = "with TLS the gateway is to be asked elsewhere whether it is well, or by the name in its certificate; set metrics_listen, or pass --url";
            return Err(impossible(layered, "tls_cert_file", problem));
        }
        address(layered, "listen", &layered.settings.listen)
    }
}

fn impossible(layered: &Layered, name: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Setting { name, problem: problem.into(), origin: layered.origin(name) }
}

fn duration(layered: &Layered, name: &'static str, text: &Option<String>, min: Duration, max: Duration) -> Result<Duration, ConfigError> {
    let text = text.as_deref().unwrap_or_default();
    let (shortest, longest) = (humantime::format_duration(min), humantime::format_duration(max));
    let given = humantime::parse_duration(text)
        .map_err(|_| impossible(layered, name, format!("{text:?} is not a duration; write a number and a unit, such as 500ms, 30s or 5m")))?;
    if (min..=max).contains(&given) && given.subsec_nanos().is_multiple_of(1_000_000) {
        Ok(given)
    } else {
        Err(impossible(layered, name, format!("{text:?} is not allowed; it must be {shortest} to {longest}, in whole milliseconds")))
    }
}

fn within<T: PartialOrd + std::fmt::Display>(layered: &Layered, name: &'static str, given: T, min: T, max: T) -> Result<T, ConfigError> {
    if (&min..=&max).contains(&&given) {
        Ok(given)
    } else {
        Err(impossible(layered, name, format!("{given} is not allowed; it must be {min} to {max}")))
    }
}

/// `most` is how many requests there can be.
fn wait_bounds(layered: &Layered, most: usize) -> Result<WaitBounds, ConfigError> {
    // Who waits keeps its place among them, and a release has to find one.
    let share = most * 3 / 4;
    let settings = &layered.settings;
    Ok(WaitBounds {
        per_lock: within(layered, "max_waiters_per_lock", settings.max_waiters_per_lock.unwrap_or(1000), 1, 1_000_000)?,
        in_all: within(layered, "max_waiters", settings.max_waiters.unwrap_or(share), 0, share)?,
    })
}

/// The text of a setting that is empty by default.
fn given(setting: &Option<String>) -> Option<String> {
    setting.clone().filter(|text| !text.is_empty())
}

/// Of settings that are of use together only: both paths, or none.
fn certificate_and_key(
    layered: &Layered,
    names: [&'static str; 2],
    [certificate, key]: [&Option<String>; 2],
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (given(certificate), given(key)) {
        (Some(certificate), Some(key)) => Ok(Some((certificate.into(), key.into()))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(impossible(layered, names[0], format!("the key of this certificate is missing; set {}", names[1]))),
        (None, Some(_)) => Err(impossible(layered, names[1], format!("the certificate of this key is missing; set {}", names[0]))),
    }
}

fn tls(layered: &Layered) -> Result<Option<TlsFiles>, ConfigError> {
    let settings = &layered.settings;
    let pair = certificate_and_key(layered, ["tls_cert_file", "tls_key_file"], [&settings.tls_cert_file, &settings.tls_key_file])?;
    let client_ca = given(&settings.tls_client_ca_file).map(PathBuf::from);
    let Some((certificate, key)) = pair else {
        let alone = "clients show certificates over TLS only; set tls_cert_file and tls_key_file as well";
        return if client_ca.is_none() { Ok(None) } else { Err(impossible(layered, "tls_client_ca_file", alone)) };
    };
    let files = TlsFiles { certificate, key, client_ca };
    files.read().map_err(|error| {
        let name = match error.path() {
            path if path == files.certificate => "tls_cert_file",
            path if path == files.key => "tls_key_file",
            _ => "tls_client_ca_file",
        };
        impossible(layered, name, error.to_string())
    })?;
    Ok(Some(files))
}

fn tokens(layered: &Layered, certificates_are_shown: bool) -> Result<Option<RosterSource>, ConfigError> {
    let (name, source) = match (given(&layered.settings.tokens_file), given(&layered.settings.tokens)) {
        (None, None) => return Ok(None),
        (Some(path), None) => ("tokens_file", RosterSource::File(path.into())),
        (None, Some(text)) => ("tokens", RosterSource::Text(text)),
        (Some(_), Some(_)) => return Err(impossible(layered, "tokens", "tokens_file is set as well; leave one of them out")),
    };
    let roster = source.read().map_err(|error| impossible(layered, name, error.to_string()))?;
    if 0 < roster.certificates() && !certificates_are_shown {
        return Err(impossible(layered, name, "it names certificates, which clients show only if tls_client_ca_file is set"));
    }
    Ok(Some(source))
}

fn jwt(layered: &Layered) -> Result<Option<JwtConfig>, ConfigError> {
    let settings = &layered.settings;
    let (keys, issuer, audience) = (given(&settings.jwks), given(&settings.jwt_issuer), given(&settings.jwt_audience));
    let Some(keys) = keys else {
        let name = if issuer.is_some() { "jwt_issuer" } else { "jwt_audience" };
        let alone = Err(impossible(layered, name, "without the keys of the issuer no token can be checked; set jwks"));
        return if issuer.is_none() && audience.is_none() { Ok(None) } else { alone };
    };
    let missing =
        |name| impossible(layered, name, "jwks is set, and tokens have to be of one issuer, for this gateway; set jwt_issuer and jwt_audience");
    let (issuer, audience) = (issuer.ok_or_else(|| missing("jwt_issuer"))?, audience.ok_or_else(|| missing("jwt_audience"))?);
    let grants_claim = given(&settings.jwt_grants_claim).ok_or_else(|| impossible(layered, "jwt_grants_claim", "it must not be empty"))?;
    let keys = if keys.contains("://") {
        JwksSource::Url(keys.parse().map_err(|error: UrlError| impossible(layered, "jwks", error.to_string()))?)
    } else {
        JwksSource::File(keys.into())
    };
    keys.check().map_err(|error| impossible(layered, "jwks", error.to_string()))?;
    Ok(Some(JwtConfig { keys, rules: JwtRules { issuer, audience, grants_claim } }))
}

fn metrics_listen(layered: &Layered) -> Result<Option<SocketAddr>, ConfigError> {
    let text = given(&layered.settings.metrics_listen);
    if text.is_none() { Ok(None) } else { address(layered, "metrics_listen", &text).map(Some) }
}

fn address(layered: &Layered, name: &'static str, text: &Option<String>) -> Result<SocketAddr, ConfigError> {
    let text = text.as_deref().unwrap_or_default();
    let unreadable = || impossible(layered, name, format!("{text:?} is not an address; write host:port, such as 127.0.0.1:8080"));
    text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next()).ok_or_else(unreadable)
}

fn default_ttl(layered: &Layered, bounds: TtlBounds) -> Result<Ttl, ConfigError> {
    let given = duration(layered, "default_ttl", &layered.settings.default_ttl, MS, 24 * HOUR)?;
    if TtlBounds::SHORTEST <= given && given < bounds.min {
        let (needed, given) = (humantime::format_duration(bounds.min), humantime::format_duration(given));
        return Err(impossible(
            layered,
            "clock_jump_margin",
            format!("with it a ttl must be at least {needed}, and default_ttl is {given}; raise that as well"),
        ));
    }
    Ttl::new(given, bounds).map_err(|error| impossible(layered, "default_ttl", error.to_string()))
}

fn nodes(layered: &Layered) -> Result<Vec<NodeAddress>, ConfigError> {
    let mut nodes: Vec<NodeAddress> = Vec::new();
    for (at, text) in layered.settings.nodes.iter().flatten().enumerate() {
        // Counted, not quoted: an address may hold a password.
        let address = NodeAddress::parse(text).map_err(|error| impossible(layered, "nodes", format!("node {}: {error}", at + 1)))?;
        if let Some(twin) = nodes.iter().find(|node| node.is_same_server(&address)) {
            let problem = format!("{address} and {twin} are one server, which would vote twice; name {} different servers", at + 1);
            return Err(impossible(layered, "nodes", problem));
        }
        if nodes.iter().any(|node| node.name() == address.name()) {
            return Err(impossible(layered, "nodes", format!("two nodes are named {}; every node needs its own name", address.name())));
        }
        nodes.push(address);
    }
    if Quorum::MAX_NODES < nodes.len() {
        return Err(impossible(layered, "nodes", format!("{} nodes are too many; use 3 or 5, at most {}", nodes.len(), Quorum::MAX_NODES)));
    }
    let Some(certificates) = node_certificates(layered)? else { return Ok(nodes) };
    let name = if given(&layered.settings.node_tls_ca_file).is_some() { "node_tls_ca_file" } else { "node_tls_cert_file" };
    if !nodes.iter().any(NodeAddress::is_tls) {
        return Err(impossible(layered, name, "no node is behind TLS; their addresses begin with rediss:// then"));
    }
    let with = |node: NodeAddress| node.with_certificates(&certificates);
    nodes.into_iter().map(with).collect::<Result<_, _>>().map_err(|error| impossible(layered, name, error.to_string()))
}

fn node_certificates(layered: &Layered) -> Result<Option<NodeCertificates>, ConfigError> {
    let settings = &layered.settings;
    let names = ["node_tls_cert_file", "node_tls_key_file"];
    let client = certificate_and_key(layered, names, [&settings.node_tls_cert_file, &settings.node_tls_key_file])?;
    let ca = given(&settings.node_tls_ca_file).map(PathBuf::from);
    if client.is_none() && ca.is_none() {
        return Ok(None);
    }
    let client = client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
    let name = if client.is_some() { "node_tls_cert_file" } else { "node_tls_ca_file" };
    NodeCertificates::read(ca.as_deref(), client).map(Some).map_err(|error| impossible(layered, name, error.to_string()))
}

fn lock_prefix(layered: &Layered) -> Result<String, ConfigError> {
    let prefix = layered.settings.lock_prefix.clone().unwrap_or_default();
    let printable = prefix.len() <= 128 && !prefix.chars().any(char::is_control);
    // Under any other beginning of `redlockd:` a lock could be named like one of our own records.
    let apart = !prefix.starts_with(LockKey::RESERVED) && !LockKey::RESERVED.starts_with(&prefix);
    if printable && (prefix.is_empty() || prefix == OWN_PREFIX || apart) {
        return Ok(prefix);
    }
    let problem = format!(
        "{prefix:?} is not allowed; it must be at most 128 bytes without control characters, and {OWN_PREFIX:?} or nothing like {:?}",
        LockKey::RESERVED
    );
    Err(impossible(layered, "lock_prefix", problem))
}

fn log_level(layered: &Layered) -> Result<tracing::Level, ConfigError> {
    let text = layered.settings.log_level.as_deref().unwrap_or_default();
    match text {
        "error" | "warn" | "info" | "debug" | "trace" => Ok(text.parse().unwrap_or(tracing::Level::INFO)),
        _ => Err(impossible(layered, "log_level", format!("{text:?} is not a level; use error, warn, info, debug or trace"))),
    }
}

fn log_format(layered: &Layered) -> Result<LogFormat, ConfigError> {
    match layered.settings.log_format.as_deref().unwrap_or_default() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(impossible(layered, "log_format", format!("{other:?} is not a format; use text or json"))),
    }
}
