//! What an acquire may be told, be it of a lock, of a slot or of a set.

use std::time::Duration;

use axum::extract::{FromRequest, Request};

use super::{IDEMPOTENCY_KEY, LEASE_ID, Wait};
use crate::http::given::{Given, excerpt};
use crate::http::hold::SHORTEST_TTL;
use crate::http::problem::Problem;
use crate::http::state::AppState;
use crate::lease::{LeaseId, LockKey, Mode, OwnerLabel, Slot, Ttl};
use crate::redlock::{LeaseBounds, Locks};

/// What `POST /locks/{key}` may be told.
pub struct AcquireOptions {
    pub ttl: Ttl,
    pub wait: Wait,
    pub owner: Option<OwnerLabel>,
    pub lease: Option<LeaseId>,
    /// The lease is to live as long as the connection.
    pub hold: Option<Hold>,
    pub mode: Mode,
    pub bounds: LeaseBounds,
}

/// What `POST /semaphores/{key}` may be told.
pub struct SlotOptions(pub AcquireOptions);

/// What `POST /locks` may be told.
pub struct SetOptions {
    pub options: AcquireOptions,
    pub locks: Locks,
}

/// How a lease is to be held.
pub struct Hold {
    /// For no longer than this, from the grant on.
    pub max_lifetime: Option<Duration>,
}

/// Of a lease. Beyond that nobody means it, and times must not overflow.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The shortest that can be written.
const MILLISECOND: Duration = Duration::from_millis(1);

impl AcquireOptions {
    const NAMES: [&str; 6] = ["ttl", "wait", "owner", "lease_id", "max_lifetime", "lock_delay"];

    fn of_lock(mut given: Given, state: &AppState) -> Result<Self, Problem> {
        let mode = match given.take("mode").as_deref() {
            None | Some("exclusive") => Mode::Exclusive,
            Some("shared") => Mode::Shared,
            Some(other) => {
                return Err(Problem::invalid(format!("mode: {:?} is not allowed; a mode is exclusive or shared.", excerpt(other))));
            }
        };
        let mut options = Self::read(&mut given, state, mode)?;
        if let Some(min_hold) = given.span("min_hold", MILLISECOND..=options.ttl.get(), "it is the ttl at most")? {
            if mode == Mode::Shared {
                return Err(Problem::invalid("min_hold: it is for who has the lock alone; leave it out, or ask for mode=exclusive."));
            }
            options.bounds.min_hold = min_hold;
        }
        Ok(options)
    }

    fn of_slot(mut given: Given, state: &AppState) -> Result<Self, Problem> {
        let (limit, most) = (given.take("limit"), Mode::MAX_TOGETHER);
        let limit = limit.ok_or_else(|| Problem::invalid(format!("limit is missing; say how many slots the semaphore has, from 1 to {most}.")))?;
        let number = limit
            .parse()
            .ok()
            .filter(|limit| (1..=most).contains(limit))
            .ok_or_else(|| Problem::invalid(format!("limit: {:?} is not allowed; a limit is an integer from 1 to {most}.", excerpt(&limit))))?;
        // Whichever slot is free.
        Self::read(&mut given, state, Mode::Slot(Slot { number: 0, limit: number }))
    }

    fn read(given: &mut Given, state: &AppState, mode: Mode) -> Result<Self, Problem> {
        given.header(&IDEMPOTENCY_KEY, "lease_id")?;
        given.header(&LEASE_ID, "lease_id")?;
        let preference = given.prefer_wait()?;
        let wait = Wait { time: given.wait(state)?, preference };
        let ttl = given.ttl(state)?;
        let is_held = given.wants_events();
        if is_held && ttl.get() < SHORTEST_TTL {
            let detail =
                format!("ttl: {} ms are too few to hold a lock by a connection; at least {} ms are.", ttl.as_millis(), SHORTEST_TTL.as_millis());
            return Err(Problem::invalid(detail));
        }
        // A lease that a connection holds is ended by the gateway, which can do so sooner than the nodes.
        let (least, why) = if is_held {
            (MILLISECOND, "a year at most; leave it out for a lease that lasts as long as the connection")
        } else {
            (ttl.get(), "not shorter than the ttl, and a year at most; leave it out for a lease that lasts as long as it is extended")
        };
        let max_lifetime = given.span("max_lifetime", least..=MAX_LIFETIME, why)?;
        let most = state.settings.ttl_bounds.max.saturating_sub(ttl.get());
        let lock_delay = given.span("lock_delay", Duration::ZERO..=most, "together with the ttl it is max_ttl at most")?;
        if is_held && lock_delay.is_some() {
            let detail =
                "lock_delay: a lease that a connection holds is released when the connection ends; leave out either it or Accept: text/event-stream.";
            return Err(Problem::invalid(detail));
        }
        let (hold, max_lifetime) = if is_held { (Some(Hold { max_lifetime }), None) } else { (None, max_lifetime) };
        let bounds = LeaseBounds { max_lifetime, lock_delay: lock_delay.unwrap_or_default(), ..LeaseBounds::default() };
        Ok(Self { ttl, wait, owner: given.owner()?, lease: given.lease()?, hold, mode, bounds })
    }
}

// Not async fns: the future of one has room for the request to its end, and the handler, which awaits it, keeps that room
// for as long as somebody waits for the lock.

impl FromRequest<AppState> for AcquireOptions {
    type Rejection = Problem;

    fn from_request(request: Request, state: &AppState) -> impl Future<Output = Result<Self, Problem>> + Send {
        let given = Given::of(request, [&Self::NAMES[..], &["mode", "min_hold"]].concat());
        async move { Self::of_lock(given.await?, state) }
    }
}

impl FromRequest<AppState> for SlotOptions {
    type Rejection = Problem;

    fn from_request(request: Request, state: &AppState) -> impl Future<Output = Result<Self, Problem>> + Send {
        let given = Given::of(request, [&AcquireOptions::NAMES[..], &["limit"]].concat());
        async move { AcquireOptions::of_slot(given.await?, state).map(Self) }
    }
}

impl FromRequest<AppState> for SetOptions {
    type Rejection = Problem;

    fn from_request(request: Request, state: &AppState) -> impl Future<Output = Result<Self, Problem>> + Send {
        let given = Given::of(request, [&AcquireOptions::NAMES[..], &["keys"]].concat());
        async move { Self::read(given.await?, state) }
    }
}

impl SetOptions {
    fn read(mut given: Given, state: &AppState) -> Result<Self, Problem> {
        let most = Locks::MAX_MEMBERS;
        let names = given.take_keys().ok_or_else(|| {
            Problem::invalid(format!("keys is missing; say in the body which 1 to {most} locks are wanted: {{\"keys\":[\"a\",\"b\"]}}."))
        })?;
        if !(1..=most).contains(&names.len()) {
            return Err(Problem::invalid(format!("keys: {} are given; 1 to {most} are allowed.", names.len())));
        }
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let key = LockKey::new(&name).map_err(|error| Problem::invalid(format!("keys: {:?}: {error}.", excerpt(&name))))?;
            if members.contains(&key) {
                return Err(Problem::invalid(format!("keys: {:?} is given twice; give it once.", excerpt(&name))));
            }
            members.push(key);
        }
        Ok(Self { options: AcquireOptions::read(&mut given, state, Mode::Exclusive)?, locks: Locks::of_set(members) })
    }
}
