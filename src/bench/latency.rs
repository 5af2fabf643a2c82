//! Latencies of one kind of call, and the few numbers that they are reported as.

use std::time::Duration;

use serde::Serialize;

/// Samples in microseconds, up to a bound.
#[derive(Debug)]
pub struct Latencies {
    samples: Vec<u32>,
    capacity: usize,
    unrecorded: u64,
}

/// Nearest-rank percentiles: each is the latency of a call that was made. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    pub p50_us: u32,
    pub p99_us: u32,
    pub p999_us: u32,
    pub max_us: u32,
}

impl Latencies {
    pub fn new(capacity: usize) -> Self {
        Self { samples: Vec::new(), capacity, unrecorded: 0 }
    }

    /// Keeps one sample, or counts it when there is no room for more.
    pub fn record(&mut self, latency: Duration) {
        if self.samples.len() == self.capacity {
            self.unrecorded += 1;
            return;
        }
        // Longer than 71 minutes is no latency any more.
        self.samples.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds the samples of another connection. The bounds of all parts add up to the bound of the whole.
    pub fn merge(&mut self, part: Self) {
        self.samples.extend_from_slice(&part.samples);
        self.unrecorded += part.unrecorded;
    }

    /// How many calls were made after the room for samples was used up.
    pub fn unrecorded(&self) -> u64 {
        self.unrecorded
    }

    /// `None` when there is no sample.
    pub fn percentiles(mut self) -> Option<Percentiles> {
        self.samples.sort_unstable();
        let max_us = *self.samples.last()?;
        let rank = |per_mille| self.samples[nearest_rank(self.samples.len(), per_mille)];
        Some(Percentiles { p50_us: rank(500), p99_us: rank(990), p999_us: rank(999), max_us })
    }
}

/// The index of the smallest of `count` sorted samples that at least `per_mille` of them do not exceed. `count` is not 0.
fn nearest_rank(count: usize, per_mille: usize) -> usize {
    (count * per_mille).div_ceil(1000).max(1) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percentiles(samples: impl Iterator<Item = u64>) -> Option<Percentiles> {
        let mut latencies = Latencies::new(1_000_000);
        samples.for_each(|us| latencies.record(Duration::from_micros(us)));
        latencies.percentiles()
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        for (count, expected) in [
            (1, (1, 1, 1, 1)),
            (2, (1, 2, 2, 2)),
            (3, (2, 3, 3, 3)),
            (100, (50, 99, 100, 100)),
            (101, (51, 100, 101, 101)),
            (1000, (500, 990, 999, 1000)),
            (1001, (501, 991, 1000, 1001)),
            (10_000, (5000, 9900, 9990, 10_000)),
        ] {
            let found = percentiles((1..=count).rev()).unwrap();
            assert_eq!((found.p50_us, found.p99_us, found.p999_us, found.max_us), expected, "{count} samples");
        }
        assert_eq!(percentiles(std::iter::empty()), None);
    }

    #[test]
    fn what_does_not_fit_is_counted_or_cut_down() {
        let mut latencies = Latencies::new(2);
        for seconds in [7_200, 1, 2] {
            latencies.record(Duration::from_secs(seconds));
        }
        assert_eq!(latencies.unrecorded(), 1);
        assert_eq!(latencies.percentiles().unwrap().max_us, u32::MAX);
    }

    #[test]
    fn merging_keeps_every_sample_and_every_count() {
        let mut whole = Latencies::new(4);
        for us in [1, 2] {
            let mut part = Latencies::new(2);
            (0..3).for_each(|_| part.record(Duration::from_micros(us)));
            whole.merge(part);
        }
        assert_eq!(whole.unrecorded(), 2);
        assert_eq!(whole.percentiles(), Some(Percentiles { p50_us: 1, p99_us: 2, p999_us: 2, max_us: 2 }));
    }
}
