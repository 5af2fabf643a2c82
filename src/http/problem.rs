//! Everything that is not a success: facts of the engine become a status, a stable code and a sentence (RFC 9457).

use std::any::Any;
use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tracing::error;
use utoipa::{IntoResponses, ToSchema};

use super::body::HolderBody;
use crate::redlock::{AcquireError, ExtendError, ForceError, InspectError, ListError, ReleaseError, Shortfall};

/// A refusal or a failure, on its way to the client.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Box<ProblemBody>,
}

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// A name for the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:redlockd:locked")]
    kind: String,
    /// The kind of problem in a few words.
    #[schema(example = "Locked")]
    title: &'static str,
    /// The HTTP status, again.
    #[schema(example = 423)]
    status: u16,
    /// For programs: stable.
    #[schema(example = "locked")]
    code: &'static str,
    /// For people: what happened, and what to do.
    #[schema(example = "The lock is held by another. Try again when it has expired or was released.")]
    detail: String,
    /// Who holds the lock, if a gateway wrote its record.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<HolderBody>,
    /// What each node answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    votes: Option<Vec<VoteBody>>,
    /// How many nodes have to agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<usize>,
}

/// One node's answer, in a word.
#[derive(Debug, Serialize, ToSchema)]
pub struct VoteBody {
    #[schema(example = "n1")]
    node: String,
    /// `accepted`, `busy`, `unreachable`, `refused`, `silent`, `quarantined` and so on; `pending` if it was not waited for.
    #[schema(example = "unreachable")]
    vote: &'static str,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        let kind = format!("urn:redlockd:{code}");
        let body = ProblemBody { kind, title, status: status.as_u16(), code, detail: detail.into(), holder: None, votes: None, required: None };
        Self { status, retry_after: None, body: Box::new(body) }
    }

    /// Bad input: `detail` says which value, what was given and what is allowed.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "Invalid request", detail)
    }

    pub fn draining() -> Self {
        let detail = "This gateway is shutting down and takes no new locks; ask another one, or this one again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", "Shutting down", detail).retry_after(Duration::from_secs(1))
    }

    pub fn not_ready(voting: usize, required: usize, nodes: usize) -> Self {
        let detail = format!("{voting} of {nodes} nodes vote and {required} are required; GET /nodes says what is wrong with the others.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_quorum", "No quorum", detail).retry_after(Duration::from_secs(1))
    }

    /// No credential, or one that nobody here knows.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail)
    }

    /// A credential that does not allow it.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", detail)
    }

    /// A caller that asks more often than it may.
    pub fn rate_limited(wait: Duration) -> Self {
        let detail = "You ask more often than rate_limit allows one caller. Wait as long as Retry-After says.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests", detail).retry_after(wait)
    }

    /// More requests at once than the bound of `max`.
    pub fn overloaded(max: usize) -> Self {
        let detail = format!(
            "This gateway works on {max} requests, as many as max_requests allows. Nothing was done; ask another one, or this one again in a moment."
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded", detail).retry_after(Duration::from_secs(1))
    }

    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
    }

    /// What programs know it by.
    pub fn code(&self) -> &'static str {
        self.body.code
    }

    fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    fn holder(mut self, holder: Option<HolderBody>) -> Self {
        self.body.holder = holder;
        self
    }

    fn no_quorum(shortfall: Shortfall, detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_quorum", "No quorum", detail).votes(shortfall)
    }

    fn indeterminate(shortfall: Shortfall, detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "indeterminate", "Indeterminate", detail).votes(shortfall)
    }

    fn not_holder(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "not_holder", "Not the holder", detail)
    }

    fn votes(mut self, shortfall: Shortfall) -> Self {
        let votes = shortfall.votes.into_iter().map(|vote| VoteBody { node: vote.node.to_string(), vote: vote.vote });
        let votes: Vec<VoteBody> = votes.collect();
        if votes.iter().any(|vote| vote.vote == "failed") {
            self.body.detail.push_str(
                " A node that failed is there and could not carry out the command: it is out of memory, or the lock's Redis key is of a type that is not ours.",
            );
        }
        self.body.votes = Some(votes);
        self.body.required = Some(shortfall.required);
        self.retry_after(Duration::from_secs(1))
    }
}

const HELD_BY_OTHER: &str = "Another lease holds the lock; it stays as it is. The lease that you named is over, or was never granted.";

