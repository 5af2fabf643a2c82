//! The options of each request, checked. Nobody below checks again.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

use super::given::{Given, excerpt, span};
use super::hold::SHORTEST_TTL;
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{FencingToken, LeaseId, LockKey, Mode, OwnerLabel, Slot, Ttl};
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

/// How long a client is willing to wait for a lock.
pub struct Wait {
    pub time: Duration,
    /// What it said in `Prefer`, which it is told was heard.
    pub preference: Option<u32>,
}

impl Wait {
    /// Tells the client that its preference was heard.
    pub fn tell(&self, response: &mut Response) {
        if let Some(seconds) = self.preference {
            let applied = HeaderValue::try_from(format!("wait={seconds}")).expect("digits may stand in a header");
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
    }
}

/// What a `PUT` may be told.
pub struct ExtendOptions {
    pub lease: LeaseId,
    pub ttl: Ttl,
}

/// What a `DELETE` may be told.
pub enum ReleaseOptions {
    Own {
        lease: LeaseId,
        fencing_token: Option<FencingToken>,
    },
    /// Whoever holds it, for this reason.
    Forced {
        reason: String,
    },
}

/// For a log line, so it is as bounded as an owner label is.
const MAX_REASON: usize = 256;

/// What `GET /locks/{key}` may be told.
pub struct InspectOptions {
    /// How long to wait until it is free.
    pub wait: Wait,
    /// What happens to it is to be told as it happens.
    pub watches: bool,
}

/// What may be told nothing.
pub struct NoOptions;

/// What `GET /locks` may be told.
pub struct ListOptions {
    pub prefix: String,
    pub limit: usize,
    pub cursor: Option<String>,
}

impl ListOptions {
    pub const DEFAULT_LIMIT: usize = 100;
    /// Every name on a page is asked of every node, so a page is bounded.
    pub const MAX_LIMIT: usize = 1000;
}

pub const LEASE_ID: HeaderName = HeaderName::from_static("lease-id");
pub const FENCING_TOKEN: HeaderName = HeaderName::from_static("fencing-token");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl AcquireOptions {
    const NAMES: [&str; 6] = ["ttl", "wait", "owner", "lease_id", "max_lifetime", "lock_delay"];

    fn read(mut given: Given, state: &AppState, mode: Mode) -> Result<Self, Problem> {
        given.header(&IDEMPOTENCY_KEY, "lease_id")?;
        given.header(&LEASE_ID, "lease_id")?;
        let preference = given.prefer_wait()?;
        let wait = Wait { time: given.wait(state)?, preference };
        let ttl = given.ttl(state)?;
        let mut bounds = given.bounds(ttl, state)?;
        // The gateway itself ends what it holds.
        let hold = given.wants_events().then(|| Hold { max_lifetime: bounds.max_lifetime.take() });
        if hold.is_some() && ttl.get() < SHORTEST_TTL {
            let detail =
                format!("ttl: {} ms are too few to hold a lock by a connection; at least {} ms are.", ttl.as_millis(), SHORTEST_TTL.as_millis());
            return Err(Problem::invalid(detail));
        }
        Ok(Self { ttl, wait, owner: given.owner()?, lease: given.lease()?, hold, mode, bounds })
    }
}

impl FromRequest<AppState> for AcquireOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let mut given = Given::of(request, &[&Self::NAMES[..], &["mode", "min_hold"]].concat()).await?;
        let mode = match given.take("mode").as_deref() {
            None | Some("exclusive") => Mode::Exclusive,
            Some("shared") => Mode::Shared,
            Some(other) => {
                return Err(Problem::invalid(format!("mode: {:?} is not allowed; a mode is exclusive or shared.", excerpt(other))));
            }
        };
        let min_hold = given.take("min_hold");
        if mode == Mode::Shared && min_hold.is_some() {
            return Err(Problem::invalid("min_hold: it is for who has the lock alone; leave it out, or ask for mode=exclusive."));
        }
        let mut options = Self::read(given, state, mode)?;
        if let Some(text) = min_hold {
            let (least, most) = (Duration::from_millis(1), options.ttl.get());
            options.bounds.min_hold = span("min_hold", &text, least..=most, "it is the ttl at most")?;
        }
        Ok(options)
    }
}

