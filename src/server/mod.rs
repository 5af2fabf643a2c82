//! How connections get in: bounded in number and in time, over TLS or in the open.

mod connection;
mod entrance;
mod places;
mod stream;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum_server::Server;
use hyper_util::rt::TokioTimer;
use tracing::warn;

pub use entrance::Entrance;
pub use places::Places;
pub use tls::{Tls, TlsError, TlsFiles};

/// How long the first head on a connection may take: nobody connects long before it has something to ask.
pub const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of the next request may take, and so how long a connection may idle. Longer than the 60 s after
/// which balancers and client pools let go, so that they close first and no request meets a closing connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The longest head of a request, in bytes; hyper looks after it has read, which may be twice as much. A token, a lease
/// id, a name and what proxies add fit many times.
const MAX_HEAD: usize = 32 * 1024;

/// A server on `listener`, for those whom `entrance` lets in.
pub fn server(listener: TcpListener, entrance: Entrance) -> std::io::Result<Server<SocketAddr, Entrance>> {
    let first_head = entrance.first_head;
    let mut server =
        axum_server::from_tcp(listener)?.acceptor(entrance).http1_only().first_request_timeout(first_head).accept_error_handler(cannot_accept);
    server.http_builder().http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    Ok(server)
}

fn cannot_accept(peer: Option<&SocketAddr>, error: &std::io::Error) {
    // With a peer it is one connection that failed, which is counted where it did.
    if peer.is_none() {
        warn!("cannot accept connections: {error}");
    }
}
