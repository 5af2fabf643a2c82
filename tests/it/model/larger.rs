//! Rows too large for every build: more requests, more time, and everything at once.

use super::clocks_that_jump::{forgetting, jumping, stepping, unseen, with_canary};
use super::configuration::{Configuration, Mutant, acquire, extend, release, release_of_token};
use super::row::{Effort, Row};
use super::windows_and_quarantine::crash;

const WALKS: u64 = 60_000;

pub fn rows() -> Vec<Row> {
    [votes(), clocks(), everything()].into_iter().flatten().collect()
}

fn votes() -> Vec<Row> {
    let repeat = |aborts| Configuration { aborts, ..Configuration::of(&[acquire(0, 0), acquire(0, 1), acquire(1, 2)]) };
    let reused = |requests: &[_]| Configuration { until: 1, ..Configuration::of(requests) };
    let fences = Configuration { until: 4, ..Configuration::of(&[acquire(0, 1), acquire(1, 0), acquire(2, -1)]).with_ttl(0).with_window(1, 0, 0) };
    let far_release = [acquire(0, 0), release(0, 4), acquire(0, 1), acquire(1, 1)];
    let far = Configuration { until: 2, careful: true, ..Configuration::of(&far_release).with_ttl(2).with_window(1, 0, 0) };
    vec![
        Row::protocol("a repeat and its rival abort, and time passes", Configuration { until: 1, ..repeat(3) }),
        Row::protocol("a repeat and its rival abort after two rounds", Configuration { rounds: 2, ..repeat(3) }),
        Row::protocol("a lease id is used again", reused(&[acquire(0, 0), release(0, 0), acquire(0, 1), acquire(1, 1)])),
        Row::protocol("a lease id is used again after its token", reused(&[acquire(0, 0), release_of_token(0), acquire(0, 1), acquire(1, 1)])),
        Row::protocol("a lease of two ballots is extended", reused(&[acquire(0, 0), acquire(0, 1), extend(0, 1), acquire(1, 1)])),
        Row::protocol("three gateways while fences expire", fences),
        // Its end is above what the fences may be raised to, so a late copy of it frees what was granted since.
        Row::breaks_exclusion("a release without a token, by a gateway that is ahead by more than the window", far).beyond(),
    ]
}

fn clocks() -> Vec<Row> {
    let as_built = Configuration { until: 8, ..crash(3, 6, &[acquire(0, 0), acquire(1, 0)]) };
    let repeat = crash(1, 2, &[acquire(0, 0), acquire(0, 0), acquire(1, 0)]);
    let undoing = Configuration { aborts: 1, until: 3, ..crash(1, 2, &[acquire(0, 0), acquire(1, 0), release(0, 1)]) };
    let kept_for_lag = |fence_keep| Configuration { fence_keep, ..stepping(0, 1, 3, &[1, -1]) };
    let all_steps: Vec<_> = (-9..=9).filter(|by| *by != 0).collect();
    vec![
        Row::protocol("a node forgets, with the quarantine as it is built, and leases live long", as_built),
        Row::protocol("an acquire is repeated around a node that forgets", repeat),
        Row::protocol("cancels and releases reach a node under an earlier epoch", undoing),
        Row::breaks_exclusion("a clock jumps, with a margin of 4W + B and a high-water mark that lags", jumping(4, 1, 2, 17, &[-3, 18])).beyond(),
        Row::protocol("a clock jumps, with a margin of 4W + B + g", jumping(4, 1, 2, 19, &[-3, 18])),
        Row::protocol("a clock jumps twice by anything, with a margin of 4W + B", Configuration { jumps: 2, ..jumping(2, 1, 0, 9, &all_steps) }),
        Row::keeps_order("fences are kept for the lag of the high-water mark, to the tick", kept_for_lag(2)),
        Row::breaks_order("fences are kept one tick shorter than for that lag", kept_for_lag(1)),
        Row::keeps_order("a clock steps by two while the high-water mark lags by two", stepping(0, 2, 5, &[2, -2])),
        Row::keeps_order("a clock steps by two of which two are unnoticed", stepping(2, 0, 3, &[2, -2])),
        Row::keeps_order("a clock steps three times around a quarantine", forgetting(6, &[-2, 2, 4])),
        Row::protocol("excursions by anything, with a canary", with_canary(3, 3, &[1, 2, 3, 4, 5, 9])),
    ]
}

/// Three leases, three tries each, and every fault but excursions. Five ticks are the margin and more.
fn all_faults() -> Configuration {
    let tries = [(0, 0), (0, 1), (0, 0), (1, 0), (1, 1), (1, -1), (2, 1), (2, 0), (2, -1)];
    let mut requests: Vec<_> = tries.iter().map(|(lease, skew)| acquire(*lease, *skew)).collect();
    requests.extend([release(0, 0), release_of_token(1), extend(0, 12), extend(1, 10)]);
    Configuration {
        until: 40,
        rounds: 3,
        aborts: tries.len(),
        lost_replies: 4,
        duplicates: 2,
        crashes: 1,
        old_data: true,
        jumpers: 1,
        jumps: 4,
        jump_by: vec![-12, -5, -3, -1, 1, 2, 3, 5, 12],
        margin: 6,
        ..Configuration::of(&requests).with_ttl(12).with_window(1, 1, 1)
    }
}

/// Few requests and many jumps, so that a walk meets them at the right moment.
fn all_jumps() -> Configuration {
    let tries = [(0, 0), (0, -1), (1, 2), (1, 1), (1, 0)].map(|(lease, skew)| acquire(lease, skew));
    Configuration {
        until: 12,
        rounds: 2,
        jumpers: 1,
        offsets: vec![-1, 0, 1],
        jumps: 3,
        jump_by: vec![-3, -1, 1, 2, 3, 4],
        margin: 6,
        ..Configuration::of(&tries).with_ttl(8).with_window(1, 1, 1)
    }
}

fn everything() -> Vec<Row> {
    let five = Configuration { nodes: 5, jumpers: 2, jumps: 6, crashes: 2, ..all_faults() };
    let steady = || Configuration { jumps: 0, margin: 0, ..all_faults() };
    let unseen = Configuration { requests: all_faults().requests, until: 40, ..unseen(6, &[12]).with_ttl(12) };
    let rows = vec![
        Row::protocol("walks: everything at once", all_faults()),
        Row::protocol("walks: everything at once on five nodes, of which two jump", five),
        Row::protocol("walks: everything but jumps, without a margin", steady()),
        Row::protocol("walks: jumps, with a margin of 4W + B + g", all_jumps()),
        Row::breaks_exclusion("walks: jumps, without a margin", Configuration { margin: 0, ..all_jumps() }).beyond(),
        Row::breaks_exclusion("walks: excursions that no script saw", unseen).beyond(),
        Row::breaks_exclusion("walks: a cancel frees whatever the lease holds", steady().broken(Mutant::CancelByLease)),
        Row::breaks_exclusion("walks: a raised record stays cancellable", steady().broken(Mutant::RaisedRecordStaysCancellable)),
        Row::breaks_exclusion("walks: a lost extend frees what it prolonged", steady().broken(Mutant::LostExtendFreesWhatItProlonged)),
        Row::breaks_order("walks: an equal ballot is not stale", steady().broken(Mutant::EqualBallotIsNotStale)),
        Row::breaks_exclusion("walks: no quarantine", Configuration { quarantine: 0, ..steady() }),
    ];
    rows.into_iter().map(|row| row.with(Effort::Walks(WALKS))).collect()
}
