//! Rows about votes, repeats with the same lease id, cancels, releases and extends.

use super::configuration::{Configuration, Mutant, Request, acquire, extend, release, release_of_token};
use super::row::Row;

pub fn rows() -> Vec<Row> {
    [repeats(), votes(), undoing(), extends()].into_iter().flatten().collect()
}

fn of(requests: &[Request]) -> Configuration {
    Configuration::of(requests)
}

fn repeat() -> Configuration {
    of(&[acquire(0, 0), acquire(0, 1), acquire(1, 2)])
}

fn aborted(c: Configuration) -> Configuration {
    Configuration { aborts: c.requests.len(), ..c }
}

fn repeats() -> Vec<Row> {
    let rivals = of(&[acquire(0, 0), acquire(1, 1)]);
    let rival_between = of(&[acquire(0, 0), acquire(0, 2), acquire(1, 1)]);
    let one_ballot = of(&[acquire(0, 0), acquire(0, 0), acquire(1, 0)]);
    vec![
        Row::protocol(
            "two rivals abort, lose a reply and try twice",
            Configuration { until: 2, lost_replies: 1, rounds: 2, ..aborted(rivals.clone()) },
        ),
        Row::protocol("two rivals on five nodes", Configuration { until: 1, nodes: 5, ..aborted(rivals.clone()) }),
        Row::protocol("two rivals whose messages come twice", Configuration { until: 1, duplicates: 2, ..aborted(rivals) }),
        Row::protocol("an acquire is repeated while its cancel is under way", aborted(repeat())),
        Row::protocol("a rival's ballot lies between that of an acquire and its repeat", aborted(rival_between)),
        Row::protocol("an acquire, its repeat and a rival draw one and the same ballot", aborted(one_ballot)),
        Row::protocol("a repeat loses a reply and time passes", Configuration { until: 1, lost_replies: 1, ..repeat() }),
        Row::protocol("an acquire and its repeat raise each other's records", Configuration { rounds: 2, ..repeat() }),
    ]
}

fn votes() -> Vec<Row> {
    let rivals = of(&[acquire(0, 0), acquire(1, 1)]);
    let later_rival = of(&[acquire(0, 0), acquire(1, -2)]);
    let far_repeat = of(&[acquire(0, 0), acquire(0, 3), acquire(1, -1)]);
    let repeats = of(&[acquire(0, 0), acquire(0, 3), acquire(0, 4), acquire(1, -1)]);
    // The node that is ahead finds the first ballot stale, so a second round has to follow.
    let one_ahead = Configuration { offsets: vec![4], rounds: 2, until: 1, ..of(&[acquire(0, 0), acquire(1, 0)]).with_ttl(0).with_window(2, 0, 0) };
    vec![
        Row::breaks_order("accepted votes of two rounds are added up", one_ahead.broken(Mutant::AcceptedCountsAcrossRounds)),
        Row::breaks_order("accepted and mine are added up", Configuration { until: 2, ..far_repeat }.broken(Mutant::AcceptedAndMineAddUp)),
        Row::breaks_order("mine counts across ballots", Configuration { until: 2, ..repeats }.broken(Mutant::MineCountsAcrossBallots)),
        Row::breaks_exclusion("a majority less one says mine", repeat().broken(Mutant::ReplayWithoutMajority)),
        Row::breaks_exclusion("one node is counted twice", Configuration { duplicates: 1, ..rivals.clone() }.broken(Mutant::OneNodeCountsTwice)),
        Row::breaks_order("an equal ballot is not stale", Configuration { until: 2, ..later_rival }.broken(Mutant::EqualBallotIsNotStale)),
        Row::breaks_exclusion("validity counts from the end of the attempt", Configuration { until: 2, ..rivals }.broken(Mutant::ValidityFromTheEnd)),
        Row::breaks_exclusion(
            "a repeated grant is valid for the whole ttl",
            Configuration { until: 2, ..repeat() }.broken(Mutant::ReplayValidForTheWholeTtl),
        ),
    ]
}

