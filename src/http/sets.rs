//! Several locks at once, under one lease: acquire all or none, extend and release all of them by the lease.

use axum::extract::State;
use axum::response::Response;

use super::acquiring::{self, ToClient};
use super::audit::Deed;
use super::auth::{Asking, Extend, Release};
use super::body::{LeaseBody, ReleaseBody};
use super::leasing;
use super::options::{ExtendOptions, ReleaseOptions, SetOptions};
use super::problem::{AnyProblem, BodyProblem, Problem, ProblemBody, TooMany, TooOften};
use super::state::{Admitted, AppState};
use crate::redlock::ExtendError;

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
        AnyProblem, TooMany, BodyProblem,
    )
)]
pub async fn acquire(State(state): State<AppState>, _: Admitted, wire: ToClient, asking: Asking, options: SetOptions) -> Result<Response, Problem> {
    let SetOptions { options, locks } = options;
    acquiring::acquire(state.clone(), wire, asking.to(locks, &state)?, options).await
}

/// Extend the lease of several locks
///
/// Lets all of them last at least `ttl` from now, or as long as `max_lifetime` and `lock_delay` leave. Never shortens the lease and never makes a new one. If one of them is lost, by force or by a release of that one alone, none is extended.
#[utoipa::path(
    put, path = "/locks", operation_id = "extend_several", tag = "locks",
    params(super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TtlParam),
    request_body(content = Option<super::docs::ExtendBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The lease lasts longer, or at least as long as before.", body = LeaseBody),
        (status = 409, description = "`not_holder`: another lease holds one of the locks.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`lease_expired`: the lease is gone, or one of its locks is.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, TooOften, BodyProblem,
    )
)]
pub async fn extend(State(state): State<AppState>, asking: Asking, options: ExtendOptions) -> Result<Response, Problem> {
    asking.may_at_all::<Extend>(&state)?;
    let known = state.redlock.set_of(&options.lease).await;
    let problem = match (known.set(), &known.doubt) {
        (Some(locks), None) => {
            return leasing::extend_all(state.clone(), asking.to(locks, &state)?, options, |token| known.granted(token)).await;
        }
        (_, Some(error)) => ExtendError::from(error.clone()).into(),
        (None, None) => Problem::no_such_set(),
    };
    let mut deed = Deed::begin(&state.audit, asking.on_unknown_set::<Extend>(true, &state)?);
    Err(deed.fail(problem))
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
        AnyProblem, TooOften, BodyProblem,
    )
)]
pub async fn release(State(state): State<AppState>, asking: Asking, options: ReleaseOptions) -> Result<Response, Problem> {
    let ReleaseOptions::Own { lease, fencing_token } = options else {
        return Err(Problem::invalid("force: it is for one lock; name it in the path."));
    };
    asking.may_at_all::<Release>(&state)?;
    let known = state.redlock.set_of(&lease).await;
    let allowed = match known.set() {
        Some(locks) => asking.to::<Release>(locks, &state)?,
        // What of it is on nodes that were not heard is released all the same, now or in the background.
        None => asking.on_unknown_set(known.doubt.is_none(), &state)?,
    };
    leasing::release_own(&state, allowed, lease, fencing_token).await
}
