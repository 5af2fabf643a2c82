//! A target behind HTTP: the gateway as its clients see it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, Sleep, sleep};

use super::{BenchError, CONNECTIONS, Failure, Outcome, Target};
use crate::http_client::{Answer, ClientError, HttpConnection, HttpUrl};

const LEASE_ID: HeaderName = HeaderName::from_static("lease-id");
const FENCING_TOKEN: HeaderName = HeaderName::from_static("fencing-token");
/// What a key may show in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A gateway answers after its own timeouts on nodes at the latest, which are far below this.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
/// So long that a dead gateway is not flooded, and so short that one that returns is used at once.
const MAX_BACK_OFF: Duration = Duration::from_secs(1);
/// Connections that are being made at one time: within the shortest usual backlog of a listener, 128.
const CONNECTING: usize = 64;
/// The longest code of the gateway has half of this; longer text would break the table.
const MAX_CODE_BYTES: usize = 40;

/// Makes `n` connections to the gateway at `url` (plain http, no query; a path is put before `/locks`).
///
/// Acquires wait for up to `wait`.
///
/// Fails when `n` is not within [`CONNECTIONS`], or when one of them cannot be made.
pub async fn http_targets(url: &str, n: usize, wait: Duration) -> Result<Vec<HttpTarget>, BenchError> {
    if !CONNECTIONS.contains(&n) {
        return Err(BenchError::Connections(n));
    }
    let url: Arc<HttpUrl> = Arc::new(url.parse()?);
    if url.target().query().is_some() {
        return Err(BenchError::Query);
    }
    let targets = stream::iter(0..n).map(|_| HttpTarget::connect(url.clone(), wait)).buffer_unordered(CONNECTING);
    Ok(targets.try_collect().await?)
}

/// One keep-alive connection to a gateway.
///
/// Failures are counted by the `code` of the problem, else as `status NNN`; as `timeout` after ten seconds, as
/// `not_a_grant` for a 200 without a lease, and as `connection` for every request that was lost and every
/// attempt to connect that failed.
pub struct HttpTarget {
    url: Arc<HttpUrl>,
    connection: Option<HttpConnection>,
    back_off: Duration,
    wait: Duration,
    /// One timer, pushed back by every request: a new one each would lock the timer wheel twice.
    deadline: Pin<Box<Sleep>>,
    paths: Paths,
}

/// What proves a grant, as it stood in the answer's headers.
pub struct HttpLease {
    lease_id: HeaderValue,
    fencing_token: HeaderValue,
}

/// The request targets of the last key, which is the next key almost always.
#[derive(Default)]
struct Paths {
    key: String,
    acquire: Uri,
    release: Uri,
}

impl Target for HttpTarget {
    type Lease = HttpLease;

    async fn acquire(&mut self, key: &str) -> Outcome<HttpLease> {
        self.prepare(key)?;
        let mut answer = self.exchange(Method::POST, self.paths.acquire.clone(), HeaderMap::new()).await?;
        match (answer.headers.remove(LEASE_ID), answer.headers.remove(FENCING_TOKEN)) {
            (Some(lease_id), Some(fencing_token)) => Ok(HttpLease { lease_id, fencing_token }),
            _ => Err(Failure::new("not_a_grant")),
        }
    }

    async fn release(&mut self, key: &str, lease: &HttpLease) -> Outcome<()> {
        self.prepare(key)?;
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(LEASE_ID, lease.lease_id.clone());
        headers.insert(FENCING_TOKEN, lease.fencing_token.clone());
        self.exchange(Method::DELETE, self.paths.release.clone(), headers).await?;
        Ok(())
    }
}

impl HttpTarget {
    async fn connect(url: Arc<HttpUrl>, wait: Duration) -> Result<Self, ClientError> {
        let connection = Some(HttpConnection::connect(&url).await?);
        Ok(Self { url, connection, back_off: FIRST_BACK_OFF, wait, deadline: Box::pin(sleep(REQUEST_TIMEOUT)), paths: Paths::default() })
    }

    fn prepare(&mut self, key: &str) -> Outcome<()> {
        if self.paths.key != key {
            self.paths = Paths::new(self.url.target().path(), key, self.wait).map_err(|_| Failure::new("invalid_key"))?;
        }
        Ok(())
    }

    async fn exchange(&mut self, method: Method, target: Uri, headers: HeaderMap) -> Outcome<Answer> {
        let Some(connection) = &mut self.connection else {
            self.reconnect().await;
            return Err(Failure::new("connection"));
        };
        self.deadline.as_mut().reset(Instant::now() + self.wait + REQUEST_TIMEOUT);
        let code = tokio::select! {
            biased;
            answer = connection.exchange(method, target, headers) => match answer {
                Ok(answer) => {
                    self.back_off = FIRST_BACK_OFF;
                    return granted(answer);
                }
                Err(_) => "connection",
            },
            () = self.deadline.as_mut() => "timeout",
        };
        self.reconnect().await;
        Err(Failure::new(code))
    }

