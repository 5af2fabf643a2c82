//! The other end of a connection.

use std::net::IpAddr;
use std::sync::Arc;

/// From where a request comes, as its connection tells.
#[derive(Clone, Debug)]
pub struct Peer {
    /// A balancer's or a proxy's, if there is one in between.
    pub address: IpAddr,
    /// What its certificate, which was verified, calls it; none if it showed none.
    pub names: Arc<[String]>,
}
