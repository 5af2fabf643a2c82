//! A lease that lives as long as the connection that asked for it: the gateway renews it, and releases it when its client
//! is gone.
//!
//! What is written to the client, it is written only while two thirds of the ttl are left. A client that has taken nothing
//! of it for half of the ttl is cut off by the kernel ([`Wire`]). So whatever arrives says that a sixth of the ttl is left,
//! and after a sixth without a word the client has to stop. A word comes every twelfth.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::audit::{self, Deed};
use super::body::rfc3339;
use super::state::AppState;
use crate::lease::{FencingToken, LeaseId, Ttl};
use crate::redlock::{ExtendError, Extended, Locks, ReleaseError};
use crate::trace::carry;

/// A lease to be held, as it was granted.
pub struct Holding {
    pub lease: LeaseId,
    pub fencing_token: FencingToken,
    pub ttl: Ttl,
    /// When the attempt that won was begun.
    pub asked: Instant,
    pub valid_for: Duration,
    pub max_lifetime: Option<Duration>,
    /// Its client chose the lease id, and may be back with it on another connection: what ends is this connection only.
    pub may_return: bool,
}

/// The shortest ttl that can be held: what is a twelfth of it has to be worth something beside the ways of a network.
pub const SHORTEST_TTL: Duration = Duration::from_secs(1);
/// Words that may wait for a client that does not read. What is beyond is not said.
const MAX_WORDS: usize = 16;
/// Between two tries to release.
const RETRY: Duration = Duration::from_secs(1);

/// Why a lease is not held any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nobody is there to hold it for.
    ClientGone,
    /// Another gateway may go on with it.
    Draining,
    /// It was held for as long as it may be.
    MaxLifetime,
    Lost(&'static str),
}

#[derive(Serialize)]
struct ExtendedBody {
    fencing_token: u64,
    valid_for_ms: u64,
    expires_at: String,
}

#[derive(Serialize)]
struct LostBody {
    reason: &'static str,
}

#[derive(Serialize)]
struct DrainingBody {
    valid_for_ms: u64,
}

impl Holding {
    /// The events, of which `acquired` is the first. The lease is held until nobody reads them any more.
    pub fn begin(self, state: AppState, acquired: &[u8], deed: Deed, wire: Option<Wire>) -> Body {
        let (words, said) = channel(MAX_WORDS);
        // There is room for the first.
        let _ = words.try_send(event("acquired", acquired));
        state.metrics.holders.inc();
        tokio::spawn(carry(self.hold(state, deed, words, wire)));
        events(said)
    }

    async fn hold(self, state: AppState, mut deed: Deed, words: Sender<Bytes>, wire: Option<Wire>) {
        deed.outcome = "granted";
        let mut releasing = deed.of_the_same("release");
        drop(deed);
        if let Some(wire) = &wire {
            wire.give_up_after(self.ttl.get() / 2);
        }
        let mut valid_until = self.asked + self.valid_for;
        let end = self.renew(&state, releasing.locks.clone(), &words, &mut valid_until).await;
        let left = valid_until.saturating_duration_since(Instant::now());
        let last = match end {
            End::ClientGone => None,
            End::Draining => Some(told("draining", &DrainingBody { valid_for_ms: left.as_millis() as u64 })),
            End::MaxLifetime => Some(told("lost", &LostBody { reason: "max_lifetime" })),
            End::Lost(reason) => Some(told("lost", &LostBody { reason })),
        };
        if let Some(last) = last {
            let _ = words.try_send(last);
        }
        if let Some(wire) = wire {
            wire.give_up_after(Duration::ZERO);
        }
        drop(words);
        state.metrics.holders.dec();
        match end {
            End::Draining => releasing.outcome = "draining",
            End::ClientGone if self.may_return => releasing.outcome = "left",
            End::MaxLifetime => {
                // A client that has not heard of it may rely on the last word for so long.
                sleep(self.ttl.get() * 2 / 3).await;
                self.release(&state, releasing, left).await;
            }
            _ => self.release(&state, releasing, left).await,
        }
    }

