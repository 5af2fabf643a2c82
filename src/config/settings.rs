//! The raw settings: one name each in the file, as a flag and in the environment.

use clap::Args;
use serde::{Deserialize, Serialize};

/// What can be set. `max_ttl` in the file is `--max-ttl` on the command line and `REDLOCKD_MAX_TTL` in the environment.
///
/// Flags beat the environment, which beats the file, which beats the defaults. Not printable: addresses may hold passwords.
#[derive(Args, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "REDLOCKD_LISTEN", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,

    /// Another address, for /metrics, /livez and /readyz only, without tokens [default: none]
    #[arg(long, env = "REDLOCKD_METRICS_LISTEN", value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<String>,

    /// A file with the tokens of those who may ask, and what they may do; `redlockd token new` writes it
    #[arg(long, env = "REDLOCKD_TOKENS_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_file: Option<String>,

    /// The same as text, for an environment without files
    #[arg(long, env = "REDLOCKD_TOKENS", value_name = "TOML", hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<String>,

    /// The keys of an issuer of JSON Web Tokens, a JWKS: a file, or a URL
    #[arg(long, env = "REDLOCKD_JWKS", value_name = "FILE|URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwks: Option<String>,

    /// Who that issuer is, as its tokens say in `iss`
    #[arg(long, env = "REDLOCKD_JWT_ISSUER", value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_issuer: Option<String>,

    /// For whom tokens have to be, as they say in `aud`
    #[arg(long, env = "REDLOCKD_JWT_AUDIENCE", value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_audience: Option<String>,

    /// The claim of a token that has its grants, as a list or with blanks between [default: redlockd]
    #[arg(long, env = "REDLOCKD_JWT_GRANTS_CLAIM", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_grants_claim: Option<String>,

    /// A file with the gateway's certificate, in the PEM format, with those that vouch for it; clients then use https
    #[arg(long, env = "REDLOCKD_TLS_CERT_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert_file: Option<String>,

    /// A file with the private key of that certificate
    #[arg(long, env = "REDLOCKD_TLS_KEY_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<String>,

    /// A file with the certificates of those who vouch for clients, who then have to show a certificate
    #[arg(long, env = "REDLOCKD_TLS_CLIENT_CA_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_client_ca_file: Option<String>,

    /// Most connections at once [default: 4096]
    #[arg(long, env = "REDLOCKD_MAX_CONNECTIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<usize>,

    /// Most requests that are worked on at once, probes and metrics aside [default: 4096]
    #[arg(long, env = "REDLOCKD_MAX_REQUESTS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<usize>,

    /// Most requests that wait for a lock; three quarters of max_requests and of max_connections at most, so that holders can
    /// still release [default: that]
    #[arg(long, env = "REDLOCKD_MAX_WAITERS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_waiters: Option<usize>,

    /// Most requests that wait for one lock [default: 1000]
    #[arg(long, env = "REDLOCKD_MAX_WAITERS_PER_LOCK", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_waiters_per_lock: Option<usize>,

    /// Most requests of one caller in a second, by name or address; 0 for no bound [default: 0]
    #[arg(long, env = "REDLOCKD_RATE_LIMIT", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<u32>,

    /// Listen beyond this machine although nobody is asked for a token
    #[arg(long, env = "REDLOCKD_INSECURE_NO_AUTH", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_no_auth: Option<bool>,

    /// A Redis or Valkey node, once for each of three or five: [NAME=]redis[s]://[USER[:PASSWORD]@]HOST[:PORT][/DB]
    ///
    /// In the environment and in the file the name is `nodes`; in the environment addresses are separated by commas.
    /// A password is taken from there only. Without any, redlockd runs on one embedded node.
    #[arg(long = "node", env = "REDLOCKD_NODES", value_name = "ADDRESS", value_delimiter = ',', hide_env_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Vec<String>>,

    /// A file with the certificates of those who vouch for nodes behind rediss:// [default: whom this machine trusts]
    #[arg(long, env = "REDLOCKD_NODE_TLS_CA_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_tls_ca_file: Option<String>,

    /// A file with the certificate that the gateway shows such nodes
    #[arg(long, env = "REDLOCKD_NODE_TLS_CERT_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_tls_cert_file: Option<String>,

    /// A file with the private key of that certificate
    #[arg(long, env = "REDLOCKD_NODE_TLS_KEY_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_tls_key_file: Option<String>,

    /// Where the embedded node keeps its data [default: ./redlockd-data]
    #[arg(long, env = "REDLOCKD_DATA_DIR", value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,

    /// These nodes never granted a lock, so none needs to be quarantined first
    #[arg(long, env = "REDLOCKD_BOOTSTRAP", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<bool>,

    /// Let a Redis node vote again at once after a restart if it wrote every change to its disk. Your word that it comes back
    /// with that very disk: no older copy, no replica in its place, and no change of its persistence while it runs
    #[arg(long, env = "REDLOCKD_TRUST_PERSISTENCE", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_persistence: Option<bool>,

    /// Raise it, on every gateway, whenever the list of nodes, lock_prefix, max_ttl, clock_window, clock_jump_margin or trust_persistence changes [default: 1]
    #[arg(long, env = "REDLOCKD_GENERATION", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,

    /// Lifetime of a lease whose client names none [default: 30s]
    #[arg(long, env = "REDLOCKD_DEFAULT_TTL", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_ttl: Option<String>,

    /// Longest lifetime that a client may ask for, and how long a node that lost its memory does not vote [default: 5m]
    #[arg(long, env = "REDLOCKD_MAX_TTL", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<String>,

    /// Longest time that a client may wait for a lock [default: 1m]
    #[arg(long, env = "REDLOCKD_MAX_WAIT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<String>,

    /// What stands before a lock's name in its Redis key; share it with a Redlock library to exclude each other [default: redlockd:lock:]
    #[arg(long, env = "REDLOCKD_LOCK_PREFIX", value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock_prefix: Option<String>,

    /// Longest time that one call to one node may take; the embedded node's disk is given a second at least [default: 100ms]
    #[arg(long, env = "REDLOCKD_NODE_TIMEOUT", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_timeout: Option<String>,

    /// Requests in flight to one node at once, each a batch of up to 64 commands [default: 2]
    #[arg(long, env = "REDLOCKD_NODE_CONCURRENCY", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_concurrency: Option<u32>,

    /// How far the clocks of the nodes may be apart [default: 500ms]
    #[arg(long, env = "REDLOCKD_CLOCK_WINDOW", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_window: Option<String>,

    /// Taken off every validity, so that leases exclude each other even while the clocks of a minority of nodes jump [default: 0s]
    #[arg(long, env = "REDLOCKD_CLOCK_JUMP_MARGIN", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_jump_margin: Option<String>,

    /// How long to go on serving after SIGTERM while /readyz says no, so that balancers notice [default: 2s]
    #[arg(long, env = "REDLOCKD_DRAIN_DELAY", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_delay: Option<String>,

    /// How long running requests and undoing may take after that [default: 10s]
    #[arg(long, env = "REDLOCKD_GRACE", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,

    /// Threads that serve requests; 0 for one per core [default: 0]
    #[arg(long, env = "REDLOCKD_THREADS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,

    /// Write a line of JSON to standard output for what callers do to locks
    #[arg(long, env = "REDLOCKD_AUDIT", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<bool>,

    /// error, warn, info, debug or trace [default: info]
    #[arg(long, env = "REDLOCKD_LOG_LEVEL", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,

    /// text or json [default: text]
    #[arg(long, env = "REDLOCKD_LOG_FORMAT", value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
}

