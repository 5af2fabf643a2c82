//! Permission. A handler gets at a lock's name, or at the gateway's own affairs, only with it.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use tracing::field::display;
use tracing::warn;

use super::audit::{Deed, kind};
use super::correlation::RequestId;
use super::path;
use super::problem::Problem;
use super::state::AppState;
use crate::auth::{Action, Caller, JwtError, NotKnown, Peer, TooFast};
use crate::lease::LockKey;
use crate::redlock::Locks;

/// The lock that the path names, and who may do `A` to it.
pub struct OnLock<A> {
    pub key: LockKey,
    asking: Asking,
    action: PhantomData<A>,
}

/// The lock of the request, or its locks, and who may do `A` to them.
pub struct OnLocks<A> {
    pub locks: Locks,
    pub asking: Asking,
    action: PhantomData<A>,
}

/// The lock that the path names and who asks, where the options say what for.
pub struct Undecided {
    key: LockKey,
    asking: Asking,
}

/// Who asks, and from where.
#[derive(Clone)]
pub struct Asking {
    pub caller: Caller,
    pub address: Option<IpAddr>,
    pub request_id: Option<RequestId>,
}

/// A caller who may do `A` to some lock, or at all where it is not about locks.
pub struct Anywhere<A> {
    caller: Caller,
    action: PhantomData<A>,
}

/// An [`Action`] as a type, so that the signature of a handler says what it takes.
pub trait Permission: Send + Sync {
    const ACTION: Action;
}

macro_rules! permissions {
    ($($name:ident)*) => {$(
        pub struct $name;
        impl Permission for $name {
            const ACTION: Action = Action::$name;
        }
    )*};
}

permissions!(Acquire Extend Release Inspect List Force Admin);

impl<A: Permission> FromRequestParts<AppState> for OnLock<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        Undecided::from_request_parts(parts, state).await?.to(state)
    }
}

impl FromRequestParts<AppState> for Undecided {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let asking = Asking::from_request_parts(parts, state).await?;
        Ok(Self { key: path::key(&parts.uri)?, asking })
    }
}

impl FromRequestParts<AppState> for Asking {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = who(parts, state)?;
        let address = parts.extensions.get::<Peer>().map(|peer| peer.address);
        Ok(Self { caller, address, request_id: parts.extensions.remove::<RequestId>() })
    }
}

impl Undecided {
    /// The lock, if the caller may do `A` to it.
    pub fn to<A: Permission>(self, state: &AppState) -> Result<OnLock<A>, Problem> {
        let Self { key, asking } = self;
        asking.check::<A>(&key.clone().into(), "", state)?;
        Ok(OnLock { key, asking, action: PhantomData })
    }
}

impl Asking {
    /// The locks, if the caller may do `A` to all of them.
    pub fn to<A: Permission>(self, locks: Locks, state: &AppState) -> Result<OnLocks<A>, Problem> {
        self.check::<A>(&locks, "", state)?;
        Ok(OnLocks { locks, asking: self, action: PhantomData })
    }

    /// Fails unless there is any lock to which the caller may do `A`: before the nodes are asked which ones a lease is of.
    pub fn may_at_all<A: Permission>(&self, state: &AppState) -> Result<(), Problem> {
        self.check_unknown::<A>(self.caller.may_at_all(A::ACTION), "", state)
    }

    /// A set of which nobody knows the locks. Where nobody holds it, by the word of a majority, whoever may do `A` at all may do it;
    /// else it takes the permission for every lock, since it may be of any.
    pub fn on_unknown_set<A: Permission>(self, is_nobodys: bool, state: &AppState) -> Result<OnLocks<A>, Problem> {
        let may = if is_nobodys { self.caller.may_at_all(A::ACTION) } else { self.caller.may_under(A::ACTION, "") };
        self.check_unknown::<A>(may, " of all locks, since too few nodes could say which ones the lease is of", state)?;
        Ok(OnLocks { locks: Locks::UnknownSet, asking: self, action: PhantomData })
    }

