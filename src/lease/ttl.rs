//! How long a lease may live, and how much of that its holder may use.

use std::time::Duration;

/// The lifetime that nodes are told, in whole milliseconds, within [`TtlBounds`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ttl(Duration);

/// The shortest and the longest lifetime that this gateway grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TtlBounds {
    pub min: Duration,
    pub max: Duration,
}

/// A lifetime outside the bounds, or one that is not whole milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not allowed; a ttl is {} to {}, in whole milliseconds",
    humantime::format_duration(*.given), humantime::format_duration(.bounds.min), humantime::format_duration(.bounds.max))]
pub struct TtlOutOfBounds {
    pub given: Duration,
    pub bounds: TtlBounds,
}

impl TtlBounds {
    /// Below this a lease is gone before a request to a neighbouring rack is answered twice.
    pub const SHORTEST: Duration = Duration::from_millis(100);

    /// The bounds under a `clock_jump_margin`: a ttl must leave more than half of itself, or no grant could be given.
    ///
    /// From `ttl - ttl/100 - 2 ms - margin > ttl/2`, so `ttl > (margin + 2 ms) / 0.49`; halved again to leave time for rounds.
    pub fn new(max: Duration, clock_jump_margin: Duration) -> Self {
        let needed = if clock_jump_margin.is_zero() { Duration::ZERO } else { (clock_jump_margin + DRIFT_BASE) * 100 / 24 };
        Self { min: Self::SHORTEST.max(Duration::from_millis(needed.as_millis() as u64)), max }
    }
}

impl Ttl {
    pub fn new(given: Duration, bounds: TtlBounds) -> Result<Self, TtlOutOfBounds> {
        let whole = given.subsec_nanos().is_multiple_of(1_000_000);
        if whole && (bounds.min..=bounds.max).contains(&given) { Ok(Self(given)) } else { Err(TtlOutOfBounds { given, bounds }) }
    }

    pub fn get(self) -> Duration {
        self.0
    }

    pub fn as_millis(self) -> u64 {
        self.0.as_millis() as u64
    }
}

/// One hundredth: how far the rates of two clocks may differ (Redlock's allowance).
const DRIFT_SHARE: u32 = 100;
/// Two roundings to a millisecond, the granularity of expiry in Redis.
const DRIFT_BASE: Duration = Duration::from_millis(2);

/// How long a holder may rely on a lifetime of `ttl`, counted from before the first request was sent.
///
/// `margin` is the `clock_jump_margin` of the configuration.
pub fn validity(ttl: Duration, margin: Duration) -> Duration {
    ttl.saturating_sub(ttl / DRIFT_SHARE).saturating_sub(DRIFT_BASE).saturating_sub(margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn validity_leaves_a_hundredth_two_milliseconds_and_the_margin() {
        for (ttl, margin, left) in [(30_000, 0, 29_698), (100, 0, 97), (30_000, 2_250, 27_448), (2, 0, 0), (500, 2_250, 0)] {
            assert_eq!(validity(ms(ttl), ms(margin)), ms(left), "ttl {ttl} margin {margin}");
        }
    }

    #[test]
    fn a_ttl_is_whole_milliseconds_within_its_bounds() {
        let bounds = TtlBounds::new(ms(300_000), Duration::ZERO);
        assert!(Ttl::new(ms(100), bounds).is_ok() && Ttl::new(ms(300_000), bounds).is_ok());
        for given in [ms(99), ms(300_001), Duration::from_micros(200_500)] {
            assert_eq!(Ttl::new(given, bounds), Err(TtlOutOfBounds { given, bounds }));
        }
        let text = Ttl::new(ms(99), bounds).unwrap_err().to_string();
        assert_eq!(text, "99ms is not allowed; a ttl is 100ms to 5m, in whole milliseconds");
    }

    #[test]
    fn with_a_margin_the_shortest_ttl_still_leaves_more_than_half() {
        let bounds = TtlBounds::new(ms(300_000), ms(2_250));
        assert!(bounds.min / 2 < validity(bounds.min, ms(2_250)));
    }
}
