//! The loop: one task for each connection, and what it counts.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::latency::Latencies;
use super::{BenchOptions, Failure, Outcome, Report, Target};

/// Of all connections and both calls together: 80 MB, twice that while they are merged.
const MAX_SAMPLES: usize = 20_000_000;
/// A release is repeated because a lock that stays behind blocks a shared run until its ttl ends.
const RELEASE_TRIES: usize = 3;
/// There are about a dozen codes; more can only come from something that is no gateway.
const MAX_CODES: usize = 32;

/// Runs the closed loop on every target until the duration has passed, and waits until all have released.
///
/// Latencies are those of calls that succeeded. Failures are counted, and the next cycle begins at once.
pub async fn run<T: Target>(targets: Vec<T>, options: BenchOptions) -> Report {
    let connections = targets.len();
    let run = format!("bench-{:08x}", rand::random::<u32>());
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for (number, target) in targets.into_iter().enumerate() {
        let lock = if options.shared { format!("{run}/shared") } else { format!("{run}/{number}") };
        let tally = Tally::new(MAX_SAMPLES / 2 / connections);
        let mut worker = Worker { target, key: lock.clone(), lock, shared: options.shared, failures: 0, tally };
        workers.spawn(async move {
            while begun.elapsed() < options.duration {
                worker.cycle().await;
            }
            worker.tally
        });
    }
    let tallies = workers.join_all().await;
    let elapsed = begun.elapsed();
    let shares = tallies.iter().map(|tally| tally.cycles);
    let share = shares.clone().min().unwrap_or_default()..=shares.max().unwrap_or_default();
    let mut total = Tally::new(MAX_SAMPLES / 2);
    tallies.into_iter().for_each(|tally| total.merge(tally));
    Report::new(connections, elapsed, share, total)
}

/// What was counted, by one connection or by all.
pub struct Tally {
    pub cycles: u64,
    pub acquire: Latencies,
    pub release: Latencies,
    pub errors: ErrorCounts,
}

/// Failures by code, up to [`MAX_CODES`] of them.
#[derive(Default)]
pub struct ErrorCounts(BTreeMap<String, u64>);

struct Worker<T> {
    target: T,
    /// The lock's name in this run, without the count of failures that its key may carry.
    lock: String,
    key: String,
    shared: bool,
    failures: u64,
    tally: Tally,
}

impl<T: Target> Worker<T> {
    async fn cycle(&mut self) {
        match self.acquire_and_release().await {
            Ok(()) => self.tally.cycles += 1,
            Err(failure) => self.fail(&failure),
        }
    }

    async fn acquire_and_release(&mut self) -> Outcome<()> {
        let begun = Instant::now();
        let lease = self.target.acquire(&self.key).await?;
        self.tally.acquire.record(begun.elapsed());
        for _ in 1..RELEASE_TRIES {
            match self.release(&lease).await {
                Ok(()) => return Ok(()),
                Err(failure) => self.tally.errors.add(&failure.code, 1),
            }
        }
        self.release(&lease).await
    }

    async fn release(&mut self, lease: &T::Lease) -> Outcome<()> {
        let begun = Instant::now();
        self.target.release(&self.key, lease).await?;
        self.tally.release.record(begun.elapsed());
        Ok(())
    }

    /// Counts a failure. It may have left a lock behind, so that a connection with a lock of its own takes a fresh one.
    fn fail(&mut self, failure: &Failure) {
        self.tally.errors.add(&failure.code, 1);
        if !self.shared {
            self.failures += 1;
            self.key = format!("{}/{}", self.lock, self.failures);
        }
    }
}

impl Tally {
    fn new(capacity: usize) -> Self {
        Self { cycles: 0, acquire: Latencies::new(capacity), release: Latencies::new(capacity), errors: ErrorCounts::default() }
    }

    fn merge(&mut self, part: Self) {
        self.cycles += part.cycles;
        self.acquire.merge(part.acquire);
        self.release.merge(part.release);
        part.errors.0.into_iter().for_each(|(code, count)| self.errors.add(&code, count));
    }
}