impl Settings {
    /// What is in force where nothing else is said.
    pub fn defaults() -> Self {
        let text = |text: &str| Some(text.to_owned());
        Self {
            listen: text("127.0.0.1:8080"),
            metrics_listen: text(""),
            tokens_file: text(""),
            tokens: text(""),
            jwks: text(""),
            jwt_issuer: text(""),
            jwt_audience: text(""),
            jwt_grants_claim: text("redlockd"),
            tls_cert_file: text(""),
            tls_key_file: text(""),
            tls_client_ca_file: text(""),
            max_connections: Some(4096),
            max_requests: Some(4096),
            max_waiters: None,
            max_waiters_per_lock: Some(1000),
            rate_limit: Some(0),
            insecure_no_auth: Some(false),
            nodes: Some(Vec::new()),
            node_tls_ca_file: text(""),
            node_tls_cert_file: text(""),
            node_tls_key_file: text(""),
            data_dir: text("./redlockd-data"),
            bootstrap: Some(false),
            generation: Some(1),
            default_ttl: text("30s"),
            max_ttl: text("5m"),
            max_wait: text("1m"),
            lock_prefix: text("redlockd:lock:"),
            node_timeout: text("100ms"),
            node_concurrency: Some(2),
            clock_window: text("500ms"),
            clock_jump_margin: text("0s"),
            drain_delay: text("2s"),
            grace: text("10s"),
            threads: Some(0),
            audit: Some(false),
            trust_persistence: Some(false),
            log_level: text("info"),
            log_format: text("text"),
        }
    }
}
