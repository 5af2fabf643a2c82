//! One lock: acquire, extend, release, inspect.

use axum::extract::{Extension, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Body};
use bytes::Bytes;
use tokio::time::Instant;

use super::audit::{self, Deed};
use super::auth::{Acquire, Extend, Force, Inspect, OnLock, Release, Undecided};
use super::body::{LeaseBody, LockBody, ReleaseBody, VotesBody, renew_after, rfc3339};
use super::grant_body::GrantBody;
use super::hold::{Holding, Wire};
use super::options::{AcquireOptions, ExtendOptions, FENCING_TOKEN, Hold, InspectOptions, LEASE_ID, ReleaseOptions};
use super::problem::{AnyProblem, BodyProblem, Problem, ProblemBody};
use super::state::{Admitted, AppState};
use super::watch;
use crate::lease::Grant;
use crate::redlock::{AcquireRequest, Redlock, Released};

/// Who holds a lock is old news a moment later, and a lease id is a secret.
pub const NO_STORE: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Acquire a lock
///
/// Tries once, or waits for its turn for as long as `wait` says. The answer is 200 only if the lock is yours; stop using it `waited_ms` + `valid_for_ms` after you sent the request.
///
/// With `Accept: text/event-stream` the gateway renews the lease for as long as the connection lives, and releases the lock when it ends. Stop when the stream ends, at an event `lost`, and after a sixth of the ttl without a byte. At `draining` another gateway can go on: repeat the request there with the same `lease_id`.
#[utoipa::path(
    post, path = "/locks/{*key}", tag = "locks",
    params(super::docs::KeyParam, super::docs::AcquireParams, super::docs::IdempotencyParam),
    request_body(content = Option<super::docs::AcquireBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The lock is yours. With `Accept: text/event-stream` for as long as the connection lives: the events `acquired` (with this body), `extended`, `lost` and `draining`.",
            content((LeaseBody = "application/json"), (String = "text/event-stream")),
            headers(("Lease-Id" = String, description = "As in the body."), ("Fencing-Token" = u64, description = "As in the body."))),
        (status = 429, description = "`too_many_waiters`: as many requests wait as may; `rate_limited`: the caller asks more often than it may.", body = ProblemBody, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds until the next request is allowed."))),
        (status = 423, description = "`locked`: held by another, named in `holder`.", body = ProblemBody, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds until the holder's lease ends."))),
        AnyProblem, BodyProblem,
    )
)]
pub async fn acquire(
    State(state): State<AppState>,
    _: Admitted,
    wire: Option<Extension<Wire>>,
    allowed: OnLock<Acquire>,
    options: AcquireOptions,
) -> Result<Response, Problem> {
    let AcquireOptions { ttl, wait, owner, lease, hold } = options;
    if hold.is_some() {
        allowed.also::<Extend>(&state)?;
    }
    let owner = owner.or_else(|| allowed.asking.caller.name().cloned());
    let mut deed = Deed::begin(&state.audit, allowed);
    deed.owner = owner.clone();
    let may_return = lease.is_some();
    let request = AcquireRequest::of(deed.key.clone(), lease, ttl, owner.clone());
    let begun = Instant::now();
    let acquired = state.redlock.wait_for(request, wait.time).await.map_err(|error| deed.fail(error))?;
    deed.fencing_token = Some(acquired.grant.fencing_token);
    let body = LeaseBody {
        key: deed.key.as_str(),
        lease_id: acquired.lease.reveal(),
        fencing_token: acquired.grant.fencing_token.get(),
        // A repeat changes nothing, and who the first said it was is not known here.
        owner: owner.as_ref().map(|owner| owner.as_str()).filter(|_| !acquired.grant.replayed),
        ttl_ms: ttl.as_millis(),
        waited_ms: acquired.waited.as_millis() as u64,
        valid_for_ms: acquired.grant.valid_for.as_millis() as u64,
        renew_after_ms: renew_after(ttl, acquired.grant.valid_for),
        expires_at: rfc3339(acquired.expires_at_us),
        votes: votes(&state.redlock, acquired.grant.granted),
    };
    let json = serde_json::to_vec(&body).map_err(|_| Problem::internal("The answer could not be written."))?;
    let lease_id = HeaderValue::from_str(acquired.lease.reveal()).map_err(|_| Problem::internal("The answer could not be written."))?;
    let kind = if hold.is_some() { "text/event-stream" } else { "application/json" };
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static(kind)), (LEASE_ID, lease_id), (FENCING_TOKEN, HeaderValue::from(body.fencing_token)), NO_STORE];
    let answer = match hold {
        None => Body::new(GrantBody::new(Bytes::from(json), acquired, deed)),
        Some(Hold { max_lifetime }) => {
            let Grant { fencing_token, valid_for, .. } = acquired.grant;
            let (lease, mut asked, mut valid_for) = (acquired.lease.clone(), begun + acquired.waited, valid_for);
            if acquired.grant.replayed {
                // It has what is left of it, and is to have a whole ttl.
                asked = Instant::now();
                let extended = state.redlock.extend(deed.key.clone(), lease.clone(), ttl).await.map_err(|error| deed.fail(error))?;
                valid_for = extended.valid_for;
            }
            // Whoever is gone by now is noticed as the holder of any other moment is.
            acquired.keep();
            Holding { lease, fencing_token, ttl, asked, valid_for, max_lifetime, may_return }.begin(
                state,
                &json,
                deed,
                wire.map(|Extension(wire)| wire),
            )
        }
    };
    let mut response = (headers, answer).into_response();
    wait.tell(&mut response);
    Ok(response)
}

