//! One semaphore: take one of its slots, extend, release, inspect.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::acquiring::{self, ToClient};
use super::auth::{Acquire, Extend, Inspect, OnLock, Undecided};
use super::body::{LeaseBody, ReleaseBody, SemaphoreBody, SlotBody};
use super::leasing;
use super::locks::NO_STORE;
use super::options::{ExtendOptions, NoOptions, ReleaseOptions, SlotOptions};
use super::problem::{AnyProblem, BodyProblem, Problem, ProblemBody, TooMany, TooOften};
use super::state::{Admitted, AppState};
use crate::redlock::Inspected;

/// Take a slot of a semaphore
///
/// At most `limit` callers have one at a time, each with a number of its own. Whoever asks says the limit; those who have a slot agree on it, and another limit is refused until all of them are gone. The fencing token is greater than that of every slot that was taken before, whichever it was.
///
/// Waiting and holding are as with a lock.
#[utoipa::path(
    post, path = "/semaphores/{*key}", operation_id = "acquire_slot", tag = "semaphores",
    params(super::docs::SemaphoreParam, super::docs::LimitParam, super::docs::AcquireParams, super::docs::IdempotencyParam),
    request_body(content = Option<super::docs::SlotAcquireBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The slot is yours. With `Accept: text/event-stream` for as long as the connection lives.",
            content((LeaseBody = "application/json"), (String = "text/event-stream")),
            headers(("Lease-Id" = String, description = "As in the body."), ("Fencing-Token" = u64, description = "As in the body."))),
        (status = 409, description = "`limit_differs`: those who have a slot agree on another limit.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "`locked`: every slot is taken. `holder` is the one who may stay longest.", body = ProblemBody, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds until the last lease ends; a slot may be free sooner."))),
        AnyProblem, TooMany, BodyProblem,
    )
)]
pub fn acquire(
    State(state): State<AppState>,
    _: Admitted,
    wire: ToClient,
    allowed: OnLock<Acquire>,
    SlotOptions(options): SlotOptions,
) -> impl Future<Output = Result<Response, Problem>> + Send {
    acquiring::acquire(state, wire, allowed.into(), options)
}

/// Extend the lease of a slot
///
/// Lets the lease last at least `ttl` from now, or as long as its `max_lifetime` and `lock_delay` leave. Never shortens it and never makes a new one.
#[utoipa::path(
    put, path = "/semaphores/{*key}", operation_id = "extend_slot", tag = "semaphores",
    params(super::docs::SemaphoreParam, super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TtlParam),
    request_body(content = Option<super::docs::ExtendBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The lease lasts longer, or at least as long as before.", body = LeaseBody),
        (status = 410, description = "`lease_expired`: the lease is gone.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, TooOften, BodyProblem,
    )
)]
pub async fn extend(State(state): State<AppState>, allowed: OnLock<Extend>, options: ExtendOptions) -> Result<Response, Problem> {
    leasing::extend(state, allowed.into(), options).await
}

/// Give a slot back
///
/// Safe to repeat: `released` is false when there was nothing to release any more. With `force=true` and a `reason` every slot is taken from whoever has it now.
#[utoipa::path(
    delete, path = "/semaphores/{*key}", operation_id = "release_slot", tag = "semaphores",
    params(super::docs::SemaphoreParam, super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TokenParam, super::docs::ReleaseQuery),
    responses(
        (status = 200, description = "The lease does not have a slot (any more).", body = ReleaseBody),
        (status = 409, description = "`not_holder`: this lease has a slot under a newer token; it stays. By force also `contended`: no majority agrees on who has one.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, TooOften, BodyProblem,
    )
)]
pub async fn release(State(state): State<AppState>, asked: Undecided, options: ReleaseOptions) -> Result<Response, Problem> {
    leasing::release(state, asked, options).await
}

/// Inspect a semaphore
///
/// How many slots are held and by whom, as a majority of the nodes sees it. It may be different a moment later.
#[utoipa::path(
    get, path = "/semaphores/{*key}", operation_id = "inspect_semaphore", tag = "semaphores",
    params(super::docs::SemaphoreParam),
    responses(
        (status = 200, description = "Who has which slot. Nobody knows the limit while nobody has one.", body = SemaphoreBody),
        AnyProblem, TooOften, BodyProblem,
    )
)]
pub async fn inspect(State(state): State<AppState>, OnLock { key, .. }: OnLock<Inspect>, _: NoOptions) -> Result<Response, Problem> {
    let (limit, holders, is_contended) = match state.redlock.inspect(key.clone()).await? {
        Inspected::Together { limit, sharers } => (Some(limit), sharers.iter().map(SlotBody::from).collect(), false),
        Inspected::Contended => (None, Vec::new(), true),
        Inspected::Free | Inspected::Held(_) => (None, Vec::new(), false),
    };
    let held = holders.len();
    let free = limit.map(|limit| usize::from(limit).saturating_sub(held));
    let body = SemaphoreBody { key: key.given(), limit, held, free, is_contended, holders };
    Ok(([NO_STORE], Json(body)).into_response())
}
