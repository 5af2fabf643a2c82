//! The real engine and the real node rules under a seeded scheduler, on a clock that jumps from event to event.
//!
//! Gateways, servers, a network and clients share one thread and one paused clock, and every choice is drawn from the
//! seed, so a seed is a history. `TEST_SEEDS` says how many, `TEST_SEED` begins with (or, alone, repeats) one:
//!
//! ```sh
//! TEST_SEEDS=1000000 cargo test --release simulation::seeds -- --nocapture
//! TEST_SEED=4711 cargo test simulation::seeds -- --nocapture
//! ```

mod client;
mod faults;
mod link;
mod scenario;
mod server;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redlockd::metrics::Metrics;
use scenario::{Fault, Scenario};
use world::World;

use crate::history::{Counts, History, Violation, Wrong};
use crate::support::{Chance, number_from};

/// How many seeds without a word from the environment.
const SEEDS: u64 = 1000;

/// What became of some seeds.
#[derive(Default)]
struct Summary {
    seeds: u64,
    counts: Counts,
    violations: usize,
    first: Option<String>,
}

impl Summary {
    /// Only violations that `count` are counted.
    fn add(&mut self, seed: u64, outcome: Result<History, String>, counts: impl Fn(&Violation) -> bool) {
        self.seeds += 1;
        let said = match outcome {
            Ok(history) => {
                let violations: Vec<_> = history.violations().into_iter().filter(counts).collect();
                self.counts += history.counts();
                self.violations += violations.len();
                violations.first().map(Violation::to_string)
            }
            Err(said) => {
                self.violations += 1;
                Some(said)
            }
        };
        if let (None, Some(said)) = (&self.first, said) {
            self.first = Some(format!("seed {seed}, repeated by TEST_SEED={seed}: {said}"));
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.seeds += other.seeds;
        self.counts += other.counts;
        self.violations += other.violations;
        self.first = self.first.or(other.first);
        self
    }

    fn line(&self, name: &str) -> String {
        format!("{name}: {} seeds, {}, {} violations", self.seeds, self.counts, self.violations)
    }
}

fn run(seed: u64, metrics: &Arc<Metrics>, alter: impl Fn(&mut Scenario)) -> Result<History, String> {
    let mut chance = Chance::new(seed);
    let mut scenario = Scenario::of(&mut chance);
    alter(&mut scenario);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(World::run(scenario, chance, Arc::clone(metrics)))
}

/// Runs `seeds` from `first` on, on all processors, and judges them by the violations that `count`.
fn run_all(first: u64, seeds: u64, alter: impl Fn(&mut Scenario) + Sync, counts: impl Fn(&Violation) -> bool + Sync) -> Summary {
    let next = AtomicU64::new(first);
    let work = || {
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut summary = Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if first + seeds <= seed {
                return summary;
            }
            summary.add(seed, run(seed, &metrics, &alter), &counts);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).fold(Summary::default(), Summary::merge)
    })
}

#[test]
fn seeds_keep_every_promise() {
    let (first, seeds) = match (number_from("TEST_SEED"), number_from("TEST_SEEDS")) {
        (Some(seed), None) => (seed, 1),
        (first, seeds) => (first.unwrap_or(1), seeds.unwrap_or(SEEDS)),
    };
    let summary = run_all(first, seeds, |_| {}, |_| true);
    println!("{}", summary.line("simulation"));
    assert_eq!(summary.violations, 0, "{}", summary.first.unwrap_or_default());
}

#[test]
fn a_seed_is_a_history() {
    let metrics = Arc::new(Metrics::new().unwrap());
    for seed in 1..=10 {
        let [once, again] = [(); 2].map(|()| format!("{:?}", run(seed, &metrics, |_| {})));
        assert_eq!(once, again, "seed {seed}");
    }
}

/// Without a margin leases may overlap while clocks jump, and tokens grow all the same: they are what to rely on.
#[test]
fn tokens_grow_although_clocks_jump_and_no_margin_is_taken() {
    let jumping = |scenario: &mut Scenario| {
        scenario.clock_jump_margin = Duration::ZERO;
        scenario.ttl_ms = 100..scenario.agreement.max_ttl.as_millis() as u64 + 1;
        if !scenario.faults.contains(&Fault::Jump) {
            scenario.faults.push(Fault::Jump);
        }
    };
    let (all, order) = (run_all(1, 300, jumping, |_| true), run_all(1, 300, jumping, |violation| violation.wrong != Wrong::Overlap));
    println!("{}, {} of exclusion", order.line("simulation without a margin"), all.violations - order.violations);
    assert_eq!(order.violations, 0, "{}", order.first.unwrap_or_default());
    assert!(0 < all.violations, "no clock jumped so far that it mattered");
}

/// Servers that forget and vote at once: the simulation must see what that breaks, or it could see nothing.
#[test]
fn without_a_quarantine_the_same_runs_break_the_promises() {
    let forgetful = |scenario: &mut Scenario| {
        scenario.quarantine = false;
        scenario.faults = vec![Fault::CrashEmpty, Fault::Flush];
        scenario.fault_every = Duration::from_millis(40);
    };
    let summary = run_all(1, 100, forgetful, |_| true);
    println!("{}", summary.line("simulation without quarantine"));
    assert!(10 < summary.violations, "{}", summary.line("only"));
}
