//! Rows about one node's clock that jumps: the margin, the high-water mark, and excursions that no script saw.

use super::configuration::{Configuration, Mutant, Ticks, acquire};
use super::row::Row;

pub fn rows() -> Vec<Row> {
    [margins(), order(), excursions()].into_iter().flatten().collect()
}

/// The other two clocks are a window apart, and the one that jumps was certified a window behind the median.
///
/// The two ballots are the ones that reach furthest: the first is granted while that clock is as far behind as
/// can be unnoticed, the second while it is as far ahead as the window of another node allows.
pub fn jumping(window: Ticks, step_back: Ticks, lag: Ticks, margin: Ticks, jumps: &[Ticks]) -> Configuration {
    let furthest_behind = -window - (step_back + lag).min(window - 1);
    let furthest_ahead = 3 * window - 1;
    Configuration {
        margin,
        until: 2 + lag,
        jumpers: 1,
        offsets: vec![-window, 0, window],
        jumps: jumps.len() as u8,
        jump_by: jumps.to_vec(),
        ..Configuration::of(&[acquire(0, furthest_behind + window), acquire(1, furthest_ahead - window + 1)])
            .with_ttl(margin + 1)
            .with_window(window, step_back, lag)
    }
}

fn margins() -> Vec<Row> {
    vec![
        Row::breaks_exclusion("a clock jumps, without a margin", jumping(1, 0, 0, 0, &[1, 3])).beyond(),
        Row::breaks_exclusion("a clock jumps, with a margin of 2W", jumping(2, 0, 0, 4, &[7])).beyond(),
        Row::breaks_exclusion("a clock jumps, with a margin of 4W less two ticks", jumping(2, 0, 0, 6, &[7])).beyond(),
        Row::protocol("a clock jumps, with a margin of 4W less one tick", jumping(2, 0, 0, 7, &[7])),
        Row::breaks_exclusion("a clock jumps after an unnoticed step back, with a margin of 4W less one tick", jumping(2, 1, 0, 7, &[-1, 8]))
            .beyond(),
        Row::protocol("a clock jumps after an unnoticed step back, with a margin of 4W + B", jumping(2, 1, 0, 9, &[-1, 8])),
    ]
}

/// A fast gateway, then a slow one, and a clock that jumps.
pub fn stepping(step_back: Ticks, lag: Ticks, until: Ticks, jumps: &[Ticks]) -> Configuration {
    Configuration {
        until,
        jumpers: 1,
        jumps: jumps.len() as u8,
        jump_by: jumps.to_vec(),
        ..Configuration::of(&[acquire(0, 1), acquire(1, 0)]).with_ttl(0).with_window(1, step_back, lag)
    }
}

/// A node with the fastest clock forgets, and comes back with the slowest.
pub fn forgetting(quarantine: Ticks, jumps: &[Ticks]) -> Configuration {
    Configuration { quarantine, crashes: 1, offsets: vec![1, 1, 0], requests: vec![acquire(0, 2), acquire(1, 1)], ..stepping(0, 0, 1, jumps) }
}

fn order() -> Vec<Row> {
    // Expiry is inclusive, so of the time that fences are kept for one tick is to spare.
    let kept_for_step = |fence_keep| Configuration { fence_keep, ..stepping(1, 0, 3, &[-1]).with_ttl(1) };
    vec![
        Row::keeps_order("a clock runs ahead, is seen there, and comes back", stepping(0, 0, 1, &[3, -3])),
        Row::breaks_order("no high-water mark", stepping(0, 0, 1, &[3, -3]).broken(Mutant::NoHighWaterMark)),
        Row::keeps_order("fences are kept for an unnoticed step back, to the tick", kept_for_step(2)),
        Row::breaks_order("fences are kept one tick shorter than for that step", kept_for_step(1)),
        Row::breaks_order("a clock steps forward within a quarantine of 2W + B", forgetting(2, &[-2, 2])),
        Row::breaks_order("a quarantine begins at any clock", forgetting(6, &[-7, 7]).broken(Mutant::QuarantineStartsAtAnyClock)),
    ]
}

/// A clock runs ahead and comes back between two scripts, while Redis expires what it passes.
pub fn unseen(margin: Ticks, by: &[Ticks]) -> Configuration {
    Configuration { margin, jumps: 0, excursions: 1, excursion_by: by.to_vec(), ..stepping(0, 0, 2, &[]) }.with_ttl(margin + 1)
}

/// What a canary can't show, since it still lives, fences are kept longer for and leases used shorter.
pub fn with_canary(ttl: Ticks, until: Ticks, by: &[Ticks]) -> Configuration {
    const KEEP: Ticks = 2;
    let c = Configuration { until, ..unseen(KEEP, by).with_ttl(ttl) };
    Configuration { canary: Some(KEEP), fence_keep: c.fence_keep + KEEP, ..c }
}

fn excursions() -> Vec<Row> {
    let survives = Configuration { canary_may_survive: true, ..with_canary(3, 1, &[9]) };
    vec![
        Row::breaks_everything("an excursion that no script saw, with a margin of 4W", unseen(4, &[9])).beyond(),
        Row::protocol("an excursion that no script saw, where a canary expires with the rest", with_canary(3, 1, &[1, 2, 3, 9])),
        Row::breaks_exclusion("a canary is trusted after a silence", with_canary(6, 3, &[9]).broken(Mutant::CanaryIsTrustedAfterSilence)),
        Row::breaks_everything("an excursion in which Redis expires the lock and its fence before the canary", survives).beyond(),
    ]
}