impl From<AcquireError> for Problem {
    fn from(error: AcquireError) -> Self {
        let locked = |detail: &str| Self::new(StatusCode::LOCKED, "locked", "Locked", detail);
        match error {
            AcquireError::Held(Some(holder)) => locked("The lock is held by another. Try again when it has expired or was released.")
                .retry_after(holder.left.unwrap_or(Duration::from_secs(1)))
                .holder(Some(HolderBody::from(&holder))),
            AcquireError::Held(None) => locked("Several callers ask for the lock at once and this one did not get it. Try again in a moment.")
                .retry_after(Duration::from_secs(1)),
            AcquireError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could vote, so nobody can get a lock now; nothing is held. GET /nodes says why.")
            }
            AcquireError::Indeterminate(shortfall) => Self::indeterminate(
                shortfall,
                "Answers of nodes were lost or came too late. What was written is being undone; it is safe to repeat with the same lease_id.",
            ),
        }
    }
}

impl From<ExtendError> for Problem {
    fn from(error: ExtendError) -> Self {
        match error {
            ExtendError::HeldByOther => Self::not_holder(HELD_BY_OTHER),
            ExtendError::Expired => Self::new(
                StatusCode::GONE,
                "lease_expired",
                "Lease expired",
                "The lease is gone, by its ttl or by a release, and was not made anew. Stop what it protected, then acquire again.",
            ),
            ExtendError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could answer; the lease keeps the deadline that it had. GET /nodes says why.")
            }
            ExtendError::Indeterminate(shortfall) => Self::indeterminate(
                shortfall,
                "Answers of nodes were lost or came too late; count on the deadline that the lease had. It is safe to repeat.",
            ),
        }
    }
}

impl From<ReleaseError> for Problem {
    fn from(error: ReleaseError) -> Self {
        let detail =
            "The release is not known to be complete and goes on in the background; at the latest the ttl ends the lease. It is safe to repeat.";
        match error {
            ReleaseError::HeldByOther => Self::not_holder(HELD_BY_OTHER),
            ReleaseError::HeldNewer(token) => Self::not_holder(format!(
                "The lease holds the lock under the newer fencing token {}, and keeps it. To release it, name that token or none.",
                token.get()
            )),
            ReleaseError::NotBegun(shortfall) => Self::no_quorum(
                shortfall,
                "This gateway has heard too few nodes to know the time by, so nothing was begun. Repeat it, or ask another gateway.",
            ),
            ReleaseError::NoQuorum(shortfall) => Self::no_quorum(shortfall, detail),
            ReleaseError::Indeterminate(shortfall) => Self::indeterminate(shortfall, detail),
        }
    }
}

impl From<ForceError> for Problem {
    fn from(error: ForceError) -> Self {
        match error {
            ForceError::Contended => Self::new(
                StatusCode::CONFLICT,
                "contended",
                "Contended",
                "No majority agrees on who holds the lock: somebody is just getting it, or a failed attempt left something behind that ends with its ttl.",
            )
            .retry_after(Duration::from_secs(1)),
            ForceError::Foreign => Self::not_holder(
                "A program other than redlockd holds the lock, and would not notice to have lost it. Stop that program, or delete the Redis key on every node.",
            ),
            ForceError::Release(ReleaseError::HeldByOther | ReleaseError::HeldNewer(_)) => {
                Self::not_holder("The lock has got another holder in the meantime, who keeps it. Look again before you force that one.")
            }
            ForceError::Inspect(error) => error.into(),
            ForceError::Release(error) => error.into(),
        }
    }
}

impl From<InspectError> for Problem {
    fn from(error: InspectError) -> Self {
        let detail = "No majority of the nodes could say whether the lock is held. GET /nodes says why.";
        match error {
            InspectError::NoQuorum(shortfall) => Self::no_quorum(shortfall, detail),
            InspectError::Indeterminate(shortfall) => Self::indeterminate(shortfall, detail),
        }
    }
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor => {
                Self::invalid("cursor: it is not one that this service gave out; pass next_cursor of the page before, or none for the first.")
            }
            ListError::NoQuorum(shortfall) => {
                Self::no_quorum(shortfall, "Too few nodes could be scanned to be sure that no lock is missing. GET /nodes says why.")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"redlockd\""));
        }
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

const PROBLEM_JSON: &str = "application/problem+json";

