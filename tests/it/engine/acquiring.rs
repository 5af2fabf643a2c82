//! What an acquire does when nodes misbehave, and what it leaves behind.

use std::time::Duration;

use redlockd::node::Command;
use redlockd::redlock::{AcquireError, Shortfall};
use tokio::time::{Instant, timeout};

use super::fake_node::Fate;
use super::{Engine, LOCK, NODE_TIMEOUT, until};
use crate::support::Caller;

const MS: Duration = Duration::from_millis(1);

/// The error of an acquire that must fail.
async fn refused<const N: usize>(engine: &Engine<N>, lease: &str) -> AcquireError {
    engine.acquire(lease).await.map(|_| ()).expect_err("it was granted")
}

fn words(shortfall: Shortfall) -> Vec<&'static str> {
    shortfall.votes.into_iter().map(|vote| vote.vote).collect()
}

#[tokio::test(start_paused = true)]
async fn a_majority_grants_and_says_how_many_did() {
    let engine = Engine::<5>::start().await;
    engine.nodes[..2].iter().for_each(|node| node.always(Fate::Down));
    let acquired = engine.acquire("first").await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(acquired.grant.granted, 3);
    acquired.keep();
    assert_eq!(engine.records(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_another_has_is_held_and_names_the_holder() {
    let engine = Engine::<3>::start().await;
    let token = engine.hold("first").await;
    match refused(&engine, "second").await {
        AcquireError::Held(Some(holder)) => assert_eq!(holder.ballot.map(|ballot| ballot.micros()), Some(token)),
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.hold("first").await, token);
}

#[tokio::test(start_paused = true)]
async fn too_few_nodes_to_ask_is_no_quorum_and_nothing_is_held_when_it_is_said() {
    let engine = Engine::<5>::start().await;
    engine.nodes[..3].iter().for_each(|node| node.always(Fate::Down));
    match refused(&engine, "first").await {
        AcquireError::NoQuorum(shortfall) => {
            assert_eq!(shortfall.required, 3);
            assert_eq!(words(shortfall)[..3], ["unreachable"; 3]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(engine.records(), [0_usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_never_answer_make_it_indeterminate_at_the_deadline_of_the_call() {
    let engine = Engine::<3>::start().await;
    engine.nodes.iter().for_each(|node| node.always(Fate::RequestLost));
    let asked = Instant::now();
    match refused(&engine, "first").await {
        // The verdict does not wait for the third.
        AcquireError::Indeterminate(shortfall) => assert_eq!(words(shortfall), ["silent", "silent", "pending"]),
        other => panic!("{other:?}"),
    }
    assert!(asked.elapsed() <= NODE_TIMEOUT + 2 * MS, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn three_slow_rounds_end_within_three_deadlines() {
    let engine = Engine::<3>::start().await;
    let stale = || Fate::Says(Ok(redlockd::node::Reply::Acquire(redlockd::lease::AcquireVote::Stale { floor: engine.nodes[0].ahead(MS) })));
    engine.nodes[..2].iter().for_each(|node| node.always(stale()));
    engine.nodes[2].always(Fate::RequestLost);
    let asked = Instant::now();
    assert_eq!(refused(&engine, "first").await, AcquireError::Held(None));
    assert!(asked.elapsed() <= 3 * (NODE_TIMEOUT + 2 * MS), "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let engine = Engine::<3>::start().await;
    engine.nodes.iter().for_each(|node| node.next(Fate::Late(50 * MS)));
    assert!(timeout(10 * MS, engine.acquire("first")).await.is_err());
    until("every node accepted and was told to undo", || engine.nodes.iter().all(|node| node.cancels() == 1)).await;
    assert_eq!(engine.records(), [0_usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_nobody_keeps_is_undone_and_one_that_is_kept_stays() {
    let engine = Engine::<3>::start().await;
    drop(engine.acquire("first").await);
    until("it is undone", || engine.records().is_empty()).await;
    engine.hold("second").await;
    until("every node has it", || engine.records() == [0, 1, 2]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(engine.records(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_straggler_that_accepts_what_is_lost_already_is_told_to_undo() {
    let engine = Engine::<3>::start().await;
    engine.nodes[2].always(Fate::Down);
    engine.hold("first").await;
    engine.nodes[2].always(None);
    engine.nodes[..2].iter().for_each(|node| node.next(Fate::Late(5 * MS)));
    engine.nodes[2].next(Fate::Late(60 * MS));
    let asked = Instant::now();
    assert!(matches!(refused(&engine, "second").await, AcquireError::Held(Some(_))));
    assert!(asked.elapsed() < 60 * MS, "{:?}", asked.elapsed());
    until("the straggler is told", || engine.nodes[2].cancels() == 1).await;
    assert_eq!(engine.records(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn replies_that_are_lost_after_their_effect_are_undone() {
    let engine = Engine::<3>::start().await;
    engine.nodes[..2].iter().for_each(|node| node.next(Fate::ReplyLost));
    assert!(matches!(refused(&engine, "first").await, AcquireError::Indeterminate(_)));
    until("it is undone", || engine.records().is_empty()).await;
    engine.hold("first").await;
}

#[tokio::test(start_paused = true)]
async fn an_undoing_that_is_lost_is_repeated_until_the_node_is_back() {
    let engine = Engine::<3>::start().await;
    for node in &engine.nodes[..2] {
        node.next(Fate::ReplyLost);
        node.always(Fate::RequestLost);
    }
    assert!(matches!(refused(&engine, "first").await, AcquireError::Indeterminate(_)));
    engine.nodes[..2].iter().for_each(|node| node.set_down(true));
    until("the nodes are skipped", || engine.states()[..2] == ["down"; 2]).await;
    assert_eq!(engine.records(), [0, 1]);
    for node in &engine.nodes[..2] {
        node.always(None);
        node.set_down(false);
    }
    until("it is undone", || engine.records().is_empty()).await;
    until("nothing is left to do", || engine.nodes.iter().all(|node| 0 < node.cancels())).await;
    engine.redlock.cluster().settled().await;
}

#[tokio::test(start_paused = true)]
async fn a_round_after_a_stale_ballot_goes_above_its_floor() {
    let engine = Engine::<3>::start().await;
    // Another gateway, whose clock is 300 ms ahead, had the lock and gave it back.
    let other = Caller::new(LOCK, "other");
    let floor = engine.nodes[0].ahead(300 * MS);
    for node in &engine.nodes {
        node.carry_out(&other.acquire(floor)).unwrap();
        node.carry_out(&other.release(floor)).unwrap();
    }
    let token = engine.hold("first").await;
    assert!(floor.micros() < token);
    let ballot = |command| match command {
        Command::Acquire(acquire) => Some(acquire.ballot.micros()),
        _ => None,
    };
    // Of a node that was among the first and so asked in both rounds.
    let ballots = engine.nodes.iter().map(|node| node.commands().into_iter().filter_map(ballot).collect::<Vec<_>>()).max_by_key(Vec::len).unwrap();
    assert_eq!(ballots.len(), 2);
    assert!(ballots[0] <= floor.micros());
    assert_eq!(ballots[1], token);
}

#[tokio::test(start_paused = true)]
async fn the_same_lease_gets_the_same_token_again_and_its_repeat_cannot_be_undone_by_the_first() {
    let engine = Engine::<3>::start().await;
    let first = engine.acquire("first").await.unwrap_or_else(|error| panic!("{error:?}"));
    until("every node has it", || engine.records() == [0, 1, 2]).await;
    let again = engine.acquire("first").await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(again.grant.fencing_token, first.grant.fencing_token);
    assert!(again.grant.replayed);
    again.keep();
    drop(first);
    until("the first is undone", || engine.nodes.iter().all(|node| node.cancels() == 1)).await;
    assert_eq!(engine.records(), [0, 1, 2]);
}
