//! What somebody may want to know later: who took a lock from whom, and why.

use tracing::warn;

use crate::auth::Caller;
use crate::lease::{Holder, LockKey};

/// A lock was released by force; `holder` had it, if anybody did.
pub fn forced(caller: &Caller, key: &LockKey, reason: &str, holder: Option<&Holder>) {
    let who = caller.name().map(|name| name.as_str());
    let owner = holder.and_then(|holder| holder.owner.as_ref()).map(|owner| owner.as_str());
    let token = holder.and_then(|holder| holder.ballot).map(|ballot| ballot.micros());
    let released = holder.is_some();
    warn!(target: "audit", who, key = key.as_str(), reason, released, owner, fencing_token = token, "a lock was released by force");
}
