//! Rows about fences that expire, ballots beyond the window, and nodes that forget. Clocks don't jump here.
//!
//! A tick more or less is the whole difference between a row that holds and the next one, which fails.

use super::configuration::{Configuration, Mutant, Request, Ticks, acquire};
use super::row::Row;

pub fn rows() -> Vec<Row> {
    [fences(), forgetting()].into_iter().flatten().collect()
}

/// A fast gateway, then a slow one, while fences expire.
fn fast_then_slow(fast: Ticks, slow: Ticks) -> Configuration {
    Configuration { until: 5, ..Configuration::of(&[acquire(0, fast), acquire(1, slow)]).with_ttl(0).with_window(1, 0, 0) }
}

fn fences() -> Vec<Row> {
    let kept = |fence_keep| Configuration { fence_keep, ..fast_then_slow(1, 0) };
    vec![
        Row::protocol("a fast gateway, then a slow one, while fences expire", fast_then_slow(1, 0)),
        Row::protocol("a fence is kept for two windows less one, since expiry is inclusive", kept(1)),
        Row::breaks_order("a fence is kept one tick shorter than that", kept(0)),
        Row::breaks_order("a ballot ahead of the window is not refused", fast_then_slow(4, 0).broken(Mutant::AheadIsNotRefused)),
        Row::breaks_order("no ballot is too old", fast_then_slow(1, -3).broken(Mutant::NothingIsTooOld)),
    ]
}

/// One node forgets while two leases are asked for.
pub fn crash(ttl: Ticks, quarantine: Ticks, requests: &[Request]) -> Configuration {
    let until = ttl.max(quarantine) + 1;
    Configuration { quarantine, until, crashes: 1, ..Configuration::of(requests).with_ttl(ttl).with_window(1, 0, 0) }
}

fn forgetting() -> Vec<Row> {
    let order = |quarantine| crash(0, quarantine, &[acquire(0, 1), acquire(1, 0)]);
    let exclusion = |quarantine| crash(2, quarantine, &[acquire(0, 0), acquire(1, 0)]);
    let old_data = |c: Configuration| Configuration { old_data: true, ..c };
    let undoing = Configuration { aborts: 1, ..crash(1, 2, &[acquire(0, 0), acquire(1, 0)]) };
    vec![
        Row::protocol("a quarantine of two windows keeps tokens in order", order(2)),
        Row::breaks_order("a quarantine one tick shorter than two windows", order(1)),
        Row::protocol("a quarantine longer than the ttl keeps leases apart", exclusion(3)),
        Row::breaks_exclusion("a quarantine one tick shorter than that", exclusion(2)),
        Row::breaks_order("no quarantine: a token comes too low", order(0)),
        Row::breaks_exclusion("no quarantine: two leases at once", exclusion(0)),
        Row::protocol("a node restarts without its last write", old_data(exclusion(3))),
        Row::breaks_exclusion("a node restarts without its last write and no quarantine", old_data(exclusion(0))),
        Row::protocol("all three nodes forget, one after the other or together", Configuration { crashes: 3, ..order(2) }),
        Row::protocol("cancels reach a node under an earlier epoch", undoing),
    ]
}