impl ErrorCounts {
    pub fn add(&mut self, code: &str, count: u64) {
        if let Some(sum) = self.0.get_mut(code) {
            *sum += count;
            return;
        }
        let code = if self.0.len() < MAX_CODES { code } else { "other" };
        *self.0.entry(code.to_owned()).or_default() += count;
    }

    pub fn into_map(self) -> BTreeMap<String, u64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    /// Acquires in 2 ms and releases in 3 ms, on a paused clock. Every failing call, counted from 1, fails in no time.
    struct Scripted {
        calls: u64,
        failing: fn(u64) -> bool,
        keys: std::sync::mpsc::Sender<String>,
    }

    impl Scripted {
        async fn call(&mut self, key: &str, ms: u64) -> Outcome<()> {
            self.calls += 1;
            self.keys.send(key.to_owned()).unwrap();
            if (self.failing)(self.calls) {
                return Err(Failure::new("scripted"));
            }
            sleep(Duration::from_millis(ms)).await;
            Ok(())
        }
    }

    impl Target for Scripted {
        type Lease = u64;

        async fn acquire(&mut self, key: &str) -> Outcome<u64> {
            self.call(key, 2).await?;
            Ok(self.calls)
        }

        async fn release(&mut self, key: &str, _: &u64) -> Outcome<()> {
            self.call(key, 3).await
        }
    }

    /// The report of 50 ms, and the keys that were used, in order, without the run's own prefix.
    async fn report(connections: usize, shared: bool, failing: fn(u64) -> bool) -> (serde_json::Value, Vec<String>) {
        let (keys, used) = std::sync::mpsc::channel();
        let targets = (0..connections).map(|_| Scripted { calls: 0, failing, keys: keys.clone() }).collect();
        drop(keys);
        let report = run(targets, BenchOptions { connections, duration: Duration::from_millis(50), shared }).await;
        let mut used: Vec<_> = used.iter().map(|key| key["bench-01234567/".len()..].to_owned()).collect();
        used.dedup();
        (serde_json::from_str(&report.to_json()).unwrap(), used)
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_loop_makes_as_many_cycles_as_fit() {
        let (report, keys) = report(1, false, |_| false).await;
        assert_eq!((&report["cycles"], &report["duration_ms"], &report["cycles_per_second"]), (&10.into(), &50.into(), &200.into()));
        assert_eq!((&report["acquire"]["p50_us"], &report["release"]["max_us"]), (&2000.into(), &3000.into()));
        assert_eq!(report["errors"], serde_json::json!({}));
        assert_eq!(keys, ["0"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_acquire_moves_an_own_lock_to_a_fresh_key_but_not_a_shared_one() {
        for (shared, expected) in [(false, vec!["0", "0/1"]), (true, vec!["shared"])] {
            let (report, keys) = report(1, shared, |call| call == 3).await;
            assert_eq!((&report["cycles"], &report["errors"]["scripted"]), (&10.into(), &1.into()));
            assert_eq!(keys, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_release_is_repeated_and_then_given_up() {
        for (failing, cycles, errors, expected) in
            [((|call| call == 2) as fn(u64) -> bool, 10, 1, vec!["0"]), (|call| (2..=4).contains(&call), 10, 3, vec!["0", "0/1"])]
        {
            let (report, keys) = report(1, false, failing).await;
            assert_eq!((&report["cycles"], &report["errors"]["scripted"]), (&cycles.into(), &errors.into()));
            assert_eq!(keys, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_add_up() {
        let (report, mut keys) = report(3, false, |call| call == 1).await;
        assert_eq!((&report["connections"], &report["cycles"], &report["errors"]["scripted"]), (&3.into(), &30.into(), &3.into()));
        keys.sort();
        keys.dedup();
        assert_eq!(keys, ["0", "0/1", "1", "1/1", "2", "2/1"]);
    }

    #[test]
    fn codes_are_bounded() {
        let mut errors = ErrorCounts::default();
        (0..2 * MAX_CODES).for_each(|code| errors.add(&code.to_string(), 1));
        assert_eq!(errors.into_map().get("other"), Some(&(MAX_CODES as u64)));
    }
}
