//! The little HTTP/1.1 client behind the benchmark and the health check: plain http, one connection, bounded answers.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Answers of the gateway are a few hundred bytes; listing the votes of every node stays far below this.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longer than one lost SYN, which Linux repeats after a second, and then after two more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to connect and what to ask for, from a URL of the form `http://host[:port][/path][?query]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    host: String,
    port: u16,
    authority: HeaderValue,
    target: Uri,
}

/// Why a text is not a URL that this client can use. Never repeats the text, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    #[error("the URL cannot be read: {0}")]
    Malformed(#[source] hyper::http::Error),
    #[error("https is not supported here; use http://, on the gateway's own machine or through a proxy that ends TLS")]
    Https,
    #[error("the URL must start with http://")]
    NotHttp,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("a user and password in a URL are not supported")]
    UserInfo,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {authority}: {source}")]
    Connect { authority: String, source: io::Error },
    #[error("the connection failed: {0}")]
    Connection(#[from] hyper::Error),
    #[error("the answer is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
}

/// One keep-alive connection. After an error, or an exchange that was dropped half-way, it is of no more use.
///
/// Its input and output are driven by whoever waits for an answer, so a request costs no switch to another task.
pub struct HttpConnection {
    sender: SendRequest<Empty<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>>,
    authority: HeaderValue,
}

/// An answer whose body has been read to the end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Empty on success: nobody asks for it.
    refusal: Vec<u8>,
}

/// The part of a problem document (RFC 9457) that matters here.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub code: Option<String>,
    pub detail: Option<String>,
}

impl HttpUrl {
    /// The path and query, ready to be sent.
    pub fn target(&self) -> &Uri {
        &self.target
    }
}

impl FromStr for HttpUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri = Uri::from_str(text).map_err(|error| UrlError::Malformed(error.into()))?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => return Err(UrlError::Https),
            _ => return Err(UrlError::NotHttp),
        }
        let authority = uri.authority().ok_or(UrlError::NotHttp)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        let port = match authority.port_u16() {
            Some(port) if 0 < port => port,
            None if authority.as_str() == authority.host() => 80,
            _ => return Err(UrlError::Port),
        };
        let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self {
            // An IPv6 address stands in brackets in a URL and without them in a socket address.
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|error| UrlError::Malformed(error.into()))?,
            target: target.into(),
        })
    }
}

impl HttpConnection {
    /// Connects within [`CONNECT_TIMEOUT`], with TCP_NODELAY.
    pub async fn connect(url: &HttpUrl) -> Result<Self, ClientError> {
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect((url.host.as_str(), url.port))).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let unreachable = |source| ClientError::Connect { authority: String::from_utf8_lossy(url.authority.as_bytes()).into_owned(), source };
        let (sender, driver) = http1::handshake(TokioIo::new(stream.map_err(unreachable)?)).await?;
        Ok(Self { sender, driver: Some(driver), authority: url.authority.clone() })
    }

    /// Sends one request without a body, and reads the whole answer. Has no deadline of its own.
    pub async fn exchange(&mut self, method: Method, target: Uri, mut headers: HeaderMap) -> Result<Answer, ClientError> {
        headers.insert(HOST, self.authority.clone());
        let mut request = Request::new(Empty::new());
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, target, headers);

        let (sender, driver) = (&mut self.sender, &mut self.driver);
        let mut answer = pin!(async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok(Answer { refusal: read(body, head.status).await?, status: head.status, headers: head.headers })
        });
        poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            if driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(context).is_ready()) {
                *driver = None;
            }
            // What the connection has just read need not wait for the next turn.
            answer.as_mut().poll(context)
        })
        .await
    }
}

impl Answer {
    /// The problem document of a refusal, if it has one that can be read.
    pub fn problem(&self) -> Option<Problem> {
        let kind = self.headers.get(CONTENT_TYPE)?.as_bytes();
        if kind.starts_with(b"application/problem+json") { serde_json::from_slice(&self.refusal).ok() } else { None }
    }
}

async fn read(mut body: Incoming, status: StatusCode) -> Result<Vec<u8>, ClientError> {
    let mut kept = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len();
        if MAX_BODY_BYTES < length {
            return Err(ClientError::TooLong);
        }
        if !status.is_success() {
            kept.extend_from_slice(&data);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_connect_and_what_to_ask_for() {
        for (text, host, port, authority, target) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080, "127.0.0.1:8080", "/"),
            ("http://gateway/readyz?verbose", "gateway", 80, "gateway", "/readyz?verbose"),
            ("HTTP://gateway?verbose", "gateway", 80, "gateway", "/?verbose"),
            ("http://[::1]:8080/readyz", "::1", 8080, "[::1]:8080", "/readyz"),
            ("http://gateway/#part", "gateway", 80, "gateway", "/"),
        ] {
            let url: HttpUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.authority.to_str().unwrap()), (host, port, authority), "{text}");
            assert_eq!(url.target().to_string(), target, "{text}");
        }
    }

    #[test]
    fn other_urls_are_refused_and_never_repeated() {
        for (text, sentence) in [
            ("https://gateway", "https is not supported here; use http://, on the gateway's own machine or through a proxy that ends TLS"),
            ("gateway:8080", "the URL must start with http://"),
            ("/readyz", "the URL must start with http://"),
            ("unix://gateway", "the URL must start with http://"),
            ("http://user:secret@gateway", "a user and password in a URL are not supported"),
            ("http://", "the URL cannot be read: empty string"),
            ("http://gateway:99999", "the port is not a number from 1 to 65535"),
            ("http://gateway:0", "the port is not a number from 1 to 65535"),
            ("http://gateway:", "the port is not a number from 1 to 65535"),
        ] {
            assert_eq!(text.parse::<HttpUrl>().unwrap_err().to_string(), sentence, "{text}");
        }
    }
}
