//! Releasing what another holds: the operator's way out when a holder is known to be gone.

use std::sync::Arc;

use super::cluster::Cluster;
use super::inspect::{InspectError, Inspected, inspect};
use super::release::{ReleaseError, release};
use crate::lease::{FencingToken, Holder, LockKey};

/// Why a lock was not taken from its holder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForceError {
    /// Nobody has it for sure; what a failed attempt left ends with its ttl.
    #[error("no majority agrees on who holds the lock")]
    Contended,
    /// A program that shares the nodes holds it, and knows nothing of fences.
    #[error("a program other than redlockd holds the lock")]
    Foreign,
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

/// Frees the lock from those who hold it now, and from nobody who gets it later. Those holders; none if it was free.
///
/// The fence stays, so what the old holder still writes under its token is refused by whoever checks tokens.
pub async fn force(cluster: &Arc<Cluster>, key: LockKey) -> Result<Vec<Holder>, ForceError> {
    let holders = match inspect(cluster, key.clone()).await? {
        Inspected::Free => return Ok(Vec::new()),
        Inspected::Contended => return Err(ForceError::Contended),
        Inspected::Held(holder) => vec![holder],
        Inspected::Together { sharers, .. } => sharers.into_iter().map(|sharing| sharing.holder).collect(),
    };
    // Up to the token of the newest all of them are released.
    let newest = holders.iter().filter_map(|holder| holder.ballot).max().ok_or(ForceError::Foreign)?;
    release(cluster, key, None, Some(FencingToken::of(newest))).await?;
    Ok(holders)
}
