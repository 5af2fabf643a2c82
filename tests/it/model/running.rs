//! Runs a row of a table and compares what it shows with what it must show.

use std::fmt;
use std::fmt::Write;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use super::exploring::{Action, EXCLUSION, FIRST, ORDER, RIVAL};
use super::gateway::Phase;
use super::row::{Effort, Expectation, Kind, Row};
use super::walking::walk;
use super::world::World;

/// What a run of one row found: the shortest way to each violation.
pub struct Findings {
    pub exclusion: Option<Vec<(World, Option<Action>)>>,
    pub order: Option<Vec<(World, Option<Action>)>>,
    /// The first lease is granted in some run, and another one in some run.
    pub grants_both: bool,
    pub states: usize,
}

/// A row that grows beyond this fails instead of eating the memory.
const LIMIT: usize = 60_000_000;

fn explore(row: &Row) -> Findings {
    let mut checker = row.configuration.clone().checker().threads(1);
    if row.exclusion != Expectation::Holds && row.order != Expectation::Holds {
        checker = checker.finish_when(HasDiscoveries::AllOf(row.must_fail()));
    }
    let checked = checker.target_state_count(LIMIT).spawn_bfs().join();
    assert!(checked.state_count() < LIMIT, "{}: too large to explore to the end", row.name);
    let found = |property| checked.discovery(property).map(Path::into_vec);
    let grants_both = checked.discovery(FIRST).is_some() && checked.discovery(RIVAL).is_some();
    Findings { exclusion: found(EXCLUSION), order: found(ORDER), grants_both, states: checked.unique_state_count() }
}

#[derive(Default)]
pub struct Report {
    configurations: usize,
    states: usize,
    mutants: usize,
}

impl Report {
    /// Panics, with the shortest way there, if the row shows something else than it must.
    pub fn check(&mut self, row: &Row) {
        let began = Instant::now();
        let findings = match row.effort {
            Effort::Walks(seeds) => walk(&row.configuration, seeds),
            Effort::ToTheEnd => explore(row),
        };
        let effort = match row.effort {
            Effort::Walks(seeds) => format!("{seeds} walks"),
            Effort::ToTheEnd => "to the end".to_owned(),
        };
        println!("{:>8} states {:>6.1} s  {effort:<10} {}", findings.states, began.elapsed().as_secs_f32(), row.name);
        compare(row, "M", row.exclusion, findings.exclusion.as_deref());
        compare(row, "F", row.order, findings.order.as_deref());
        assert!(findings.grants_both || !row.must_fail().is_empty(), "{}: a lease was never granted, so it shows nothing", row.name);
        self.configurations += 1;
        self.states += findings.states;
        self.mutants += usize::from(row.kind == Kind::Mutant && !row.must_fail().is_empty());
    }
}

fn compare(row: &Row, property: &str, expected: Expectation, way: Option<&[(World, Option<Action>)]>) {
    let told = || format!("{}\n{:#?}", row.name, row.configuration);
    match (expected, way) {
        (Expectation::Holds, Some(way)) => panic!("{property} must hold and fails: {}\n{}", told(), readable(way)),
        (Expectation::Fails, None) => panic!("{property} must fail and holds: {}", told()),
        (Expectation::Fails, Some(way)) if std::env::var_os("MODEL_WAYS").is_some() => println!("{property} fails:\n{}", readable(way)),
        _ => {}
    }
}

/// One line per step: what happened, and what the nodes hold after it.
fn readable(way: &[(World, Option<Action>)]) -> String {
    let mut text = String::new();
    for (step, (world, _)) in way.iter().enumerate() {
        let happened = step.checked_sub(1).and_then(|before| way[before].1).map(|action| action.to_string()).unwrap_or_default();
        let _ = writeln!(text, "{step:>3}. {happened}\n       {world}");
    }
    text
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}:", self.now)?;
        for (index, node) in self.nodes.iter().enumerate() {
            write!(f, " [{}", self.clock(index))?;
            for record in node.kept.record.iter().chain(&node.kept.sharers) {
                let writer = record.attempt.map_or("firm".to_owned(), |request| format!("by request {request}"));
                write!(f, " lease {} ballot {} {writer} until {}", record.lease, record.ballot, record.expires)?;
            }
            node.kept.fence.iter().try_for_each(|fence| write!(f, " fence {} {} until {}", fence.high, fence.low, fence.expires))?;
            match node.ready_at {
                None => write!(f, " uncertified")?,
                Some(ready_at) if self.clock(index) < ready_at => write!(f, " quarantined until {ready_at}")?,
                Some(_) => {}
            }
            write!(f, "]")?;
        }
        for phase in &self.phases {
            match phase {
                Phase::Asking(asking) => write!(f, " asking({})", asking.ballot)?,
                Phase::Holding { until } => write!(f, " holding(until {until})")?,
                phase => write!(f, " {phase:?}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { configurations, states, mutants } = self;
        write!(f, "model: {configurations} configurations, {} states, {mutants} mutants caught, 0 violations", with_commas(*states))
    }
}

fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}
