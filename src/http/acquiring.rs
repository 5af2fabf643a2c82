//! What every acquire has in common, be it of a lock, of a slot or of a set.

use axum::body::Body;
use axum::extract::Extension;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::time::Instant;

use super::audit::Deed;
use super::auth::{Acquire, Extend, OnLocks};
use super::body::{LeaseBody, Term};
use super::grant_body::GrantBody;
use super::hold::{Holding, Wire};
use super::locks::NO_STORE;
use super::options::{AcquireOptions, FENCING_TOKEN, Hold, LEASE_ID, Wait};
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{Grant, Mode, Ttl};
use crate::redlock::{AcquireRequest, Acquired};

/// Where the events of a lease that is held go, where they go anywhere.
pub type ToClient = Option<Extension<Wire>>;

/// Acquires what the caller may have, and answers with the lease or with the events of holding it.
///
/// Whoever waits keeps this future for as long, and there may be ten thousand: what is needed before and after is not in it.
pub fn acquire(
    state: AppState,
    wire: ToClient,
    allowed: OnLocks<Acquire>,
    options: AcquireOptions,
) -> impl Future<Output = Result<Response, Problem>> + Send {
    let AcquireOptions { ttl, wait, owner, lease, hold, mode, bounds } = options;
    let permitted = if hold.is_some() { allowed.also::<Extend>(&state).map_err(Box::new) } else { Ok(()) };
    let owner = owner.or_else(|| allowed.asking.caller.name().cloned());
    let may_return = lease.is_some();
    let mut deed = Deed::begin(&state.audit, allowed);
    deed.owner = owner.clone();
    let request = AcquireRequest { mode, bounds, ..AcquireRequest::of(deed.locks.clone(), lease, ttl, owner) };
    let begun = Instant::now();
    // In a box, or a future that is made outside of another is in there twice: once before it is awaited.
    let waiting = Box::pin(state.redlock.wait_for(request, wait.time));
    let preference = wait.preference;
    async move {
        permitted.map_err(|problem| deed.fail(*problem))?;
        let acquired = match waiting.await {
            Ok(acquired) => acquired,
            Err(error) => {
                let problem = Problem::not_acquired(error, &deed.locks, mode);
                return Err(deed.fail(problem));
            }
        };
        deed.fencing_token = Some(acquired.grant.fencing_token);
        let wire = wire.map(|Extension(wire)| wire);
        let mut response = Box::pin(Granted { acquired, begun, ttl, mode, hold, may_return, wire }.answer(state, deed)).await?;
        Wait::tell(preference, &mut response);
        Ok(response)
    }
}

/// A lease on its way to its holder.
struct Granted {
    acquired: Acquired,
    /// When it was asked for.
    begun: Instant,
    ttl: Ttl,
    mode: Mode,
    hold: Option<Hold>,
    may_return: bool,
    wire: Option<Wire>,
}

impl Granted {
    async fn answer(self, state: AppState, deed: Deed) -> Result<Response, Problem> {
        if self.hold.is_some() { self.held(state, deed).await } else { self.given(state, deed) }
    }

    /// The lease is the client's, once it has read this.
    fn given(self, state: AppState, deed: Deed) -> Result<Response, Problem> {
        let (json, headers) = (self.json(&state, &deed)?, self.headers("application/json")?);
        Ok((headers, Body::new(GrantBody::new(Bytes::from(json), self.acquired, deed))).into_response())
    }

    /// The lease is renewed for as long as the client reads.
    async fn held(self, state: AppState, mut deed: Deed) -> Result<Response, Problem> {
        let (json, headers) = (self.json(&state, &deed)?, self.headers("text/event-stream")?);
        let Self { acquired, begun, ttl, hold, may_return, wire, .. } = self;
        let Grant { fencing_token, mut valid_for, replayed, .. } = acquired.grant;
        let (lease, mut asked) = (acquired.lease.clone(), begun + acquired.waited);
        if replayed {
            // It has what is left of it, and is to have a whole ttl.
            asked = Instant::now();
            let extended = state.redlock.extend(deed.locks.clone(), lease.clone(), ttl).await.map_err(|error| deed.fail(error))?;
            valid_for = extended.valid_for;
        }
        // Whoever is gone by now is noticed as the holder of any other moment is.
        acquired.keep();
        let max_lifetime = hold.and_then(|hold| hold.max_lifetime);
        let holding = Holding { lease, fencing_token, ttl, asked, valid_for, max_lifetime, may_return };
        Ok((headers, holding.begin(state, &json, deed, wire)).into_response())
    }

    fn json(&self, state: &AppState, deed: &Deed) -> Result<Vec<u8>, Problem> {
        let Acquired { lease, grant, expires_at_us, waited, .. } = &self.acquired;
        let Grant { fencing_token, valid_for, granted, .. } = *grant;
        let slot = if let Mode::Slot(slot) = grant.mode { Some(slot) } else { None };
        let term = Term { locks: &deed.locks, lease, fencing_token, ttl: self.ttl, valid_for, expires_at_us: *expires_at_us, granted };
        let body = LeaseBody {
            mode: (self.mode == Mode::Shared).then_some("shared"),
            slot: slot.map(|slot| slot.number),
            limit: slot.map(|slot| slot.limit),
            // A repeat changes nothing, and who the first said it was is not known here.
            owner: deed.owner.as_ref().map(|owner| owner.as_str()).filter(|_| !grant.replayed),
            waited_ms: waited.as_millis() as u64,
            ..term.body(state.redlock.cluster().quorum())
        };
        serde_json::to_vec(&body).map_err(|_| unwritten())
    }

    fn headers(&self, kind: &'static str) -> Result<[(HeaderName, HeaderValue); 4], Problem> {
        let lease_id = HeaderValue::from_str(self.acquired.lease.reveal()).map_err(|_| unwritten())?;
        let token = HeaderValue::from(self.acquired.grant.fencing_token.get());
        Ok([(CONTENT_TYPE, HeaderValue::from_static(kind)), (LEASE_ID, lease_id), (FENCING_TOKEN, token), NO_STORE])
    }
}

fn unwritten() -> Problem {
    Problem::internal("The answer could not be written.")
}