impl FromRequest<AppState> for SlotOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let mut given = Given::of(request, &[&AcquireOptions::NAMES[..], &["limit"]].concat()).await?;
        let (limit, most) = (given.take("limit"), Mode::MAX_TOGETHER);
        let limit = limit.ok_or_else(|| Problem::invalid(format!("limit is missing; say how many slots the semaphore has, from 1 to {most}.")))?;
        let number = limit
            .parse()
            .ok()
            .filter(|limit| (1..=most).contains(limit))
            .ok_or_else(|| Problem::invalid(format!("limit: {:?} is not allowed; a limit is an integer from 1 to {most}.", excerpt(&limit))))?;
        // Whichever slot is free.
        AcquireOptions::read(given, state, Mode::Slot(Slot { number: 0, limit: number })).map(Self)
    }
}

impl FromRequest<AppState> for SetOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let mut given = Given::of(request, &[&AcquireOptions::NAMES[..], &["keys"]].concat()).await?;
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
        Ok(Self { options: AcquireOptions::read(given, state, Mode::Exclusive)?, locks: Locks::of_set(members) })
    }
}

impl FromRequest<AppState> for ExtendOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let mut given = Given::of(request, &["ttl", "lease_id"]).await?;
        given.header(&LEASE_ID, "lease_id")?;
        Ok(Self { lease: given.required_lease()?, ttl: given.ttl(state)? })
    }
}

impl FromRequest<AppState> for ReleaseOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let mut given = Given::of(request, &["lease_id", "fencing_token", "force", "reason"]).await?;
        given.header(&LEASE_ID, "lease_id")?;
        given.header(&FENCING_TOKEN, "fencing_token")?;
        let reason = given.take("reason");
        let Some(force) = given.take("force") else {
            if reason.is_some() {
                return Err(Problem::invalid("reason: it goes with force=true only; leave it out."));
            }
            return Ok(Self::Own { lease: given.required_lease()?, fencing_token: given.fencing_token()? });
        };
        if force != "true" {
            return Err(Problem::invalid(format!("force: {:?} is not allowed; write force=true, or leave it out.", excerpt(&force))));
        }
        if given.take("lease_id").is_some() || given.take("fencing_token").is_some() {
            return Err(Problem::invalid("force: it is for locks whose lease you don't have; leave out either force or the lease id and the token."));
        }
        match reason.filter(|reason| (1..=MAX_REASON).contains(&reason.len()) && !reason.chars().any(char::is_control)) {
            Some(reason) => Ok(Self::Forced { reason }),
            None => {
                Err(Problem::invalid(format!("reason: force=true needs one, of 1 to {MAX_REASON} bytes without control characters, for the log.")))
            }
        }
    }
}

impl FromRequest<AppState> for InspectOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let mut given = Given::of(request, &["wait"]).await?;
        let preference = given.prefer_wait()?;
        let (wait, watches) = (Wait { time: given.wait(state)?, preference }, given.wants_events());
        if watches && !wait.time.is_zero() {
            return Err(Problem::invalid(
                "wait: whoever watches a lock is told when it is free; leave out either wait or Accept: text/event-stream.",
            ));
        }
        Ok(Self { wait, watches })
    }
}

impl FromRequest<AppState> for NoOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        if Given::of(request, &[]).await?.wants_events() {
            return Err(Problem::invalid("accept: text/event-stream is not to be had here; ask for application/json, again and again."));
        }
        Ok(Self)
    }
}

impl FromRequest<AppState> for ListOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, Problem> {
        let mut given = Given::of(request, &["prefix", "limit", "cursor"]).await?;
        let limit = match given.take("limit") {
            None => Self::DEFAULT_LIMIT,
            Some(text) => text.parse().ok().filter(|limit| (1..=Self::MAX_LIMIT).contains(limit)).ok_or_else(|| {
                Problem::invalid(format!("limit: {:?} is not allowed; a limit is an integer from 1 to {}.", excerpt(&text), Self::MAX_LIMIT))
            })?,
        };
        Ok(Self { prefix: given.take("prefix").unwrap_or_default(), limit, cursor: given.take("cursor") })
    }
}