    /// Makes the connection again, once, after a wait. The call fails in any case, so the wait is never part of a latency.
    async fn reconnect(&mut self) {
        self.connection = None;
        sleep(self.back_off).await;
        self.back_off = MAX_BACK_OFF.min(self.back_off * 2);
        self.connection = HttpConnection::connect(&self.url).await.ok();
    }
}

impl Paths {
    fn new(base: &str, key: &str, wait: Duration) -> Result<Self, hyper::http::uri::InvalidUri> {
        let path = format!("{}/locks/{}", base.trim_end_matches('/'), utf8_percent_encode(key, PATH));
        let wait = if wait.is_zero() { String::new() } else { format!("&wait={}ms", wait.as_millis()) };
        Ok(Self { key: key.to_owned(), acquire: format!("{path}?ttl=30s{wait}").parse()?, release: path.parse()? })
    }
}

fn granted(answer: Answer) -> Outcome<Answer> {
    if answer.status == StatusCode::OK {
        return Ok(answer);
    }
    let code = answer.problem().and_then(|problem| problem.code).filter(|code| code.len() <= MAX_CODE_BYTES);
    Err(Failure::new(code.unwrap_or_else(|| format!("status {}", answer.status.as_u16()))))
}

#[cfg(test)]
mod tests {
    use super::super::gateway_double::GatewayDouble;
    use super::super::{BenchOptions, Report, run};
    use super::*;

    async fn bench(gateway: &GatewayDouble, connections: usize, shared: bool) -> Report {
        let targets = http_targets(&gateway.url, connections, Duration::ZERO).await.unwrap();
        run(targets, BenchOptions { connections, duration: Duration::from_millis(200), shared }).await
    }

    #[tokio::test]
    async fn every_lease_is_released_with_its_own_proof() {
        let gateway = GatewayDouble::start(u64::MAX).await;
        let report = bench(&gateway, 4, false).await;
        let seen = gateway.seen();
        assert!(0 < report.cycles && report.errors.is_empty(), "{report}");
        assert_eq!((seen.connections, seen.granted, seen.released), (4, report.cycles, report.cycles));
        assert_eq!((seen.wrong, seen.held.len(), seen.keys.len()), (0, 0, 4));
    }

    #[tokio::test]
    async fn a_contended_lock_is_refused_counted_and_tried_again() {
        let gateway = GatewayDouble::start(u64::MAX).await;
        let report = bench(&gateway, 4, true).await;
        let seen = gateway.seen();
        assert!(0 < report.cycles && 0 < seen.refused, "{report}");
        assert_eq!(report.errors.into_iter().collect::<Vec<_>>(), [("locked".to_owned(), seen.refused)]);
        assert_eq!((seen.released, seen.wrong, seen.held.len(), seen.keys.len()), (report.cycles, 0, 0, 1));
    }

    #[tokio::test]
    async fn a_lost_connection_is_counted_and_made_again() {
        let gateway = GatewayDouble::start(7).await;
        let report = bench(&gateway, 1, false).await;
        let seen = gateway.seen();
        assert!(1 < seen.hung_up && 1 < seen.connections, "{report}");
        assert_eq!(report.errors.into_iter().collect::<Vec<_>>(), [("connection".to_owned(), seen.hung_up)]);
        assert_eq!((seen.released, seen.wrong, seen.held.len()), (report.cycles, 0, 0));
    }

    #[tokio::test]
    async fn a_run_needs_a_plain_base_url_and_a_sane_number_of_connections() {
        for (url, n, sentence) in [
            ("http://127.0.0.1:1", 0, "0 connections are not possible; allowed are 1 to 10000"),
            ("http://127.0.0.1:1", 10_001, "10001 connections are not possible; allowed are 1 to 10000"),
            ("http://127.0.0.1:1?ttl=1s", 1, "the target must be the gateway's base URL, without a query"),
            ("ftp://127.0.0.1", 1, "the URL must start with http:// or https://"),
        ] {
            assert_eq!(http_targets(url, n, Duration::ZERO).await.err().unwrap().to_string(), sentence);
        }
        assert!(matches!(http_targets("http://127.0.0.1:1", 1, Duration::ZERO).await, Err(BenchError::Connect(_))));
    }

    #[test]
    fn a_key_becomes_a_path_below_the_base() {
        for (base, key, wait, acquire) in
            [("/", "a/b-1", 0, "/locks/a/b-1?ttl=30s"), ("/gateway/", "ä ?", 1, "/gateway/locks/%C3%A4%20%3F?ttl=30s&wait=1000ms")]
        {
            assert_eq!(Paths::new(base, key, Duration::from_secs(wait)).unwrap().acquire.to_string(), acquire);
        }
    }
}
