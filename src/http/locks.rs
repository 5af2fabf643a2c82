//! One lock: acquire, extend, release, inspect.

use axum::Json;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::acquiring::{self, ToClient};
use super::auth::{Acquire, Extend, Inspect, OnLock, Undecided};
use super::body::{LeaseBody, LockBody, ReleaseBody};
use super::options::{AcquireOptions, ExtendOptions, InspectOptions, ReleaseOptions, Wait};
use super::problem::{AnyProblem, BodyProblem, Problem, ProblemBody, TooMany, TooOften};
use super::state::{Admitted, AppState};
use super::{leasing, watch};

/// Who holds a lock is old news a moment later, and a lease id is a secret.
pub const NO_STORE: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Acquire a lock
///
/// Tries once, or waits for its turn for as long as `wait` says. The answer is 200 only if the lock is yours; stop using it `waited_ms` + `valid_for_ms` after you sent the request.
///
/// With `mode=shared` others may hold the lock in that mode as well, and nobody else at all; as soon as somebody waits who wants it alone, no more of them are let in. Their tokens are greater than that of whoever held it alone before, and smaller than that of whoever does afterwards.
///
/// With `Accept: text/event-stream` the gateway renews the lease for as long as the connection lives, and releases the lock when it ends. Stop when the stream ends, at an event `lost`, and after a sixth of the ttl without a byte. At `draining` another gateway can go on: repeat the request there with the same `lease_id`.
#[utoipa::path(
    post, path = "/locks/{*key}", tag = "locks",
    params(super::docs::KeyParam, super::docs::ModeParam, super::docs::AcquireParams, super::docs::IdempotencyParam),
    request_body(content = Option<super::docs::AcquireBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The lock is yours. With `Accept: text/event-stream` for as long as the connection lives: the events `acquired` (with this body), `extended`, `lost` and `draining`.",
            content((LeaseBody = "application/json"), (String = "text/event-stream")),
            headers(("Lease-Id" = String, description = "As in the body."), ("Fencing-Token" = u64, description = "As in the body."))),
        (status = 423, description = "`locked`: held by another, named in `holder`.", body = ProblemBody, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds until the holder's lease ends."))),
        AnyProblem, TooMany, BodyProblem,
    )
)]
pub fn acquire(
    State(state): State<AppState>,
    _: Admitted,
    wire: ToClient,
    allowed: OnLock<Acquire>,
    options: AcquireOptions,
) -> impl Future<Output = Result<Response, Problem>> + Send {
    acquiring::acquire(state, wire, allowed.into(), options)
}

/// Extend a lease
///
/// Lets the lease last at least `ttl` from now, or as long as its `max_lifetime` and `lock_delay` leave. Never shortens it and never makes a new one.
#[utoipa::path(
    put, path = "/locks/{*key}", tag = "locks",
    params(super::docs::KeyParam, super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TtlParam),
    request_body(content = Option<super::docs::ExtendBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The lease lasts longer, or at least as long as before.", body = LeaseBody),
        (status = 409, description = "`not_holder`: another lease holds the lock.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`lease_expired`: the lease is gone.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, TooOften, BodyProblem,
    )
)]
pub async fn extend(State(state): State<AppState>, allowed: OnLock<Extend>, options: ExtendOptions) -> Result<Response, Problem> {
    leasing::extend(state, allowed.into(), options).await
}

/// Release a lock
///
/// Safe to repeat: `released` is false when there was nothing to release any more. With `force=true` and a `reason` the
/// lock is taken from whoever holds it now, which the log tells; its fence stays, so that the old holder's writes are
/// refused by whoever checks tokens.
#[utoipa::path(
    delete, path = "/locks/{*key}", tag = "locks",
    params(super::docs::KeyParam, super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TokenParam, super::docs::ReleaseQuery),
    responses(
        (status = 200, description = "The lease does not hold the lock (any more).", body = ReleaseBody),
        (status = 409, description = "`not_holder`: another lease holds the lock, or this one under a newer token; it stays. By force also `contended`: no majority agrees on who holds it.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, TooOften, BodyProblem,
    )
)]
pub async fn release(State(state): State<AppState>, asked: Undecided, options: ReleaseOptions) -> Result<Response, Problem> {
    leasing::release(state, asked, options).await
}

/// Inspect a lock
///
/// Whether it is held and by whom, as a majority of the nodes sees it. It may be different a moment later. With `wait` the
/// answer comes when the lock is free, or when that time is over.
///
/// With `Accept: text/event-stream` what happens to the lock is told as it happens, through whichever gateway: first `state`, then `acquired`, `extended`, `released` and `expired`, each with the same body; `unknown` while too few nodes answer, and `draining` at the end. Of what lasts some milliseconds only the outcome may be told.
#[utoipa::path(
    get, path = "/locks/{*key}", tag = "locks",
    params(super::docs::KeyParam, super::docs::WaitParam),
    responses(
        (status = 200, description = "The state of the lock, or what happens to it.", content((LockBody = "application/json"), (String = "text/event-stream"))),
        AnyProblem, TooMany, BodyProblem,
    )
)]
pub async fn inspect(State(state): State<AppState>, OnLock { key, .. }: OnLock<Inspect>, options: InspectOptions) -> Result<Response, Problem> {
    let InspectOptions { wait, watches } = options;
    if watches {
        // Before the look, so that nothing is missed between the two.
        let watch = state.redlock.watch(&key);
        let now = state.redlock.inspect(key.clone()).await?;
        let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/event-stream")), NO_STORE];
        return Ok((headers, watch::events(state, key, watch, now)).into_response());
    }
    let now = if wait.time.is_zero() { state.redlock.inspect(key.clone()).await? } else { watch::until_free(&state, &key, wait.time).await? };
    let (lock_state, holder, holders) = watch::described_state(&now);
    let mut response = ([NO_STORE], Json(LockBody { key: key.as_str(), state: lock_state, holder, holders })).into_response();
    Wait::tell(wait.preference, &mut response);
    Ok(response)
}
