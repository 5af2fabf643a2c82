//! Asks a running gateway whether it is well: what a container runtime calls where there is no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};

pub use crate::http_client::{ClientError, UrlError};
use crate::http_client::{HttpConnection, HttpUrl};

/// Why a gateway does not count as well.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    NoAnswer(#[from] ClientError),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TooLate(Duration),
    /// `detail` is the gateway's own sentence, where it gave one.
    #[error("answered {status}{}", .detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Unwell { status: StatusCode, detail: Option<String> },
}

/// Where a gateway of this machine that listens on `listen` says whether it is ready.
pub fn own_url(listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        // To listen on all addresses is to listen on the loopback one.
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}/readyz", SocketAddr::new(ip, listen.port()))
}

/// Asks for `url`, such as `http://127.0.0.1:8080/readyz`, and is content with any 2xx that is there before `timeout` has passed.
///
/// Redirections are not followed: they are no 2xx.
pub async fn healthcheck(url: &str, timeout: Duration) -> Result<(), HealthcheckError> {
    let url: HttpUrl = url.parse()?;
    tokio::time::timeout(timeout, ask(&url)).await.unwrap_or(Err(HealthcheckError::TooLate(timeout)))
}

async fn ask(url: &HttpUrl) -> Result<(), HealthcheckError> {
    let answer = HttpConnection::connect(url).await?.exchange(Method::GET, url.target().clone(), HeaderMap::new()).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(HealthcheckError::Unwell { status: answer.status, detail: answer.problem().and_then(|problem| problem.detail) })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_gateway_is_asked_where_it_listens() {
        for (listen, asked) in [("10.0.0.7:80", "10.0.0.7:80"), ("0.0.0.0:81", "127.0.0.1:81"), ("[::]:82", "[::1]:82")] {
            assert_eq!(own_url(listen.parse().unwrap()), format!("http://{asked}/readyz"));
        }
    }

    /// The outcome against a server that gives `answer`, whatever is asked, and then leaves the connection open.
    async fn outcome(answer: String) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            let _ = stream.write_all(answer.as_bytes()).await;
            std::future::pending::<()>().await;
        });
        let outcome = healthcheck(&url, Duration::from_millis(300)).await.map_err(|error| error.to_string());
        server.abort();
        outcome
    }

    fn answer(status: &str, kind: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn only_a_2xx_is_well_and_a_problem_says_why_not() {
        let problem = r#"{"code":"no_quorum","detail":"2 of 5 nodes can vote; 3 are needed"}"#;
        for (answer, expected) in [
            (answer("200 OK", "text/plain", "ready"), Ok(())),
            ("HTTP/1.1 204 No Content\r\n\r\n".into(), Ok(())),
            (
                answer("503 Service Unavailable", "application/problem+json", problem),
                Err("answered 503 Service Unavailable: 2 of 5 nodes can vote; 3 are needed"),
            ),
            (answer("503 Service Unavailable", "application/json", problem), Err("answered 503 Service Unavailable")),
            (answer("301 Moved Permanently", "text/plain", ""), Err("answered 301 Moved Permanently")),
            (answer("500 Internal Server Error", "text/plain", &"x".repeat(65_537)), Err("the answer is longer than 65536 bytes")),
            (String::new(), Err("no answer within 300ms")),
        ] {
            assert_eq!(outcome(answer).await, expected.map_err(str::to_owned));
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_named() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = healthcheck(&format!("http://{address}/readyz"), Duration::from_secs(5)).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
    }
}
