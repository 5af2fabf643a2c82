//! The gateway, from the side of a client that holds one lock.

use std::fmt;
use std::io;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER};
use hyper::{Method, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout};

use super::{Ended, ExecOptions};
use crate::http_client::{Answer, ClientError, HttpConnection, HttpUrl, UrlError};
use crate::lease::{LeaseId, LockKey};

/// Why nothing could be begun.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("server: {0}")]
    Url(#[from] UrlError),
    #[error("server: write where the gateway is, such as http://127.0.0.1:8080, without a path")]
    HasPath,
    #[error("token: it is no text that can stand in a header")]
    Token(#[from] InvalidHeaderValue),
    #[error("signals cannot be listened to: {0}")]
    Signals(#[from] io::Error),
}

/// A lease, by this machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Just before the request was sent, or the attempt that won was begun.
    pub asked: Instant,
    pub valid_until: Instant,
    pub fencing_token: u64,
}

impl Lease {
    /// An extend never shortens.
    pub fn prolong(&mut self, renewed: Self) {
        *self = Self { valid_until: self.valid_until.max(renewed.valid_until), ..renewed };
    }
}

/// Why a request did not do what it was to.
#[derive(Debug)]
pub enum Failure {
    /// Another holds the lock.
    Locked(String),
    /// The lease is over, or another's.
    Gone(String),
    /// Another try may be answered otherwise; something may have been done.
    Open { why: String, retry_after: Option<Duration> },
    /// The gateway will not do it.
    Refused(String),
}

/// One lock, as this caller asks for it.
pub struct Gateway {
    servers: Vec<HttpUrl>,
    /// Which of them is asked.
    at: usize,
    path: String,
    query: String,
    lease_id: LeaseId,
    headers: HeaderMap,
    ttl: Duration,
}

#[derive(Deserialize)]
struct LeaseAnswer {
    fencing_token: u64,
    waited_ms: u64,
    valid_for_ms: u64,
}

/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Longer than an answer takes of which the request is not told to wait. A gateway that hangs is given up after it, and a repeat
/// has the same lease id.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Gateways bound a wait, to a minute unless they were told otherwise, so a longer one is asked for in parts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long one try to release may take.
const RELEASE_TRY: Duration = Duration::from_secs(1);
/// Before a request is repeated that failed.
const RETRY: Duration = Duration::from_millis(500);

impl Gateway {
    pub fn new(options: &ExecOptions, lease_id: LeaseId) -> Result<Self, ServerError> {
        let servers = options.servers.iter().map(|text| text.parse::<HttpUrl>()).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() || servers.iter().any(|url| url.target() != "/") {
            return Err(ServerError::HasPath);
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &options.token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        headers.insert(HeaderName::from_static("lease-id"), HeaderValue::from_str(lease_id.reveal())?);
        let owner = options.owner.as_ref().map(|owner| format!("&owner={}", utf8_percent_encode(owner.as_str(), NON_ALPHANUMERIC)));
        let mode = if options.shared { "&mode=shared" } else { "" };
        let min_hold = options.min_hold.map(|min_hold| format!("&min_hold={}ms", min_hold.as_millis()));
        Ok(Self {
            servers,
            at: 0,
            path: format!("/locks/{}", utf8_percent_encode(options.key.as_str(), PLAIN)),
            query: format!("?ttl={}ms", options.ttl.as_millis()) + mode + &owner.unwrap_or_default() + &min_hold.unwrap_or_default(),
            lease_id,
            headers,
            ttl: options.ttl,
        })
    }

    /// What a command is told of the lock that it runs under, in the order of [`super::VARIABLES`].
    pub fn environment(&self, key: &LockKey, fencing_token: u64) -> [String; 3] {
        [key.as_str().to_owned(), self.lease_id.reveal().to_owned(), fencing_token.to_string()]
    }

    /// Asks until the lock is there, somebody else's after `wait`, or it is clear that it can't be had. A repeat has the same
    /// lease id, so that a grant whose answer was lost is told again.
    pub async fn acquire(&mut self, wait: Duration) -> Result<Lease, Failure> {
        let give_up = Instant::now() + wait;
        let mut longest = LONGEST_WAIT;
        let mut others = self.servers.len() - 1;
        loop {
            let left = give_up.saturating_duration_since(Instant::now()).min(longest);
            let target = format!("{}{}&wait={}ms", self.path, self.query, left.as_millis());
            let failure = match self.ask(Method::POST, &target, left + ANSWER_TIMEOUT).await {
                Ok(lease) => return Ok(lease),
                Err(failure) => failure,
            };
            let pause = match &failure {
                Failure::Locked(_) => Duration::ZERO,
                // Each is asked, whatever there is to wait for.
                Failure::Open { .. } if 0 < others => {
                    others -= 1;
                    continue;
                }
                Failure::Open { retry_after, .. } => retry_after.unwrap_or(RETRY),
                // This gateway lets nobody wait for so long.
                Failure::Refused(why) if why.contains("wait:") && Duration::from_secs(1) < longest => {
                    longest /= 2;
                    continue;
                }
                Failure::Gone(_) | Failure::Refused(_) => return Err(failure),
            };
            if give_up <= Instant::now() + pause {
                return Err(failure);
            }
            sleep(pause).await;
        }
    }

    /// Asks once for another ttl from now.
    pub async fn extend(&mut self) -> Result<Lease, Failure> {
        let target = format!("{}?ttl={}ms", self.path, self.ttl.as_millis());
        self.ask(Method::PUT, &target, (self.ttl / 6).max(Duration::from_millis(50))).await
    }

    /// Asks until it is answered. The caller bounds it.
    pub async fn release(&mut self, fencing_token: Option<u64>) {
        if let Some(token) = fencing_token {
            self.headers.insert(HeaderName::from_static("fencing-token"), HeaderValue::from(token));
        }
        loop {
            match self.send(Method::DELETE, &self.path.clone(), RELEASE_TRY).await {
                Ok(answer) if !matches!(Failure::of(&answer), Failure::Open { .. }) => return,
                _ => sleep(RETRY).await,
            }
        }
    }

    async fn ask(&mut self, method: Method, target: &str, within: Duration) -> Result<Lease, Failure> {
        let sent = Instant::now();
        let answer = self.send(method, target, within).await.map_err(|error| Failure::Open { why: error.to_string(), retry_after: None })?;
        if answer.status != StatusCode::OK {
            return Err(Failure::of(&answer));
        }
        let unreadable = |_| Failure::Refused("the answer is none of a redlockd gateway".into());
        let LeaseAnswer { fencing_token, waited_ms, valid_for_ms } = serde_json::from_slice(answer.body()).map_err(unreadable)?;
        let asked = sent + Duration::from_millis(waited_ms);
        Ok(Lease { asked, valid_until: asked + Duration::from_millis(valid_for_ms), fencing_token })
    }

    /// On a connection of its own: requests are seconds apart. After a failure the next server is asked.
    async fn send(&mut self, method: Method, target: &str, within: Duration) -> Result<Answer, SendFailure> {
        let url = &self.servers[self.at];
        let target: Uri = target.parse().map_err(|_| SendFailure::TooLate)?;
        let exchange = async { HttpConnection::connect(url).await?.exchange(method, target, self.headers.clone()).await };
        let outcome = match timeout(within, exchange).await {
            Ok(outcome) => outcome.map_err(SendFailure::Client),
            Err(_) => Err(SendFailure::TooLate),
        };
        if !matches!(&outcome, Ok(answer) if answer.status != StatusCode::SERVICE_UNAVAILABLE) {
            self.at = (self.at + 1) % self.servers.len();
        }
        outcome
    }
}

#[derive(Debug, thiserror::Error)]
enum SendFailure {
    #[error(transparent)]
    Client(ClientError),
    #[error("no answer in time")]
    TooLate,
}

impl Failure {
    fn of(answer: &Answer) -> Self {
        let problem = answer.problem().unwrap_or_default();
        let why = problem.detail.unwrap_or_else(|| format!("the gateway answered {}", answer.status));
        match (answer.status.as_u16(), problem.code.as_deref()) {
            (423, _) => Self::Locked(why),
            (409 | 410, _) => Self::Gone(why),
            (408 | 429 | 500.., _) => {
                let seconds = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                Self::Open { why, retry_after: seconds.map(Duration::from_secs) }
            }
            _ => Self::Refused(why),
        }
    }

    /// Whether the lock may be held all the same, by a request whose answer was lost.
    pub fn may_be_held(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    pub fn ended(&self) -> Ended {
        match self {
            Self::Locked(_) | Self::Gone(_) => Ended::Contended,
            Self::Open { .. } => Ended::Unavailable,
            Self::Refused(_) => Ended::Refused,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(why) | Self::Gone(why) | Self::Open { why, .. } | Self::Refused(why) => f.write_str(why),
        }
    }
}