/// `Retry-After` knows seconds only: rounded up, and never 0, which would invite a busy loop.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_millis() as u64).div_ceil(1000).max(1)
}

pub async fn no_such_route(uri: Uri) -> Problem {
    not_found(&uri, "locks are at /locks/{key}, the documentation is at /docs")
}

pub async fn no_such_operation(uri: Uri) -> Problem {
    not_found(&uri, "this address has /metrics, /livez and /readyz only")
}

fn not_found(uri: &Uri, advice: &str) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", format!("There is nothing at {path:?}; {advice}."))
}

pub async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} is not possible here; the header Allow says what is.", request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
}

/// What whoever connects beyond the bound of `max` is told, before the connection is closed.
pub fn too_many_connections(max: usize) -> Response {
    let detail = format!("This gateway has {max} connections, as many as max_connections allows. Close those that idle, or ask another gateway.");
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", "Too many connections", detail);
    let mut response = problem.retry_after(Duration::from_secs(1)).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A bug of ours: told to the log, not to the client.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = text.unwrap_or("no text"), "a handler panicked");
    Problem::internal("The gateway met a bug of its own; its log has the details. What was begun is being undone.").into_response()
}

/// Gives answers of the framework (a missing file of the documentation, say) the same form as ours.
pub fn only_problems(response: Response) -> Response {
    let status = response.status();
    let is_problem = |headers: &HeaderMap| headers.get(CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    if !(status.is_client_error() || status.is_server_error()) || is_problem(response.headers()) {
        return response;
    }
    let (code, title) = match status {
        StatusCode::NOT_FOUND => ("not_found", "Not found"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "Method not allowed"),
        status if status.is_client_error() => ("invalid_request", "Invalid request"),
        _ => ("internal", "Internal error"),
    };
    let mut problem = Problem::new(status, code, title, status.canonical_reason().unwrap_or("The request failed.")).into_response();
    if let Some(allow) = response.headers().get(ALLOW) {
        problem.headers_mut().insert(ALLOW, allow.clone());
    }
    problem
}

/// What can go wrong with every request.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers for the OpenAPI document; never made")]
pub enum AnyProblem {
    /// `invalid_request`: says which value, what was given and what is allowed.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemBody),
    /// `unauthorized`: the gateway wants a bearer token that it knows.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(ProblemBody),
    /// `forbidden`: the token does not allow it.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(ProblemBody),
    /// `rate_limited`: the caller asks more often than it may.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds until the next request is allowed.")))]
    RateLimited(ProblemBody),
    /// `internal`: a bug of the gateway.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemBody),
    /// `no_quorum`: too few nodes could answer; `indeterminate`: answers were lost or came too late; `draining`: the gateway is shutting down; `overloaded` or `too_many_connections`: it has as much to do as it takes on.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds until another try makes sense.")))]
    Unavailable(ProblemBody),
}

/// What can go wrong with a request that may have a body.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers for the OpenAPI document; never made")]
pub enum BodyProblem {
    /// `body_timeout`: the body was not complete after 10 s.
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(ProblemBody),
    /// `body_too_large`: options need less than 16 KiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// `unsupported_media_type`: a body must be `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(ProblemBody),
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn assert_is_problem(response: Response, status: StatusCode, code: &str) -> serde_json::Value {
        assert_eq!((response.status(), &response.headers()[CONTENT_TYPE]), (status, &HeaderValue::from_static(PROBLEM_JSON)));
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap();
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.as_u16().into()));
        body
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_keeps_its_text_to_the_log() {
        let body = assert_is_problem(panicked(Box::new("the secret of it")), StatusCode::INTERNAL_SERVER_ERROR, "internal").await;
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn answers_of_the_framework_become_problems() {
        let plain = |status: StatusCode| (status, [(ALLOW, "GET")], "plain text").into_response();
        for (status, code) in [
            (StatusCode::NOT_FOUND, "not_found"),
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            (StatusCode::BAD_REQUEST, "invalid_request"),
            (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        ] {
            let response = only_problems(plain(status));
            assert_eq!(response.headers()[ALLOW], "GET");
            assert_is_problem(response, status, code).await;
        }
        assert!(!only_problems(plain(StatusCode::OK)).headers().contains_key(CACHE_CONTROL));
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds_and_never_0() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (29_999, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }
}
