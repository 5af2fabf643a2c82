//! What extending and releasing have in common, be it of a lock, of a slot or of a set.

use axum::Json;
use axum::response::{IntoResponse, Response};

use super::acquiring::{names, votes};
use super::audit::{self, Deed};
use super::auth::{Extend, OnLock, Release, Undecided};
use super::body::{LeaseBody, ReleaseBody, renew_after, rfc3339};
use super::locks::NO_STORE;
use super::options::{ExtendOptions, ReleaseOptions};
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{FencingToken, LeaseId};
use crate::redlock::Released;

pub async fn extend(state: AppState, allowed: OnLock<Extend>, options: ExtendOptions) -> Result<Response, Problem> {
    let ExtendOptions { lease, ttl } = options;
    let mut deed = Deed::begin(&state.audit, allowed);
    let extended = state.redlock.extend(deed.locks.clone(), lease.clone(), ttl).await.map_err(|error| deed.fail(error))?;
    (deed.outcome, deed.fencing_token) = ("extended", Some(extended.fencing_token));
    let (key, keys) = names(&deed.locks);
    let body = LeaseBody {
        key,
        keys,
        mode: None,
        slot: None,
        limit: None,
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

/// By its holder, or by force.
pub async fn release(state: AppState, asked: Undecided, options: ReleaseOptions) -> Result<Response, Problem> {
    match options {
        ReleaseOptions::Own { lease, fencing_token } => release_own(&state, asked.to::<Release>(&state)?, lease, fencing_token).await,
        ReleaseOptions::Forced { reason } => {
            let key = asked.key.clone();
            let holders = audit::force(state.clone(), key.clone(), asked.to(&state)?, reason).await?;
            Ok(([NO_STORE], Json(ReleaseBody::of((Some(key.given()), None), !holders.is_empty()))).into_response())
        }
    }
}

pub async fn release_own(state: &AppState, allowed: OnLock<Release>, lease: LeaseId, token: Option<FencingToken>) -> Result<Response, Problem> {
    let mut deed = Deed::begin(&state.audit, allowed);
    deed.fencing_token = token;
    let Released { released } = state.redlock.release(deed.locks.clone(), lease, token).await.map_err(|error| deed.fail(error))?;
    deed.outcome = audit::released(released);
    Ok(([NO_STORE], Json(ReleaseBody::of(names(&deed.locks), released))).into_response())
}
