//! Problems as the OpenAPI document lists them.

use utoipa::IntoResponses;

use super::ProblemBody;

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
    /// `internal`: a bug of the gateway.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemBody),
    /// `no_quorum`: too few nodes could answer; `indeterminate`: answers were lost or came too late; `draining`: the gateway is shutting down; `overloaded` or
    /// `too_many_connections`: it has as much to do as it takes on; `no_keys`: it can check no token yet.
    #[response(status = 503, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds until another try makes sense.")))]
    Unavailable(ProblemBody),
}

/// The caller asks more often than it may.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers for the OpenAPI document; never made")]
pub enum TooOften {
    /// `rate_limited`: the caller asks more often than it may.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds until the next request is allowed.")))]
    RateLimited(ProblemBody),
}

/// The same of an acquire, which there may be too many of besides.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers for the OpenAPI document; never made")]
pub enum TooMany {
    /// `too_many_waiters`: as many requests wait as may; `too_many_holders`: as many share the lock as may; `rate_limited`: the caller asks more often than it
    /// may.
    #[response(status = 429, content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds until another try makes sense.")))]
    TooMany(ProblemBody),
}

/// What can go wrong with a request that may have a body.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers for the OpenAPI document; never made")]
pub enum BodyProblem {
    /// `body_timeout`: the body was not complete after 10 s.
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(ProblemBody),
    /// `body_too_large`: options need less than 64 KiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// `unsupported_media_type`: a body must be `application/json`.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(ProblemBody),
}
