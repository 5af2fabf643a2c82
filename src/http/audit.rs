//! What somebody may want to know later: who took a lock from whom, and why.

use tracing::warn;

use crate::auth::Caller;
use crate::lease::{Holder, LockKey};
use crate::redlock::{ForceError, Redlock};

/// Takes the lock from whoever holds it, and tells the log before and after, whatever becomes of the request.
pub async fn force(redlock: Redlock, caller: Caller, key: LockKey, reason: String) -> Result<Option<Holder>, ForceError> {
    let forcing = async move {
        let who = caller.name().map(|name| name.as_str());
        warn!(audit = "force", who, key = key.as_str(), reason, "a lock is to be released by force");
        let outcome = redlock.force(key.clone()).await;
        let holder = outcome.as_ref().ok().and_then(Option::as_ref);
        let (owner, fencing_token) = (holder.and_then(|holder| holder.owner.as_ref()).map(|owner| owner.as_str()), holder.and_then(token_of));
        match &outcome {
            Ok(Some(_)) => warn!(audit = "forced", who, key = key.as_str(), reason, owner, fencing_token, "a lock was released by force"),
            Ok(None) => warn!(audit = "forced", who, key = key.as_str(), reason, "the lock that was to be released by force was free"),
            // What was begun may go on in the background.
            Err(error) => warn!(audit = "forced", who, key = key.as_str(), reason, %error, "a release by force is not known to be complete"),
        }
        outcome
    };
    tokio::spawn(forcing).await.expect("nothing in it panics, and nobody aborts it")
}

fn token_of(holder: &Holder) -> Option<u64> {
    holder.ballot.map(|ballot| ballot.micros())
}
