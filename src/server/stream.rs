//! The bytes of a connection, in the open or over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use tracing::debug;

use super::tls;
use crate::http::Wire;
use crate::metrics::Metrics;

/// What hyper reads and writes.
pub struct Stream {
    transport: Either<Tcp, Box<TlsStream<Tcp>>>,
    wire: Wire,
    /// What was last asked of the kernel.
    patience_ms: u32,
    metrics: Arc<Metrics>,
}

/// A connection whose writes have a deadline.
pub type Tcp = Pin<Box<TimeoutStream<TcpStream>>>;

/// How long a client may take nothing of its answer. The kernel itself would wait for ever, as long as the client is there.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Gives up a client that does not read.
pub fn with_deadlines(tcp: TcpStream) -> Tcp {
    let mut tcp = TimeoutStream::new(tcp);
    tcp.set_write_timeout(Some(WRITE_TIMEOUT));
    Box::pin(tcp)
}

impl Stream {
    pub fn open(tcp: Tcp, metrics: Arc<Metrics>) -> Self {
        Self { transport: Either::Left(tcp), wire: Wire::default(), patience_ms: 0, metrics }
    }

    pub fn tls(tls: TlsStream<Tcp>, metrics: Arc<Metrics>) -> Self {
        Self { transport: Either::Right(Box::new(tls)), wire: Wire::default(), patience_ms: 0, metrics }
    }

    /// What the peer's certificate calls it; nothing if it showed none.
    pub fn peer_names(&self) -> Arc<[String]> {
        match &self.transport {
            Either::Left(_) => Arc::default(),
            Either::Right(tls) => tls::names(tls.get_ref().1.peer_certificates().unwrap_or_default()),
        }
    }

    /// For those who write into it.
    pub fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// Puts in force how long what is written may go without a sign that it arrived.
    fn be_patient(&mut self) {
        let patience_ms = self.wire.patience_ms();
        if patience_ms == self.patience_ms {
            return;
        }
        self.patience_ms = patience_ms;
        let tcp = match &self.transport {
            Either::Left(tcp) => tcp,
            Either::Right(tls) => tls.get_ref().0,
        };
        // The connection works without it; only its end is noticed later.
        if let Err(error) = set_tcp_user_timeout(tcp.get_ref(), patience_ms) {
            debug!(%error, "how long the kernel waits for a sign of a client can't be set");
        }
    }

    fn transport(self: Pin<&mut Self>) -> Pin<&mut Either<Tcp, Box<TlsStream<Tcp>>>> {
        Pin::new(&mut self.get_mut().transport)
    }

    /// Counts bounds that show in what is written, or is not.
    fn notice<T>(&self, polled: &Poll<io::Result<T>>, bytes: &[u8]) {
        match polled {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut => self.metrics.limit_hit("write_time"),
            // A head that is too long, or a target, is refused by hyper itself, which tells nobody but the client.
            Poll::Ready(Ok(_)) if bytes.starts_with(b"HTTP/1.1 431") || bytes.starts_with(b"HTTP/1.1 414") => self.metrics.limit_hit("head"),
            _ => {}
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.be_patient();
        let polled = self.as_mut().transport().poll_write(context, bytes);
        self.notice(&polled, bytes);
        polled
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.be_patient();
        let polled = self.as_mut().transport().poll_write_vectored(context, slices);
        self.notice(&polled, slices.first().map_or(&[], |first| first));
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.as_mut().transport().poll_flush(context);
        self.notice(&polled, &[]);
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn how_long_a_sign_may_take_is_put_in_force_with_the_next_word() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut stream = Stream::open(with_deadlines(listener.accept().await.unwrap().0), Arc::new(Metrics::new().unwrap()));
        for (patience, expected_ms) in [(Duration::from_millis(1500), 1500), (Duration::ZERO, 0)] {
            stream.wire().give_up_after(patience);
            stream.write_all(b":").await.unwrap();
            let Either::Left(tcp) = &stream.transport else { unreachable!("it is in the open") };
            assert_eq!(rustix::net::sockopt::tcp_user_timeout(tcp.get_ref()).unwrap(), expected_ms);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut stream = Stream::open(with_deadlines(listener.accept().await.unwrap().0), Arc::clone(&metrics));
        let error = loop {
            if let Err(error) = stream.write_all(&[0; 64 * 1024]).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let text = String::from_utf8(metrics.render().unwrap()).unwrap();
        assert!(text.contains("redlockd_limits_hit_total{limit=\"write_time\"} 1\n"));
    }
}
