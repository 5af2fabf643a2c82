//! How often one caller may ask.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::interval;

use super::{Caller, KnownBy, Peer};
use crate::lease::OwnerLabel;

type Limiter = RateLimiter<Who, HashMapStateStore<Who>, MonotonicClock, NoOpMiddleware<<MonotonicClock as Clock>::Instant>>;

/// The bound on the requests of each caller. Clones share the counts.
#[derive(Clone)]
pub struct Pace(Option<Arc<Limiter>>);

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    /// All that one authority calls by one name.
    Named(KnownBy, OwnerLabel),
    /// Strangers, and everybody where nobody is asked.
    Address(IpAddr),
}

/// A caller asked too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFast {
    /// When it may ask again.
    pub wait: Duration,
}

/// How many callers are counted. Beyond it addresses are refused; callers that are known are few and trusted to be.
const MAX_CALLERS: usize = 100_000;
/// How often those are forgotten who may ask as much as anybody new.
const FORGET: Duration = Duration::from_secs(1);

impl Pace {
    /// `per_second` requests in a second, at once or spread out; none for no bound. Must be called within a tokio runtime.
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        per_second.map_or(Self(None), |per_second| Self::with(Quota::per_second(per_second)))
    }

    fn with(quota: Quota) -> Self {
        let limiter = Arc::new(Limiter::new(quota, HashMapStateStore::default(), MonotonicClock));
        tokio::spawn(forget(Arc::clone(&limiter)));
        Self(Some(limiter))
    }

    /// Counts a request of `caller`, who comes from `peer`; of `peer` alone if it is a stranger.
    pub fn admit(&self, caller: Option<&Caller>, peer: Option<&Peer>) -> Result<(), TooFast> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        let named = caller.and_then(|caller| Some((caller.known_by()?, caller.name()?)));
        let who = match (named, peer) {
            (Some((known_by, name)), _) => Who::Named(known_by, name.clone()),
            (None, Some(peer)) => Who::Address(network(peer.address)),
            (None, None) => return Ok(()),
        };
        if matches!(who, Who::Address(_)) && MAX_CALLERS <= limiter.len() {
            return Err(TooFast { wait: FORGET });
        }
        let now = MonotonicClock.now();
        limiter.check_key(&who).map_err(|until| TooFast { wait: until.wait_time_from(now) })
    }
}

async fn forget(limiter: Arc<Limiter>) {
    let mut ticks = interval(FORGET);
    loop {
        ticks.tick().await;
        limiter.retain_recent();
        limiter.shrink_to_fit();
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::auth::caller::Principal;

    #[tokio::test]
    async fn each_caller_has_a_pace_of_its_own() {
        // Two, and the next after an hour, whatever the test is held up by.
        let hour = Duration::from_secs(3600);
        let pace = Pace::with(Quota::with_period(hour).unwrap().allow_burst(NonZeroU32::new(2).unwrap()));
        let peer = |address: &str| Peer { address: address.parse().unwrap(), names: Arc::default() };
        let admit = |address: &str| pace.admit(Some(&Caller::Anybody), Some(&peer(address)));
        assert_eq!([admit("10.0.0.1"), admit("::ffff:10.0.0.1")], [Ok(()), Ok(())]);
        let TooFast { wait } = admit("10.0.0.1").unwrap_err();
        assert!(hour / 2 < wait && wait <= hour, "{wait:?}");
        assert_eq!([admit("2001:db8::1"), admit("2001:db8::2"), admit("10.0.0.2")], [Ok(()); 3]);
        assert!(admit("2001:db8::3").is_err());
        assert_eq!(admit("2001:db8:0:1::1"), Ok(()));
    }

    #[tokio::test]
    async fn a_name_of_an_issuer_is_not_the_same_name_on_the_roster() {
        let hour = Duration::from_secs(3600);
        let pace = Pace::with(Quota::with_period(hour).unwrap());
        let known = |known_by| Caller::Known(Arc::new(Principal { known_by, name: OwnerLabel::new("worker").unwrap(), grants: Vec::new() }));
        let admit = |known_by| pace.admit(Some(&known(known_by)), None).is_ok();
        assert_eq!([KnownBy::Roster, KnownBy::Issuer, KnownBy::Roster].map(admit), [true, true, false]);
    }

    #[tokio::test]
    async fn too_many_addresses_keep_out_addresses_and_nobody_who_is_known() {
        let pace = Pace::new(NonZeroU32::new(2));
        let peer = |n: usize| Peer { address: Ipv4Addr::from_bits(n as u32).into(), names: Arc::default() };
        assert!((0..MAX_CALLERS).all(|n| pace.admit(None, Some(&peer(n))).is_ok()));
        assert_eq!(pace.admit(None, Some(&peer(MAX_CALLERS))), Err(TooFast { wait: FORGET }));
        let known = Principal { known_by: KnownBy::Roster, name: OwnerLabel::new("worker").unwrap(), grants: Vec::new() };
        assert_eq!(pace.admit(Some(&Caller::Known(Arc::new(known))), Some(&peer(MAX_CALLERS))), Ok(()));
    }

    #[tokio::test]
    async fn without_a_bound_nobody_is_too_fast() {
        let pace = Pace::new(None);
        assert!((0..1000).all(|_| pace.admit(Some(&Caller::Anybody), None).is_ok()));
    }
}