/// Extend a lease
///
/// Lets the lease last at least `ttl` from now. Never shortens it and never makes a new one.
#[utoipa::path(
    put, path = "/locks/{*key}", tag = "locks",
    params(super::docs::KeyParam, super::docs::LeaseParams, super::docs::LeaseQuery, super::docs::TtlParam),
    request_body(content = Option<super::docs::ExtendBody>, description = "The same options as in the query.", content_type = "application/json"),
    responses(
        (status = 200, description = "The lease lasts longer, or at least as long as before.", body = LeaseBody),
        (status = 409, description = "`not_holder`: another lease holds the lock.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "`lease_expired`: the lease is gone.", body = ProblemBody, content_type = "application/problem+json"),
        AnyProblem, BodyProblem,
    )
)]
pub async fn extend(State(state): State<AppState>, allowed: OnLock<Extend>, options: ExtendOptions) -> Result<Response, Problem> {
    let ExtendOptions { lease, ttl } = options;
    let mut deed = Deed::begin(&state.audit, allowed);
    let extended = state.redlock.extend(deed.key.clone(), lease.clone(), ttl).await.map_err(|error| deed.fail(error))?;
    (deed.outcome, deed.fencing_token) = ("extended", Some(extended.fencing_token));
    let body = LeaseBody {
        key: deed.key.as_str(),
        lease_id: lease.reveal(),
        fencing_token: extended.fencing_token.get(),
        owner: None,
        ttl_ms: ttl.as_millis(),
        waited_ms: 0,
        valid_for_ms: extended.valid_for.as_millis() as u64,
        renew_after_ms: renew_after(ttl, extended.valid_for),
        expires_at: rfc3339(extended.expires_at_us),
        votes: votes(&state.redlock, extended.granted),
    };
    Ok(([NO_STORE], Json(body)).into_response())
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
        AnyProblem, BodyProblem,
    )
)]
pub async fn release(State(state): State<AppState>, asked: Undecided, options: ReleaseOptions) -> Result<Response, Problem> {
    let (key, released) = match options {
        ReleaseOptions::Own { lease, fencing_token } => {
            let mut deed = Deed::begin(&state.audit, asked.to::<Release>(&state)?);
            deed.fencing_token = fencing_token;
            let Released { released } = state.redlock.release(deed.key.clone(), lease, fencing_token).await.map_err(|error| deed.fail(error))?;
            deed.outcome = audit::released(released);
            (deed.key.clone(), released)
        }
        ReleaseOptions::Forced { reason } => {
            let allowed = asked.to::<Force>(&state)?;
            let key = allowed.key.clone();
            let holder = audit::force(state, allowed, reason).await?;
            (key, holder.is_some())
        }
    };
    Ok(([NO_STORE], Json(ReleaseBody { key: key.as_str(), released })).into_response())
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
        AnyProblem, BodyProblem,
    )
)]
pub async fn inspect(State(state): State<AppState>, allowed: OnLock<Inspect>, options: InspectOptions) -> Result<Response, Problem> {
    let InspectOptions { wait, watches } = options;
    let key = allowed.key;
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
    wait.tell(&mut response);
    Ok(response)
}

fn votes(redlock: &Redlock, granted: usize) -> VotesBody {
    let quorum = redlock.cluster().quorum();
    VotesBody { granted, required: quorum.required(), nodes: quorum.nodes() }
}
