//! The little HTTP/1.1 client behind `exec`, the benchmark, the health check, the keys of issuers and the traces: one connection,
//! bounded answers.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Answers of the gateway are a few hundred bytes; listing the votes of every node stays far below this.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longer than one lost SYN, which Linux repeats after a second, and then after two more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where to connect and what to ask for, from a URL of the form `http[s]://host[:port][/path][?query]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl {
    host: String,
    port: u16,
    is_tls: bool,
    authority: HeaderValue,
    target: Uri,
}

/// Why a text is not a URL that this client can use. Never repeats the text, which may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    #[error("the URL cannot be read: {0}")]
    Malformed(#[source] hyper::http::Error),
    #[error("the URL must start with http:// or https://")]
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
    sender: SendRequest<Full<Bytes>>,
    /// `None` once the connection has ended.
    driver: Option<Driver>,
    authority: HeaderValue,
}

type Driver = http1::Connection<TokioIo<Box<dyn Io>>, Full<Bytes>>;

/// What is in the open or over TLS.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An answer whose body has been read to the end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Vec<u8>,
}

/// Why a document could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    TooLate(Duration),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the answer is not UTF-8")]
    NotText,
}

/// Sends a request to the absolute URL that it is to, on a connection of its own. Has no deadline of its own.
pub async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, SendError> {
    let (head, body) = request.into_parts();
    let url: HttpUrl = head.uri.to_string().parse()?;
    let answer = HttpConnection::connect(&url).await?.exchange_with(head.method, url.target.clone(), head.headers, body).await?;
    let mut response = Response::new(answer.body.into());
    (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
    Ok(response)
}

/// The document at `url`. Redirections are not followed.
pub async fn fetch(url: &HttpUrl, within: Duration) -> Result<String, FetchError> {
    let answer = timeout(within, async { HttpConnection::connect(url).await?.exchange(Method::GET, url.target.clone(), HeaderMap::new()).await });
    let answer = answer.await.map_err(|_| FetchError::TooLate(within))??;
    if !answer.status.is_success() {
        return Err(FetchError::Status(answer.status));
    }
    String::from_utf8(answer.body).map_err(|_| FetchError::NotText)
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    Client(#[from] ClientError),
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
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(UrlError::NotHttp),
        };
        let authority = uri.authority().ok_or(UrlError::NotHttp)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        let port = match authority.port_u16() {
            Some(port) if 0 < port => port,
            None if authority.as_str() == authority.host() => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            _ => return Err(UrlError::Port),
        };
        let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self {
            // An IPv6 address stands in brackets in a URL and without them in a socket address.
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            is_tls,
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
        let stream = stream.map_err(unreachable)?;
        let io: Box<dyn Io> = if url.is_tls { Box::new(secured(url, stream).await.map_err(unreachable)?) } else { Box::new(stream) };
        let (sender, driver) = http1::handshake(TokioIo::new(io)).await?;
        Ok(Self { sender, driver: Some(driver), authority: url.authority.clone() })
    }

    /// Sends one request without a body, and reads the whole answer. Has no deadline of its own.
    pub async fn exchange(&mut self, method: Method, target: Uri, headers: HeaderMap) -> Result<Answer, ClientError> {
        self.exchange_with(method, target, headers, Bytes::new()).await
    }

    async fn exchange_with(&mut self, method: Method, target: Uri, mut headers: HeaderMap, body: Bytes) -> Result<Answer, ClientError> {
        headers.insert(HOST, self.authority.clone());
        let mut request = Request::new(Full::new(body));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, target, headers);

        let (sender, driver) = (&mut self.sender, &mut self.driver);
        let mut answer = pin!(async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            Ok(Answer { body: read(body).await?, status: head.status, headers: head.headers })
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
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The problem document of a refusal, if it has one that can be read.
    pub fn problem(&self) -> Option<Problem> {
        let kind = self.headers.get(CONTENT_TYPE)?.as_bytes();
        if kind.starts_with(b"application/problem+json") { serde_json::from_slice(&self.body).ok() } else { None }
    }
}

/// TLS to whom the system trusts, or those in the file that `SSL_CERT_FILE` names.
async fn secured(url: &HttpUrl, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        // Those that can't be read vouch for nobody.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    });
    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
    let handshake = TlsConnector::from(Arc::clone(&CONFIG)).connect(name, stream);
    timeout(CONNECT_TIMEOUT, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, ClientError> {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if MAX_BODY_BYTES < kept.len() + data.len() {
            return Err(ClientError::TooLong);
        }
        kept.extend_from_slice(&data);
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
            ("https://gateway/readyz", "gateway", 443, "gateway", "/readyz"),
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
            ("ftp://gateway", "the URL must start with http:// or https://"),
            ("gateway:8080", "the URL must start with http:// or https://"),
            ("/readyz", "the URL must start with http:// or https://"),
            ("unix://gateway", "the URL must start with http:// or https://"),
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
