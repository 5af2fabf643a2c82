//! What extending and releasing have in common, be it of a lock, of a slot or of a set.

use axum::Json;
use axum::response::{IntoResponse, Response};

use super::audit::{self, Deed};
use super::auth::{Extend, OnLocks, Release, Undecided};
use super::body::{ReleaseBody, Term};
use super::locks::NO_STORE;
use super::options::{ExtendOptions, ReleaseOptions};
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{FencingToken, LeaseId};
use crate::redlock::{Extended, Locks, Released};

pub async fn extend(state: AppState, allowed: OnLocks<Extend>, options: ExtendOptions) -> Result<Response, Problem> {
    extend_all(state, allowed, options, |_| None).await
}

/// The locks of the answer are those that `granted` says of the token, if it knows.
pub async fn extend_all(
    state: AppState,
    allowed: OnLocks<Extend>,
    options: ExtendOptions,
    granted: impl Fn(FencingToken) -> Option<Locks>,
) -> Result<Response, Problem> {
    let ExtendOptions { lease, ttl } = options;
    let mut deed = Deed::begin(&state.audit, allowed);
    let extended = state.redlock.extend(deed.locks.clone(), lease.clone(), ttl).await.map_err(|error| deed.fail(error))?;
    let Extended { fencing_token, valid_for, granted: votes, expires_at_us } = extended;
    (deed.outcome, deed.fencing_token) = ("extended", Some(fencing_token));
    deed.locks = granted(fencing_token).unwrap_or_else(|| deed.locks.clone());
    let term = Term { locks: &deed.locks, lease: &lease, fencing_token, ttl, valid_for, expires_at_us, granted: votes };
    let body = term.body(state.redlock.cluster().quorum());
    Ok(([NO_STORE], Json(body)).into_response())
}

/// By its holder, or by force.
pub async fn release(state: AppState, asked: Undecided, options: ReleaseOptions) -> Result<Response, Problem> {
    match options {
        ReleaseOptions::Own { lease, fencing_token } => release_own(&state, asked.to::<Release>(&state)?.into(), lease, fencing_token).await,
        ReleaseOptions::Forced { reason } => {
            let allowed = asked.to(&state)?;
            let locks = allowed.key.clone().into();
            let holders = audit::force(state, allowed, reason).await?;
            Ok(([NO_STORE], Json(ReleaseBody::of(&locks, !holders.is_empty()))).into_response())
        }
    }
}

pub async fn release_own(state: &AppState, allowed: OnLocks<Release>, lease: LeaseId, token: Option<FencingToken>) -> Result<Response, Problem> {
    let mut deed = Deed::begin(&state.audit, allowed);
    deed.fencing_token = token;
    let Released { released } = state.redlock.release(deed.locks.clone(), lease, token).await.map_err(|error| deed.fail(error))?;
    deed.outcome = audit::released(released);
    Ok(([NO_STORE], Json(ReleaseBody::of(&deed.locks, released))).into_response())
}