fn undoing() -> Vec<Row> {
    let reused = of(&[acquire(0, 0), release(0, 0), acquire(0, 0), acquire(1, 1)]);
    let reused_by_token = of(&[acquire(0, 0), release_of_token(0), acquire(0, 1), acquire(1, 1)]);
    let raised = Configuration { rounds: 2, aborts: 1, ..of(&[acquire(0, 1), acquire(0, 0), acquire(1, 2)]) };
    let rounds = Configuration { until: 2, lost_replies: 1, rounds: 2, ..aborted(of(&[acquire(0, 0), acquire(1, 1)])) };
    vec![
        Row::protocol("a lease id is used again after its release was answered", reused.clone()),
        Row::protocol("a lease id is used again after a release of its token", reused_by_token),
        Row::breaks_exclusion("a cancel frees whatever the lease holds", aborted(repeat()).broken(Mutant::CancelByLease)),
        Row::breaks_exclusion("nothing becomes firm", aborted(repeat()).broken(Mutant::NothingBecomesFirm)),
        Row::breaks_exclusion("a raised record stays cancellable", raised.broken(Mutant::RaisedRecordStaysCancellable)),
        // What overtook its cancel stays until its ttl, as an orphan that stands in the way but is nobody's grant.
        Row::harmless("a cancel leaves no tombstone", aborted(repeat()).broken(Mutant::NoTombstone)),
        Row::harmless("a cancel that frees raises no fence", rounds.clone().broken(Mutant::CancelThatFreesRaisesNoFence)),
        Row::harmless("an earlier round that comes late makes firm", rounds.broken(Mutant::EarlierRoundMakesFirm)),
        Row::breaks_exclusion("a release raises no fence", reused.clone().broken(Mutant::ReleaseRaisesNoFence)),
        Row::breaks_exclusion("a lease id is used again before its release is answered", reused.clone().broken(Mutant::ReuseBeforeReleaseIsAnswered)),
        Row::breaks_exclusion("a client uses a grant that it asked for before its release", reused.broken(Mutant::GrantSurvivesItsRelease)),
    ]
}

fn extends() -> Vec<Row> {
    let extended = of(&[acquire(0, 0), extend(0, 2), acquire(1, 1)]);
    let shortened = of(&[acquire(0, 0), extend(0, 1), acquire(1, 1)]).with_ttl(3);
    let split = of(&[acquire(0, 0), acquire(0, 1), extend(0, 1), acquire(1, 1)]);
    let careful = Configuration { until: 1, careful: true, ..of(&[acquire(0, 0), extend(0, 0), acquire(0, 0), acquire(1, 1)]).with_ttl(0) };
    vec![
        Row::protocol("a lease is extended while its acquire is cancelled", Configuration { until: 1, aborts: 1, ..extended.clone() }),
        Row::protocol("a lease is extended whose records have two ballots", split.clone()),
        Row::protocol("a lease is asked for again after an extend found it gone", careful.clone()),
        Row::breaks_exclusion("an extend shortens", Configuration { until: 2, ..shortened }.broken(Mutant::ExtendShortens)),
        Row::breaks_order("an extend creates", Configuration { until: 2, ..extended.clone() }.broken(Mutant::ExtendCreates)),
        Row::breaks_order("an extend counts across ballots", Configuration { until: 2, ..split }.broken(Mutant::ExtendCountsAcrossBallots)),
        Row::breaks_exclusion("what was extended can still be cancelled", aborted(extended).broken(Mutant::ExtendLeavesRecordCancellable)),
        // A late extend prolongs what the same lease was granted after it was told that it had lost the lock.
        Row::breaks_exclusion("an extend that found its lease gone frees what it prolonged", careful.broken(Mutant::LostExtendFreesWhatItProlonged)),
    ]
}
