//! Waiting for a lock: one's turn in this gateway first, then the lock itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::acquire::{AcquireError, AcquireRequest, Acquired, acquire};
use super::cluster::Cluster;
use super::traces::{Known, traces};
use super::waiters::{NoPlace, Step};
use crate::lease::{Holder, Mode};

/// Why a lock was not got in the time that one was willing to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// Nobody waited, or it had to end early. Nothing is held.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
}

/// How long the first in a line goes without another try if nobody says that the lock was freed: word of a release through
/// another gateway may be lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same where several share the lock, of whom any may leave. Shorter than a lock is kept from others for one who waits.
const PATIENCE_WITH_MANY: Duration = Duration::from_millis(500);
/// The same where several gateways may have tried at once, so that none of them won.
const AFTER_A_TIE: Duration = Duration::from_millis(15);
/// A record that is younger may be one of those.
const FRESH: Duration = Duration::from_millis(50);
/// A record ends by its node's clock, which is read in whole milliseconds.
const AFTER_THE_END: Duration = Duration::from_millis(3);

/// How long others who would share a lock are held back for one who waits to have it alone, and who tries more often.
const HOLDS_BACK: Duration = Duration::from_secs(1);

/// Waits for up to `wait` for one's turn and the lock. While it waits it is small: what an attempt takes is allocated for the
/// attempt. Dropping the future leaves the line and undoes what was begun.
///
/// For a set it is the line of one of its locks that was held: whoever comes to the front of it and finds another one held
/// goes to the end of that one's line.
pub async fn wait_for(cluster: &Arc<Cluster>, request: &mut AcquireRequest, wait: Duration) -> Result<Acquired, WaitError> {
    let begun = Instant::now();
    let give_up = begun + wait;
    let mut of = request.locks.each()[0].clone();
    // A repeat is told of its own lease, and does not wait for its turn. Where nobody else waits it is its turn.
    if let Some(lease) = request.lease.clone()
        && cluster.waiters().any_for(&of)
        && may_be_there(&Box::pin(traces(cluster, request.locks.key(&lease), lease)).await)
    {
        match Box::pin(acquire(cluster, request.clone())).await {
            Ok(acquired) => return Ok(acquired),
            Err(error) => drop(who_will_leave(error, request)?),
        }
    }
    let mut place = cluster.waiters().join(&of, request.mode == Mode::Exclusive)?;
    let mut is_crowded = false;
    loop {
        match place.step()? {
            Step::Try { freed } => {
                let tried = Instant::now();
                // Whoever stands before it, in the line of another lock of its set, is not held back.
                let stands_behind_others = request.locks.members().iter().any(|member| *member != of && cluster.waiters().any_for(member));
                let left = give_up.saturating_duration_since(tried);
                request.holds_back = if stands_behind_others { Duration::ZERO } else { left.min(HOLDS_BACK) };
                match Box::pin(acquire(cluster, request.clone())).await {
                    Ok(mut acquired) => {
                        acquired.waited = tried - begun;
                        let left = Some(request.ttl.get().saturating_sub(tried.elapsed()));
                        let ballot = Some(acquired.grant.fencing_token.ballot());
                        let is_shared = request.mode != Mode::Exclusive;
                        let holder = Holder { ballot, owner: request.owner.clone(), left, is_shared, member: None };
                        // There may be room for the next as well.
                        let pause = if is_shared { Duration::ZERO } else { pause(Some(&holder), false, cluster.clock().estimate_us()) };
                        place.won(holder, pause);
                        return Ok(acquired);
                    }
                    Err(error) => {
                        is_crowded = matches!(error, AcquireError::Crowded(_));
                        let holder = who_will_leave(error, request)?;
                        let written_us = holder.as_ref().and_then(|holder| holder.ballot).map_or(0, |ballot| ballot.micros());
                        let now_us = cluster.clock().estimate_us();
                        let is_fresh = now_us.saturating_sub(written_us) < FRESH.as_micros() as u64;
                        let pause = pause(holder.as_ref(), is_fresh, now_us);
                        if holder.as_ref().is_some_and(|holder| holder.is_shared && holder.ballot.is_none()) {
                            // It is kept for somebody who waits elsewhere, and may not have heard that it is free.
                            cluster.neighbours().tell_freed(&of);
                        }
                        let in_the_way = holder.as_ref().and_then(|holder| Some((request.locks.members().get(holder.member?)?, holder)));
                        if let Some((other, holder)) = in_the_way.filter(|(other, _)| **other != of) {
                            if place.move_to(other, holder, self::pause(None, false, now_us)) {
                                of = other.clone();
                            }
                        } else if place.lost(holder, freed, pause) {
                            cluster.neighbours().tell_awaited(&of);
                        }
                    }
                }
            }
            Step::Wait { until } => {
                // Whatever it was that ended this, the next step says what to do.
                let _ = timeout_at(until.unwrap_or(give_up).min(give_up), place.changed()).await;
            }
        }
        if give_up <= Instant::now() {
            // The line's holder may have been seen by one who wants this lock alone, and does not say which of the set it is.
            let member = request.locks.members().iter().position(|member| *member == of);
            let holder = place.holder().map(|holder| Holder { member, ..holder });
            return Err(if is_crowded { AcquireError::Crowded(holder) } else { AcquireError::Held(holder) }.into());
        }
    }
}

/// Whether the caller's lease is on the nodes, or too few of them said that it is not.
fn may_be_there(known: &Known) -> bool {
    known.is_anything() || known.doubt.is_some()
}

/// Who is in the way for now; an error if no wait will end it, such as another set of locks that the lease itself has.
fn who_will_leave(error: AcquireError, request: &AcquireRequest) -> Result<Option<Holder>, AcquireError> {
    match error {
        AcquireError::Held(Some(holder)) if request.locks.is_set() && holder.member.is_none() => Err(AcquireError::Held(Some(holder))),
        AcquireError::Held(holder) | AcquireError::Crowded(holder) => Ok(holder),
        AcquireError::OtherLimit { .. } | AcquireError::NoQuorum(_) | AcquireError::Indeterminate(_) => Err(error),
    }
}

/// How long a lock that was tried in vain is left alone. Not the same for all who wait for it in other gateways: half to one
/// and a half of the usual, by the microsecond, so that a run on a clock of its own can be repeated.
fn pause(holder: Option<&Holder>, is_fresh: bool, now_us: u64) -> Duration {
    // Fibonacci hashing: neighbouring microseconds are far apart in the upper bits.
    let share = f64::from((now_us.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32) / f64::from(u32::MAX);
    let vary = |pause: Duration| pause.mul_f64(0.5 + share);
    match holder {
        Some(holder) if holder.is_shared => holder.left.map_or(PATIENCE_WITH_MANY, |left| left + vary(AFTER_THE_END)).min(vary(PATIENCE_WITH_MANY)),
        Some(holder) if !is_fresh => holder.left.map_or(PATIENCE, |left| left + vary(AFTER_THE_END)).min(vary(PATIENCE)),
        _ => vary(AFTER_A_TIE),
    }
}
