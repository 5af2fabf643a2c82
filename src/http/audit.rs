//! What the audit log is told of requests, and the log of what was done by force.

use jiff::Timestamp;
use tracing::warn;

use super::auth::Asking;
use super::body::rfc3339;
use super::problem::Problem;
use super::state::AppState;
use crate::audit::Event;
use crate::lease::{Holder, LockKey};

impl Asking {
    /// An event that is over now, about which nothing else is known.
    pub fn event<'a>(&'a self, event: &'static str, key: &'a LockKey, outcome: &'static str) -> Event<'a> {
        let time = rfc3339(u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default());
        let who = self.caller.name().map(|name| name.as_str());
        Event { time, event, outcome, key: key.as_str(), who, from: self.address, owner: None, fencing_token: None, reason: None }
    }
}

/// Takes the lock from whoever holds it, and tells the log before and after, whatever becomes of the request.
pub async fn force(state: AppState, asking: Asking, key: LockKey, reason: String) -> Result<Option<Holder>, Problem> {
    let forcing = async move {
        let who = asking.caller.name().map(|name| name.as_str());
        warn!(audit = "force", who, key = key.as_str(), reason, "a lock is to be released by force");
        let outcome = state.redlock.force(key.clone()).await;
        let holder = outcome.as_ref().ok().and_then(Option::as_ref);
        let (owner, fencing_token) = (holder.and_then(|holder| holder.owner.as_ref()).map(|owner| owner.as_str()), holder.and_then(token_of));
        match &outcome {
            Ok(Some(_)) => warn!(audit = "forced", who, key = key.as_str(), reason, owner, fencing_token, "a lock was released by force"),
            Ok(None) => warn!(audit = "forced", who, key = key.as_str(), reason, "the lock that was to be released by force was free"),
            // What was begun may go on in the background.
            Err(error) => warn!(audit = "forced", who, key = key.as_str(), reason, %error, "a release by force is not known to be complete"),
        }
        let outcome = outcome.map_err(Problem::from);
        state.audit.tell(|| {
            let holder = outcome.as_ref().ok().and_then(Option::as_ref);
            let word = outcome.as_ref().map_or_else(Problem::code, |holder| released(holder.is_some()));
            let owner = holder.and_then(|holder| holder.owner.as_ref()).map(|owner| owner.as_str());
            Event { owner, fencing_token: holder.and_then(token_of), reason: Some(&reason), ..asking.event("force", &key, word) }
        });
        outcome
    };
    tokio::spawn(forcing).await.expect("nothing in it panics, and nobody aborts it")
}

/// Whether there was something to release, in a word.
pub fn released(was_held: bool) -> &'static str {
    if was_held { "released" } else { "not_held" }
}

fn token_of(holder: &Holder) -> Option<u64> {
    holder.ballot.map(|ballot| ballot.micros())
}
