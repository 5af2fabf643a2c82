//! Where a Redis node is, as the operator wrote it.

use std::fmt;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::NodeCertificates;
use crate::node::{NodeName, NodeNameError};

/// `[name=]redis[s]://[user[:password]@]host[:port][/database]`, checked. It prints itself without credentials.
#[derive(Clone)]
pub struct NodeAddress {
    name: NodeName,
    info: ConnectionInfo,
    shown: String,
}

/// Why a text is no address of a node. Never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeAddressError {
    #[error("Sentinel addresses are refused: after a failover a replica answers that may have lost locks. Name each independent master itself")]
    Sentinel,
    #[error("cluster addresses are refused: a cluster is one node to a quorum, and its shards fail over. Name each independent master itself")]
    Cluster,
    #[error("the scheme {0:?} is unknown; use redis:// or rediss:// (TLS)")]
    Scheme(String),
    #[error("there is no scheme; write redis://host:port, or rediss:// for TLS")]
    NoScheme,
    #[error("one address names one server; give every node its own entry")]
    SeveralHosts,
    #[error("an address takes no options behind a ? or #; write redis://host:port/database")]
    Options,
    #[error("port 0 is no port; write one from 1 to 65535")]
    Port,
    #[error(
        "the address cannot be read: {0}; a port is 1 to 65535, a database a number, and what is special in a user or a password is \
         percent-encoded, such as %2F for / and %2C for a comma"
    )]
    Unreadable(String),
    #[error("the certificates for it cannot be used: {0}")]
    Certificates(String),
    #[error(transparent)]
    Name(#[from] NodeNameError),
}

impl NodeAddress {
    pub fn parse(text: &str) -> Result<Self, NodeAddressError> {
        let (name, url) = match text.split_once('=') {
            Some((name, url)) if !name.contains("://") => (Some(name.trim()), url.trim()),
            _ => (None, text.trim()),
        };
        let (scheme, rest) = url.split_once("://").ok_or(NodeAddressError::NoScheme)?;
        match scheme {
            "redis" | "rediss" | "valkey" | "valkeys" => {}
            _ if scheme.contains("sentinel") => return Err(NodeAddressError::Sentinel),
            _ if scheme.contains("cluster") => return Err(NodeAddressError::Cluster),
            _ => return Err(NodeAddressError::Scheme(scheme.chars().take(40).collect())),
        }
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        if host.split('/').next().unwrap_or_default().contains(',') {
            return Err(NodeAddressError::SeveralHosts);
        }
        if host.contains("sentinel") && host.contains('?') {
            return Err(NodeAddressError::Sentinel);
        }
        if host.contains(['?', '#']) {
            return Err(NodeAddressError::Options);
        }
        // The error of the library may quote the address, so only its kind is passed on.
        let unreadable = |error: redis::RedisError| NodeAddressError::Unreadable(error.category().to_owned());
        let info = url.into_connection_info().map_err(unreadable)?;
        if let ConnectionAddr::Tcp(_, 0) | ConnectionAddr::TcpTls { port: 0, .. } = info.addr() {
            return Err(NodeAddressError::Port);
        }
        let shown = format!("{scheme}://{}/{}", info.addr(), info.redis_settings().db());
        let name = match name {
            Some(name) => NodeName::new(name)?,
            None => NodeName::new(&format!("{}/{}", info.addr(), info.redis_settings().db()))?,
        };
        // Without it a batch waits for the acknowledgement of the one before; redis 1.8 leaves Nagle's delay on.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(Self { name, info: info.set_tcp_settings(tcp), shown })
    }

    /// The same, where TLS goes by these certificates instead of those that the machine trusts.
    pub fn with_certificates(mut self, certificates: &NodeCertificates) -> Result<Self, NodeAddressError> {
        if self.is_tls() {
            let unusable = |error: redis::RedisError| NodeAddressError::Certificates(error.category().to_owned());
            // The library builds what it needs of them into an address, and only so.
            let client = Client::build_with_tls(self.info, certificates.get().clone()).map_err(unusable)?;
            self.info = client.get_connection_info().clone();
        }
        Ok(self)
    }

    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        self.info.redis_settings().password().is_some()
    }

    pub fn name(&self) -> &NodeName {
        &self.name
    }

    pub fn connection_info(&self) -> ConnectionInfo {
        self.info.clone()
    }

    /// The same server and database under two names is one node that would vote twice.
    pub fn is_same_server(&self, other: &Self) -> bool {
        self.info.addr() == other.info.addr()
    }

    /// The host as it was written.
    pub fn host(&self) -> String {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            other => other.to_string(),
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_everything_but_its_credentials() {
        for (text, name, shown) in [
            ("redis://localhost", "localhost:6379/0", "redis://localhost:6379/0"),
            ("n1=redis://h:7001/2", "n1", "redis://h:7001/2"),
            ("rediss://user:p%40ss=x@h:7001", "h:7001/0", "rediss://h:7001/0"),
            ("a=redis://:secret@10.0.0.1", "a", "redis://10.0.0.1:6379/0"),
        ] {
            let address = NodeAddress::parse(text).unwrap();
            assert_eq!((address.name().as_str(), address.to_string().as_str()), (name, shown));
            assert!(!format!("{address:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_no_independent_master_is_refused() {
        use NodeAddressError::*;
        for (text, error) in [
            ("redis+sentinel://h:26379/mymaster", Sentinel),
            ("redis-cluster://h:7000", Cluster),
            ("http://h", Scheme("http".into())),
            ("localhost:6379", NoScheme),
            ("redis://a:1,b:2", SeveralHosts),
            ("redis://h:6379?protocol=resp3", Options),
            ("redis://h#1", Options),
            ("rediss://h:0", Port),
        ] {
            assert_eq!(NodeAddress::parse(text).unwrap_err(), error, "{text}");
        }
        assert!(matches!(NodeAddress::parse("redis://h:port"), Err(Unreadable(_))));
        assert!(matches!(NodeAddress::parse("a b=redis://h"), Err(Name(_))));
    }
}
