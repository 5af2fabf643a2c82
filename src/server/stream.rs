//! The bytes of a connection, in the open or over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tls;
use crate::metrics::Metrics;

/// What hyper reads and writes.
pub struct Stream {
    transport: Transport,
    metrics: Arc<Metrics>,
}

enum Transport {
    Open(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub fn open(tcp: TcpStream, metrics: Arc<Metrics>) -> Self {
        Self { transport: Transport::Open(tcp), metrics }
    }

    pub fn tls(tls: TlsStream<TcpStream>, metrics: Arc<Metrics>) -> Self {
        Self { transport: Transport::Tls(Box::new(tls)), metrics }
    }

    /// What the peer's certificate calls it; nothing if it showed none.
    pub fn peer_names(&self) -> Arc<[String]> {
        match &self.transport {
            Transport::Open(_) => Arc::default(),
            Transport::Tls(tls) => tls::names(tls.get_ref().1.peer_certificates().unwrap_or_default()),
        }
    }

    /// A head that is too long, or a target, is refused by hyper itself, which tells nobody but the client.
    fn notice(&self, written: &[u8]) {
        if written.starts_with(b"HTTP/1.1 431") || written.starts_with(b"HTTP/1.1 414") {
            self.metrics.limit_hit("head");
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Open(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Transport::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Open(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Transport::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        };
        if polled.is_ready() {
            self.notice(bytes);
        }
        polled
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Open(tcp) => Pin::new(tcp).poll_write_vectored(context, slices),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(context, slices),
        };
        if polled.is_ready()
            && let Some(first) = slices.first()
        {
            self.notice(first);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Open(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Open(tcp) => Pin::new(tcp).poll_flush(context),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Open(tcp) => Pin::new(tcp).poll_shutdown(context),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
