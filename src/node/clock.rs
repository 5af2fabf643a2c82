//! The time of the cluster: the median of the nodes' clocks, as their replies show them.
//!
//! Gateways need no NTP: their own clock serves only until the first reply, and for the microseconds since the last one.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::lease::Quorum;

/// The offsets of all nodes' clocks from this gateway's monotonic clock.
#[derive(Debug)]
pub struct ClusterClock {
    quorum: Quorum,
    started: Instant,
    /// The system clock when the gateway started. Later steps of it don't matter.
    started_us: i64,
    offsets: Vec<AtomicI64>,
}

/// A tenth of the smallest window: half of it, the error, is small beside what clocks may be apart.
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(1);
/// No sample yet. No offset can be this: the clock would be 292 000 years off.
const UNKNOWN: i64 = i64::MIN;

impl ClusterClock {
    pub fn new(quorum: Quorum) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let offsets = (0..quorum.nodes()).map(|_| AtomicI64::new(UNKNOWN)).collect();
        Self { quorum, started: Instant::now(), started_us: since_1970.as_micros() as i64, offsets }
    }

    /// Learns from a reply that was asked for at `sent`, has just arrived, and says `node_us`.
    ///
    /// The node read its clock somewhere in between, so half the round trip bounds the error. Of a reply that took
    /// long only the bounds are believed: what was known before is moved no further than into them.
    pub fn sample(&self, node: usize, node_us: u64, sent: Instant) {
        let round_trip = sent.elapsed();
        let half = round_trip.as_micros() as i64 / 2;
        let offset = node_us as i64 + half - self.local_us();
        let known = self.offsets[node].load(Ordering::Relaxed);
        let believed = if round_trip <= LONGEST_ROUND_TRIP || known == UNKNOWN { offset } else { known.clamp(offset - half, offset + half) };
        self.offsets[node].store(believed, Ordering::Relaxed);
    }

    /// Microseconds since 1970, by the median of the nodes; while some are unknown, never ahead of all that are right.
    pub fn estimate_us(&self) -> u64 {
        (self.local_us() + self.median().unwrap_or(0)).max(0) as u64
    }

    /// The same for the handshake, by which a node's own clock is judged: while some are unknown, never behind all that
    /// are right.
    ///
    /// A quarantine is counted by the clock of its node. Begun by one that is behind it would be over as soon as that
    /// clock is set right, and to the estimate such a clock looks right where the nodes beside it are too few to outvote it.
    pub fn reference_us(&self) -> u64 {
        let offset = self.ranked(|known, minority| ((known - 1) / 2).max(minority).min(known - 1));
        (self.local_us() + offset.unwrap_or(0)).max(0) as u64
    }

    /// Whether enough nodes were heard for the median to mean something.
    pub fn is_settled(&self) -> bool {
        self.quorum.required() <= self.known().count()
    }

    /// How far a node's clock is ahead of the median, in microseconds.
    pub fn offset_us(&self, node: usize) -> Option<i64> {
        let own = Some(self.offsets[node].load(Ordering::Relaxed)).filter(|own| *own != UNKNOWN)?;
        Some(own - self.median()?)
    }

    fn local_us(&self) -> i64 {
        self.started_us + self.started.elapsed().as_micros() as i64
    }

    fn known(&self) -> impl Iterator<Item = i64> {
        self.offsets.iter().map(|offset| offset.load(Ordering::Relaxed)).filter(|offset| *offset != UNKNOWN)
    }

    /// The lower of the two in the middle where their number is even; further down while some nodes are unknown, so that
    /// a minority of wrong clocks can't push it ahead.
    fn median(&self) -> Option<i64> {
        self.ranked(|known, minority| ((known - 1) / 2).min((known - 1).saturating_sub(minority)))
    }

    /// The known offset of a rank, from the lowest up. `rank` is told how many are known, at least one, and how many clocks
    /// may be wrong.
    fn ranked(&self, rank: impl Fn(usize, usize) -> usize) -> Option<i64> {
        let mut sorted = [0; Quorum::MAX_NODES];
        let mut known = 0;
        for offset in self.known() {
            sorted[known] = offset;
            known += 1;
        }
        let sorted = &mut sorted[..known];
        sorted.sort_unstable();
        if sorted.is_empty() { None } else { sorted.get(rank(known, self.quorum.nodes() - self.quorum.required())).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_median_ignores_a_minority_of_wrong_clocks() {
        let clock = ClusterClock::new(Quorum::of(3));
        let now = clock.estimate_us();
        assert!(!clock.is_settled());
        clock.sample(0, now + 1, Instant::now());
        assert_eq!((clock.offset_us(0), clock.offset_us(1)), (Some(0), None));
        for (node, skew) in [(0, 0), (1, 3_600_000_000), (2, 40)] {
            clock.sample(node, now + skew, Instant::now());
        }
        assert!(clock.is_settled());
        assert_eq!(clock.estimate_us(), now + 40);
        assert_eq!(clock.offset_us(1), Some(3_599_999_960));
    }

    #[tokio::test(start_paused = true)]
    async fn two_wrong_clocks_of_five_push_nothing_ahead_even_if_they_are_heard_first() {
        let clock = ClusterClock::new(Quorum::of(5));
        let now = clock.estimate_us();
        for (node, skew, seen) in [(0, 3_600_000_000, 3_600_000_000), (1, 3_600_000_000, 3_600_000_000), (2, 7, 7), (3, 5, 7), (4, 9, 9)] {
            clock.sample(node, now + skew, Instant::now());
            if 2 <= node {
                assert!(clock.is_settled());
                assert_eq!(clock.estimate_us(), now + seen, "after node {node}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beside_a_node_that_is_away_a_wrong_clock_pushes_the_estimate_not_ahead_and_the_reference_not_behind() {
        for (skew, estimate, reference) in [(3_600_000_000, 7, 3_600_000_000), (-3_600_000_000, -3_600_000_000, 7)] {
            let clock = ClusterClock::new(Quorum::of(3));
            let now = clock.estimate_us();
            let off = |us: u64| us as i64 - now as i64;
            clock.sample(0, now.wrapping_add_signed(skew), Instant::now());
            clock.sample(1, now + 7, Instant::now());
            assert_eq!((off(clock.estimate_us()), off(clock.reference_us())), (estimate, reference));
            clock.sample(2, now + 9, Instant::now());
            let median = if skew < 0 { 7 } else { 9 };
            assert_eq!((off(clock.estimate_us()), off(clock.reference_us())), (median, median));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_that_took_long_does_not_move_a_clock_that_is_known() {
        let clock = ClusterClock::new(Quorum::of(1));
        clock.sample(0, clock.estimate_us(), Instant::now());
        let (sent, read_us) = (Instant::now(), clock.estimate_us());
        tokio::time::advance(Duration::from_millis(100)).await;
        clock.sample(0, read_us, sent);
        assert_eq!(clock.estimate_us() - read_us, 100_000);
        // An hour off is out of the bounds of any reply.
        clock.sample(0, read_us + 3_600_000_000, sent);
        assert_eq!(clock.estimate_us() - read_us, 3_600_000_000);
    }
}
