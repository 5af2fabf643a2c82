//! Lets a connection in: a place for it, then the TLS handshake if there is to be one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum_server::accept::Accept;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use super::connection::Connection;
use super::places::Places;
use super::stream::{self, Stream, Tcp};
use super::tls::{self, Tls};
use crate::auth::Peer;
use crate::metrics::Metrics;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What every new connection passes. Clones share the places.
#[derive(Clone)]
pub struct Entrance {
    places: Places,
    tls: Option<Tls>,
    /// How long the first head on a connection may take.
    pub(super) first_head: Duration,
    metrics: Arc<Metrics>,
}

impl Entrance {
    /// Without `tls` connections are in the open. `first_head` is how long the first head on one may take.
    pub fn new(places: Places, tls: Option<Tls>, first_head: Duration, metrics: Arc<Metrics>) -> Self {
        Self { places, tls, first_head, metrics }
    }

    async fn handshake(&self, tcp: Tcp) -> io::Result<Stream> {
        let Some(tls) = &self.tls else { return Ok(Stream::open(tcp, Arc::clone(&self.metrics))) };
        let outcome = timeout(HANDSHAKE_TIMEOUT, tls.handshake(tcp)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match outcome {
            Ok(tls) => Ok(Stream::tls(tls, Arc::clone(&self.metrics))),
            Err(error) => {
                let reason = tls::reason(&error);
                self.metrics.tls_refusals.with_label_values(&[reason]).inc();
                debug!(reason, %error, "a TLS handshake failed");
                Err(error)
            }
        }
    }
}

impl<S: Send + 'static> Accept<TcpStream, S> for Entrance {
    type Stream = Stream;
    type Service = Connection<S>;
    type Future = BoxFuture<'static, io::Result<(Stream, Connection<S>)>>;

    fn accept(&self, tcp: TcpStream, service: S) -> Self::Future {
        let entrance = self.clone();
        Box::pin(async move {
            let address = tcp.peer_addr()?.ip();
            let Some(place) = entrance.places.take() else {
                entrance.metrics.limit_hit("connections");
                return Err(io::Error::other("too many connections"));
            };
            tcp.set_nodelay(true)?;
            let stream = entrance.handshake(stream::with_deadlines(tcp)).await?;
            let peer = Peer { address, names: stream.peer_names() };
            let wire = stream.wire();
            Ok((stream, Connection::new(service, place, peer, wire, entrance.first_head, entrance.metrics)))
        })
    }
}