    fn check_unknown<A: Permission>(&self, may: bool, why: &str, state: &AppState) -> Result<(), Problem> {
        if may {
            return Ok(());
        }
        Deed::refuse::<A>(&state.audit, Locks::UnknownSet, self.clone());
        Err(forbidden(state, format!("You may not do this; it takes the grant {}{why}.", A::ACTION)))
    }

    fn check<A: Permission>(&self, locks: &Locks, why: &str, state: &AppState) -> Result<(), Problem> {
        let action = A::ACTION;
        let Some(key) = locks.each().iter().find(|key| !self.caller.may(action, key)) else { return Ok(()) };
        let name = key.given();
        if action != Action::Inspect {
            Deed::refuse::<A>(&state.audit, key.clone().into(), self.clone());
        }
        let kind = kind(key);
        Err(forbidden(state, format!("You may not {action} the {kind} {name:?}{why}; a grant for it would be {action}:{name}.")))
    }
}

impl<A> From<OnLock<A>> for OnLocks<A> {
    fn from(OnLock { key, asking, action }: OnLock<A>) -> Self {
        Self { locks: key.into(), asking, action }
    }
}

impl<A> OnLocks<A> {
    /// Fails unless the caller may do `B` to the locks as well.
    pub fn also<B: Permission>(&self, state: &AppState) -> Result<(), Problem> {
        self.asking.check::<B>(&self.locks, ", which this takes", state)
    }
}

impl Anywhere<List> {
    /// Fails unless the whole of `prefix` may be listed: of a wider one even the number of pages would tell what is hidden.
    pub fn under(&self, prefix: &str, state: &AppState) -> Result<(), Problem> {
        if self.caller.may_under(Action::List, prefix) {
            return Ok(());
        }
        Err(forbidden(state, format!("You may not list everything under {prefix:?}; name a prefix that your grants cover.")))
    }
}

impl<A: Permission> FromRequestParts<AppState> for Anywhere<A> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = who(parts, state)?;
        if caller.may_at_all(A::ACTION) {
            return Ok(Self { caller, action: PhantomData });
        }
        Err(forbidden(state, format!("You may not do this; it takes the grant {}.", A::ACTION)))
    }
}

fn forbidden(state: &AppState, detail: String) -> Problem {
    state.metrics.auth_refused("forbidden");
    Problem::forbidden(detail)
}

fn who(parts: &Parts, state: &AppState) -> Result<Caller, Problem> {
    let peer = parts.extensions.get::<Peer>();
    let found = state.guard.who(bearer_token(parts), peer);
    state.pace.admit(found.as_ref().ok(), peer).map_err(|TooFast { wait }| {
        state.metrics.limit_hit("rate");
        Problem::rate_limited(wait)
    })?;
    found.map_err(|not_known| {
        let (reason, detail) = match not_known {
            NotKnown::Jwt(JwtError::NoKeys) => {
                state.metrics.auth_refused("no_keys");
                return Problem::no_keys();
            }
            NotKnown::Jwt(error) => ("jwt", Cow::Owned(format!("The JSON Web Token does not count: {error}."))),
            NotKnown::NothingShown => ("nothing_shown", "This gateway wants to know who asks: send Authorization: Bearer and a token.".into()),
            NotKnown::StrangeCertificate => {
                ("strange_certificate", "None of the names in the certificate is known here; it may have been withdrawn.".into())
            }
            NotKnown::Stranger => ("stranger", "The token is not known here; it may have been withdrawn. Ask for a new one.".into()),
        };
        state.metrics.auth_refused(reason);
        if state.tells_refusals.is_due() {
            let from = peer.map(|peer| display(peer.address));
            warn!(from, reason, "a caller was not let in; of those that follow within a second nothing is told");
        }
        Problem::unauthorized(detail)
    })
}

/// The one bearer token that is shown. Anything else in `Authorization` is nothing.
fn bearer_token(parts: &Parts) -> Option<&str> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let (scheme, token) = values.next()?.to_str().ok()?.split_once(' ')?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}
