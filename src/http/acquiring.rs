//! What every acquire has in common, be it of a lock, of a slot or of a set.

use axum::body::Body;
use axum::extract::Extension;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::time::Instant;

use super::audit::Deed;
use super::auth::{Acquire, Extend, OnLock};
use super::body::{LeaseBody, VotesBody, renew_after, rfc3339};
use super::grant_body::GrantBody;
use super::hold::{Holding, Wire};
use super::locks::NO_STORE;
use super::options::{AcquireOptions, FENCING_TOKEN, Hold, LEASE_ID};
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{Grant, LockKey, Mode};
use crate::redlock::{AcquireRequest, Locks, Redlock};

/// Where the events of a lease that is held go, where they go anywhere.
pub type ToClient = Option<Extension<Wire>>;

/// Acquires what the caller may have, and answers with the lease or with the events of holding it.
pub async fn acquire(state: AppState, wire: ToClient, allowed: OnLock<Acquire>, options: AcquireOptions) -> Result<Response, Problem> {
    let AcquireOptions { ttl, wait, owner, lease, hold, mode, bounds } = options;
    if hold.is_some() {
        allowed.also::<Extend>(&state)?;
    }
    let owner = owner.or_else(|| allowed.asking.caller.name().cloned());
    let mut deed = Deed::begin(&state.audit, allowed);
    deed.owner = owner.clone();
    let may_return = lease.is_some();
    let request = AcquireRequest { locks: deed.locks.clone(), mode, lease, ttl, owner: owner.clone(), bounds, waits: false };
    let begun = Instant::now();
    let acquired = match state.redlock.wait_for(request, wait.time).await {
        Ok(acquired) => acquired,
        Err(error) => {
            let problem = Problem::in_the_way(error, &deed.locks);
            return Err(deed.fail(problem));
        }
    };
    deed.fencing_token = Some(acquired.grant.fencing_token);
    let (key, keys) = names(&deed.locks);
    let slot = if let Mode::Slot(slot) = acquired.grant.mode { Some(slot) } else { None };
    let body = LeaseBody {
        key,
        keys,
        mode: (mode == Mode::Shared).then_some("shared"),
        slot: slot.map(|slot| slot.number),
        limit: slot.map(|slot| slot.limit),
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
                let extended = state.redlock.extend(deed.locks.clone(), lease.clone(), ttl).await.map_err(|error| deed.fail(error))?;
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

/// As their owner knows them: the one, or those of a set.
pub fn names(locks: &Locks) -> (Option<&str>, Option<Vec<&str>>) {
    match &locks.members()[..] {
        [] => (Some(locks.key().given()), None),
        members => (None, Some(members.iter().map(LockKey::given).collect())),
    }
}

pub fn votes(redlock: &Redlock, granted: usize) -> VotesBody {
    let quorum = redlock.cluster().quorum();
    VotesBody { granted, required: quorum.required(), nodes: quorum.nodes() }
}
