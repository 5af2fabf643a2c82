//! Everything that is not a success: facts of the engine become a status, a stable code and a sentence (RFC 9457).

mod answers;
mod documented;
mod engine;

use std::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

pub use answers::{method_not_allowed, no_such_operation, no_such_route, only_problems, panicked, too_many_connections};
pub use documented::{AnyProblem, BodyProblem, TooMany, TooOften};

use super::body::HolderBody;
use crate::redlock::Shortfall;

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

    /// Nobody can be let in yet.
    pub fn no_keys() -> Self {
        let detail = "The keys of the issuer of tokens could not be had yet, so that no token can be checked; the log says why. Ask another gateway.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_keys", "No keys", detail).retry_after(Duration::from_secs(1))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds_and_never_0() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (29_999, 30)] {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }
}
