//! How long the majority that is asked first may take before the other nodes are asked as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What acquires usually take, by the last few dozens of them.
#[derive(Default)]
pub struct Patience {
    usual_us: AtomicU64,
}

/// Below this it is the scheduler of an idle machine that is slow, not a node.
const SHORTEST: Duration = Duration::from_millis(2);
/// How many times the usual is unusual.
const TIMES: u32 = 4;
/// The weight of the newest is one in this many.
const MEMORY: u64 = 16;

impl Patience {
    /// Learns from an acquire that was granted.
    pub fn observe(&self, took: Duration) {
        let usual = self.usual_us.load(Ordering::Relaxed);
        // If two learn at the same time one of them is lost, which changes nothing.
        self.usual_us.store((usual * (MEMORY - 1) + took.as_micros() as u64) / MEMORY, Ordering::Relaxed);
    }

    /// How long an acquire takes that is granted.
    pub fn usual(&self) -> Duration {
        Duration::from_micros(self.usual_us.load(Ordering::Relaxed))
    }

    /// At most a quarter of `call_timeout`, so that those who are asked later have most of it left.
    pub fn within(&self, call_timeout: Duration) -> Duration {
        (TIMES * self.usual()).max(SHORTEST).min(call_timeout / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_usual_between_its_bounds() {
        let (patience, ms) = (Patience::default(), Duration::from_millis(1));
        assert_eq!(patience.within(100 * ms), SHORTEST);
        (0..200).for_each(|_| patience.observe(3 * ms));
        assert!((11 * ms..=12 * ms).contains(&patience.within(100 * ms)), "{:?}", patience.within(100 * ms));
        (0..200).for_each(|_| patience.observe(80 * ms));
        assert_eq!(patience.within(100 * ms), 25 * ms);
        (0..200).for_each(|_| patience.observe(ms / 10));
        assert_eq!(patience.within(100 * ms), SHORTEST);
    }
}
