//! What the audit log is told of requests, and the log of what was done by force.

use jiff::Timestamp;
use tracing::warn;

use super::auth::{Asking, Force, OnLock, OnLocks, Permission};
use super::body::rfc3339;
use super::correlation::RequestId;
use super::problem::Problem;
use super::state::AppState;
use crate::audit::{Audit, Event};
use crate::auth::KnownBy;
use crate::lease::{FencingToken, Holder, LockKey, OwnerLabel};
use crate::redlock::Locks;
use crate::trace::carry;

/// What a caller wants done to a lock, or to the locks of a set. Told to the audit log when it is dropped, with what is known by
/// then: nobody can hang up before the log hears of it.
pub struct Deed {
    audit: Audit,
    event: &'static str,
    asking: Asking,
    pub locks: Locks,
    /// A word such as `granted`, or the code of a problem.
    pub outcome: &'static str,
    pub owner: Option<OwnerLabel>,
    pub fencing_token: Option<FencingToken>,
    reason: Option<Box<str>>,
}

/// The client went away before it had its answer. What it wanted may have been done; a new grant is undone.
const ABANDONED: &str = "abandoned";

impl Deed {
    /// It is about to be done. Until it is told otherwise its outcome is that its client went away.
    pub fn begin<A: Permission>(audit: &Audit, allowed: impl Into<OnLocks<A>>) -> Self {
        let OnLocks { locks, asking, .. } = allowed.into();
        Self::new(audit, A::ACTION.as_str(), locks, asking, ABANDONED)
    }

    /// It was not allowed.
    pub fn refuse<A: Permission>(audit: &Audit, locks: Locks, asking: Asking) {
        drop(Self::new(audit, A::ACTION.as_str(), locks, asking, "forbidden"));
    }

    fn new(audit: &Audit, event: &'static str, locks: Locks, asking: Asking, outcome: &'static str) -> Self {
        Self { audit: audit.clone(), event, asking, locks, outcome, owner: None, fencing_token: None, reason: None }
    }

    /// Another deed of the same caller on the same lock, and on the same grant until it is told another.
    pub fn of_the_same(&self, event: &'static str) -> Self {
        let mut deed = Self::new(&self.audit, event, self.locks.clone(), self.asking.clone(), ABANDONED);
        deed.fencing_token = self.fencing_token;
        deed
    }

    /// Who lost the lock, if anybody did.
    fn of_holder(&mut self, holder: Option<&Holder>) {
        self.owner = holder.and_then(|holder| holder.owner.clone());
        self.fencing_token = holder.and_then(|holder| holder.ballot).map(FencingToken::of);
    }

    /// The problem that is answered, after it was made the outcome.
    pub fn fail(&mut self, problem: impl Into<Problem>) -> Problem {
        let problem = problem.into();
        self.outcome = problem.code();
        problem
    }
}

impl Drop for Deed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.outcome = "internal";
        }
        let keys = self.locks.each();
        // Of a set that nobody knows any more there is a line as well.
        let unknown = keys.is_empty().then_some(None);
        for key in keys.iter().map(Some).chain(unknown) {
            self.audit.tell(|| Event {
                time: rfc3339(u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default()),
                event: self.event,
                outcome: self.outcome,
                key: key.map(LockKey::given),
                kind: key.map_or(Some("set"), |key| Some(kind(key)).filter(|kind| *kind != "lock")),
                who: self.asking.caller.name().map(OwnerLabel::as_str),
                known_by: self.asking.caller.known_by().map(KnownBy::as_str),
                from: self.asking.address,
                request_id: self.asking.request_id.as_ref().and_then(RequestId::as_str),
                owner: self.owner.as_ref().map(OwnerLabel::as_str),
                fencing_token: self.fencing_token.map(FencingToken::get),
                reason: self.reason.as_deref(),
            });
        }
    }
}

/// Takes the lock, or the slots of the semaphore, from those who hold it, and tells the logs before and after, whatever becomes of the request.
pub async fn force(state: AppState, allowed: OnLock<Force>, reason: String) -> Result<Vec<Holder>, Problem> {
    let forcing = async move {
        let key = allowed.key.clone();
        let mut deed = Deed::begin(&state.audit, allowed);
        let who = deed.asking.caller.name().cloned();
        let (kind, name, who) = (kind(&key), key.given(), who.as_ref().map(OwnerLabel::as_str));
        warn!(audit = "force", who, key = name, reason, "a {kind} is to be released by force");
        deed.reason = Some(reason.as_str().into());
        let outcome = state.redlock.force(key.clone()).await;
        match &outcome {
            Ok(holders) if holders.is_empty() => {
                warn!(audit = "forced", who, key = name, reason, "the {kind} that was to be released by force was free");
            }
            Ok(holders) => {
                for Holder { owner, ballot, .. } in holders {
                    let (owner, fencing_token) = (owner.as_ref().map(OwnerLabel::as_str), ballot.map(|ballot| FencingToken::of(ballot).get()));
                    warn!(audit = "forced", who, key = name, reason, owner, fencing_token, "a {kind} was released by force");
                }
            }
            // What was begun may go on in the background.
            Err(error) => warn!(audit = "forced", who, key = name, reason, %error, "a release by force is not known to be complete"),
        }
        let holders = outcome.map_err(|error| deed.fail(error))?;
        deed.outcome = released(!holders.is_empty());
        // One line for each who lost it.
        let mut others = holders.iter();
        deed.of_holder(others.next());
        for holder in others {
            let mut another = deed.of_the_same("force");
            (another.outcome, another.reason) = (deed.outcome, deed.reason.clone());
            another.of_holder(Some(holder));
        }
        Ok(holders)
    };
    tokio::spawn(carry(forcing)).await.expect("nothing in it panics, and nobody aborts it")
}

/// What the key names, in a word.
pub fn kind(key: &LockKey) -> &'static str {
    if key.is_our_own() { "semaphore" } else { "lock" }
}

/// Whether there was something to release, in a word.
pub fn released(was_held: bool) -> &'static str {
    if was_held { "released" } else { "not_held" }
}