    /// Until the lease is not to be held any more, or can't be.
    async fn renew(&self, state: &AppState, locks: Locks, words: &Sender<Bytes>, valid_until: &mut Instant) -> End {
        let ttl = self.ttl.get();
        let over = self.max_lifetime.and_then(|lifetime| self.asked.checked_add(lifetime));
        let extend = |at: Instant| {
            let (redlock, locks) = (state.redlock.clone(), locks.clone());
            async move {
                sleep_until(at).await;
                (Instant::now(), redlock.extend(locks, self.lease.clone(), self.ttl).await)
            }
        };
        let mut renewal = std::pin::pin!(extend(self.asked + ttl / 4));
        let mut beat = interval(ttl / 12);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = words.closed() => return End::ClientGone,
                () = state.draining.begun() => return End::Draining,
                () = sleep_until(*valid_until) => return End::Lost("not_renewed"),
                () = sleep_until(over.unwrap_or(*valid_until)), if over.is_some() => return End::MaxLifetime,
                (begun, outcome) = &mut renewal => match outcome {
                    Ok(extended) => {
                        *valid_until = (*valid_until).max(begun + extended.valid_for);
                        let _ = words.try_send(self.extended(&extended, *valid_until));
                        renewal.set(extend(begun + ttl / 4));
                    }
                    Err(ExtendError::Expired | ExtendError::HeldByOther) => return End::Lost("not_holder"),
                    Err(ExtendError::NoQuorum(_) | ExtendError::Indeterminate(_)) => renewal.set(extend(Instant::now() + ttl / 12)),
                },
                _ = beat.tick() => {
                    if ttl * 2 / 3 <= valid_until.saturating_duration_since(Instant::now()) {
                        let _ = words.try_send(Bytes::from_static(b":\n\n"));
                    }
                }
            }
        }
    }

    fn extended(&self, extended: &Extended, valid_until: Instant) -> Bytes {
        let valid_for_ms = valid_until.saturating_duration_since(Instant::now()).as_millis() as u64;
        told("extended", &ExtendedBody { fencing_token: self.fencing_token.get(), valid_for_ms, expires_at: rfc3339(extended.expires_at_us) })
    }

    /// Until it is clear that it is not held, or the lease is over by itself.
    async fn release(&self, state: &AppState, mut deed: Deed, left: Duration) {
        let over = Instant::now() + left;
        loop {
            let outcome = state.redlock.release(deed.locks.clone(), self.lease.clone(), Some(self.fencing_token)).await;
            let is_open = matches!(outcome, Err(ReleaseError::NoQuorum(_) | ReleaseError::NotBegun(_) | ReleaseError::Indeterminate(_)));
            if !is_open || over <= Instant::now() + RETRY {
                match outcome {
                    Ok(released) => deed.outcome = audit::released(released.released),
                    Err(error) => drop(deed.fail(error)),
                }
                return;
            }
            sleep(RETRY).await;
        }
    }
}

/// A body of what is said, to its end.
pub fn events(mut said: Receiver<Bytes>) -> Body {
    Body::from_stream(stream::poll_fn(move |context| said.poll_recv(context).map(|word| word.map(Ok::<_, Infallible>))))
}

pub fn told(name: &str, body: &impl Serialize) -> Bytes {
    event(name, &serde_json::to_vec(body).expect("numbers and texts can be written"))
}

/// `data` must be of one line.
pub fn event(name: &str, data: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"].concat().into()
}

/// The wire behind a request, where it is a connection: how long what is sent may go without a sign that it arrived.
#[derive(Clone, Default)]
pub struct Wire(Arc<AtomicU32>);

impl Wire {
    /// From the next word on; zero for as long as the system thinks right.
    pub fn give_up_after(&self, patience: Duration) {
        self.0.store(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// In milliseconds.
    pub fn patience_ms(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
