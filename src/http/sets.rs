//! Several locks at once, under one lease: acquire all or none, extend and release all of them by the lease.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::acquiring::{self, ToClient};
use super::auth::{Asking, Extend, Release};
use super::body::{LeaseBody, ReleaseBody};
use super::leasing;
use super::locks::NO_STORE;
use super::options::{ExtendOptions, ReleaseOptions, SetOptions};
use super::problem::{AnyProblem, BodyProblem, Problem, ProblemBody};
use super::state::{Admitted, AppState};
use crate::redlock::{AcquireRequest, ExtendError};

/// Acquire several locks
///
/// All of them or none, under one lease and with one fencing token, which is greater than every token that was granted for any of them. Whoever asks for several never holds some of them while it waits for the others, so that two who ask for the same ones in another order can't block each other for good; one who asks for many that are busy may wait long.
#[utoipa::path(
    post, path = "/locks", operation_id = "acquire_several", tag = "locks",
    params(super::docs::IdempotencyParam),
    request_body(content = super::docs::SetBody, description = "The locks, and the options of an acquire.", content_type = "application/json"),
    responses(
        (status = 200, description = "The locks are yours. With `Accept: text/event-stream` for as long as the connection lives.",
            content((LeaseBody = "application/json"), (String = "text/event-stream")),
            headers(("Lease-Id" = String, description = "As in the body."), ("Fencing-Token" = u64, description = "As in the body."))),
        (status = 409, description = "`lease_in_use`: this `lease_id` has another set of locks.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "`locked`: one of them is held by another, named in `holder`; which one is said in `detail`.", body = ProblemBody, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds until that one's lease ends."))),
        AnyProblem, BodyProblem,
    )
)]
pub async fn acquire(State(state): State<AppState>, _: Admitted, wire: ToClient, asking: Asking, options: SetOptions) -> Result<Response, Problem> {
    let SetOptions { mut options, members } = options;
    let AcquireRequest { locks, lease, .. } = AcquireRequest::of_set(members, options.lease.clone(), options.ttl, None);
    let allowed = asking.to(locks, &state)?;
    options.lease = lease;
    acquiring::acquire(state, wire, allowed, options).await
}

/// Extend the lease of several locks
///
/// Lets all of them last at least `ttl` from now. Never shortens the lease and never makes a new one. If one of them is lost, none is extended.
#[utoipa::path(
    put, path = "/locks", operation_id = "extend_several", tag = "locks",
    params(super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TtlParam),
    request_body(content = Option<super::docs::ExtendBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The lease lasts longer, or at least as long as before.", body = LeaseBody),
        (status = 409, description = "`not_holder`: another lease holds one of the locks.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`lease_expired`: the lease is gone, or one of its locks is.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, BodyProblem,
    )
)]
pub async fn extend(State(state): State<AppState>, asking: Asking, options: ExtendOptions) -> Result<Response, Problem> {
    let locks = state.redlock.set_of(&options.lease).await?.ok_or(ExtendError::Expired)?;
    let allowed = asking.to::<Extend>(locks, &state)?;
    leasing::extend(state, allowed, options).await
}

/// Release several locks
///
/// All that the lease holds of them. Safe to repeat: `released` is false when there was nothing to release any more.
#[utoipa::path(
    delete, path = "/locks", operation_id = "release_several", tag = "locks",
    params(super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TokenParam, super::docs::TokenQuery),
    responses(
        (status = 200, description = "The lease does not hold the locks (any more).", body = ReleaseBody),
        (status = 409, description = "`not_holder`: this lease holds them under a newer token; they stay.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, BodyProblem,
    )
)]
pub async fn release(State(state): State<AppState>, asking: Asking, options: ReleaseOptions) -> Result<Response, Problem> {
    let ReleaseOptions::Own { lease, fencing_token } = options else {
        return Err(Problem::invalid("force: it is for one lock; name it in the path."));
    };
    match state.redlock.set_of(&lease).await? {
        Some(locks) => leasing::release_own(&state, asking.to::<Release>(locks, &state)?, lease, fencing_token).await,
        None => {
            // Not known to a majority, so that nobody holds them; what a minority has of it goes all the same.
            let released = state.redlock.release(crate::lease::LockKey::of_set(&lease), lease, fencing_token).await?.released;
            Ok(([NO_STORE], Json(ReleaseBody::of((None, Some(Vec::new())), released))).into_response())
        }
    }
}
