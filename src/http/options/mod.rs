//! The options of each request, checked. Nobody below checks again.

mod acquiring;

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

pub use acquiring::{AcquireOptions, Hold, SetOptions, SlotOptions};

use super::given::{Given, excerpt};
use super::problem::Problem;
use super::state::AppState;
use crate::lease::{FencingToken, LeaseId, Ttl};

/// How long a client is willing to wait for a lock.
pub struct Wait {
    pub time: Duration,
    /// What it said in `Prefer`, which it is told was heard.
    pub preference: Option<u32>,
}

impl Wait {
    /// Tells the client that its preference was heard, if it had one.
    pub fn tell(preference: Option<u32>, response: &mut Response) {
        if let Some(seconds) = preference {
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
        let given = Given::of(request, &[]).await?;
        if given.wants_events() && !["application/json", "application/*", "*/*"].iter().any(|kind| given.accepts(kind)) {
            return Err(Problem::invalid("accept: text/event-stream is not to be had here, application/json is."));
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
