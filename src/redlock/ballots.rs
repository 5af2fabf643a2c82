//! The ballots that this gateway draws.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::lease::Ballot;
use crate::node::ClusterClock;

/// Draws ballots: the nodes' median clock, but never one twice. Nothing of it is stored; a restart starts from the clock.
pub struct Ballots {
    clock: Arc<ClusterClock>,
    window_us: u64,
    last: AtomicU64,
}

impl Ballots {
    pub fn new(clock: Arc<ClusterClock>, window: Duration) -> Self {
        Self { clock, window_us: window.as_micros() as u64, last: AtomicU64::new(0) }
    }

    pub fn draw(&self) -> Ballot {
        self.draw_above(Ballot::default())
    }

    /// A ballot above `floor` as well, unless no node could accept one so far ahead: a single wrong clock must
    /// not drag this gateway's ballots out of the window.
    pub fn draw_above(&self, floor: Ballot) -> Ballot {
        let estimate = self.clock.estimate_us();
        let floor = if floor.micros() <= estimate + self.window_us { floor.micros() + 1 } else { 0 };
        // A ballot that was drawn by a clock that turned out wrong is forgotten: order between grants is the nodes' affair.
        let after = |last: u64| if last <= estimate + 2 * self.window_us { last + 1 } else { 0 };
        let next = |last: u64| after(last).max(estimate).max(floor);
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        Ballot::from_micros(next(last.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Quorum;

    #[tokio::test(start_paused = true)]
    async fn ballots_grow_and_follow_floors_within_the_window() {
        let clock = Arc::new(ClusterClock::new(Quorum::of(1)));
        let ballots = Ballots::new(Arc::clone(&clock), Duration::from_millis(500));
        let now = clock.estimate_us();
        assert_eq!(ballots.draw().micros(), now);
        assert_eq!(ballots.draw().micros(), now + 1);
        assert_eq!(ballots.draw_above(Ballot::from_micros(now + 500_000)).micros(), now + 500_001);
        assert_eq!(ballots.draw_above(Ballot::from_micros(now + 500_001)).micros(), now + 500_002);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ballot_of_a_clock_that_was_wrong_is_forgotten() {
        let clock = Arc::new(ClusterClock::new(Quorum::of(1)));
        let ballots = Ballots::new(Arc::clone(&clock), Duration::from_millis(500));
        let wrong = ballots.draw().micros();
        let right = wrong - 3_600_000_000;
        clock.sample(0, right, tokio::time::Instant::now());
        assert_eq!(ballots.draw().micros(), right);
    }
}
