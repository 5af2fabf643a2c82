//! Giving back and holding on.

use std::time::Duration;

use redlockd::lease::{Ballot, FencingToken};
use redlockd::node::Command;
use redlockd::redlock::{ExtendError, ForceError, ReleaseError, Released};

use super::fake_node::Fate;
use super::{Engine, LOCK, TTL, lease_id, request, ttl, until};
use crate::support::{Caller, lock_key};

type Release = Result<Released, ReleaseError>;

async fn release<const N: usize>(engine: &Engine<N>, lease: &str) -> Release {
    engine.redlock.release(lock_key(LOCK), lease_id(lease), None).await
}

async fn extend<const N: usize>(engine: &Engine<N>, lease: &str) -> Result<FencingToken, ExtendError> {
    engine.redlock.extend(lock_key(LOCK), lease_id(lease), ttl(2 * TTL)).await.map(|extended| extended.fencing_token)
}

#[tokio::test(start_paused = true)]
async fn a_majority_completes_a_release_and_the_others_are_told_when_they_are_back() {
    let engine = Engine::<5>::start().await;
    engine.hold("first").await;
    until("every node has it", || engine.records().len() == 5).await;
    engine.nodes[3..].iter().for_each(|node| node.set_down(true));
    assert_eq!(release(&engine, "first").await, Ok(Released { released: true }));
    assert_eq!(engine.records(), [3, 4]);
    engine.nodes[3..].iter().for_each(|node| node.set_down(false));
    until("the others are told", || engine.records().is_empty()).await;
    assert_eq!(release(&engine, "first").await, Ok(Released { released: false }));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_no_majority_answers_is_not_complete_and_goes_on() {
    let engine = Engine::<5>::start().await;
    engine.hold("first").await;
    until("every node has it", || engine.records().len() == 5).await;
    engine.nodes[..3].iter().for_each(|node| node.next(Fate::RequestLost));
    assert!(matches!(release(&engine, "first").await, Err(ReleaseError::Indeterminate(_))));
    until("it goes on", || engine.records().is_empty()).await;

    engine.hold("first").await;
    until("every node has it", || engine.records().len() == 5).await;
    engine.nodes[..3].iter().for_each(|node| node.next(Fate::Down));
    assert!(matches!(release(&engine, "first").await, Err(ReleaseError::NoQuorum(_))));
    until("it goes on", || engine.records().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_releases_or_extends_what_another_holds() {
    let engine = Engine::<3>::start().await;
    let token = engine.hold("first").await;
    assert_eq!(release(&engine, "second").await, Err(ReleaseError::HeldByOther));
    assert_eq!(extend(&engine, "second").await, Err(ExtendError::HeldByOther));
    assert_eq!(extend(&engine, "first").await.map(FencingToken::get), Ok(token));
}

#[tokio::test(start_paused = true)]
async fn a_release_without_a_token_follows_a_newer_ballot() {
    let engine = Engine::<3>::start().await;
    // Acquired through a gateway whose clock is 400 ms ahead.
    let caller = Caller { lease: lease_id("first"), ..Caller::new(LOCK, "other") };
    let ballot = engine.nodes[0].ahead(Duration::from_millis(400));
    engine.nodes.iter().for_each(|node| assert!(node.carry_out(&caller.acquire(ballot)).is_ok()));
    assert_eq!(release(&engine, "first").await, Ok(Released { released: true }));
    assert_eq!(engine.records(), [0_usize; 0]);
    let ends: Vec<_> = engine.nodes[0]
        .commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::Release { up_to, .. } => Some(up_to),
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(ends[1], ballot);
}

#[tokio::test(start_paused = true)]
async fn an_extend_says_whether_the_lease_is_gone_or_nobody_knows() {
    let engine = Engine::<3>::start().await;
    assert_eq!(extend(&engine, "first").await, Err(ExtendError::Expired));
    let token = engine.hold("first").await;
    engine.nodes[..2].iter().for_each(|node| node.next(Fate::Down));
    assert!(matches!(extend(&engine, "first").await, Err(ExtendError::NoQuorum(_))));
    engine.nodes[..2].iter().for_each(|node| node.next(Fate::ReplyLost));
    assert!(matches!(extend(&engine, "first").await, Err(ExtendError::Indeterminate(_))));
    assert_eq!(extend(&engine, "first").await.map(FencingToken::get), Ok(token));
    tokio::time::sleep(2 * TTL).await;
    until("it is over", || engine.records().is_empty()).await;
    assert_eq!(extend(&engine, "first").await, Err(ExtendError::Expired));
}

/// Found by the model: what a late answer prolonged may be a newer grant, of a client that asked again.
#[tokio::test(start_paused = true)]
async fn a_lost_extend_frees_nothing_of_a_newer_grant() {
    let engine = Engine::<3>::start().await;
    // On one node it is carried out late, the others know of no lease.
    engine.nodes[0].next(Fate::Late(Duration::from_millis(50)));
    assert_eq!(extend(&engine, "first").await, Err(ExtendError::Expired));
    // Meanwhile the lease is granted again, through another gateway.
    let caller = Caller { lease: lease_id("first"), ..Caller::new(LOCK, "other") };
    engine.nodes.iter().for_each(|node| assert!(node.carry_out(&caller.acquire(node.ahead(Duration::ZERO))).is_ok()));
    until("the late one is carried out", || engine.nodes[0].commands().len() == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(engine.records(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_future_reaches_no_further_than_now() {
    let engine = Engine::<3>::start().await;
    let token = engine.hold("first").await;
    until("every node has it", || engine.records().len() == 3).await;
    let far = FencingToken::parse(&(token + 3_600_000_000).to_string()).unwrap();
    assert_eq!(engine.redlock.release(lock_key(LOCK), lease_id("first"), Some(far)).await, Ok(Released { released: true }));
    let now = engine.nodes[0].ahead(Duration::ZERO);
    let reached = engine.nodes[0].commands().into_iter().filter_map(|command| match command {
        Command::Release { up_to, .. } => Some(up_to),
        _ => None,
    });
    assert!(reached.max().unwrap() <= now);
}

#[tokio::test(start_paused = true)]
async fn a_release_by_force_reaches_the_holder_that_was_seen_and_nobody_after_it() {
    let engine = Engine::<3>::start().await;
    assert_eq!(engine.redlock.force(lock_key(LOCK)).await, Ok(Vec::new()));
    let token = engine.hold("first").await;
    until("every node has it", || engine.records().len() == 3).await;
    // Some time later, when a reach of the present would be further than that token.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let holder = engine.redlock.force(lock_key(LOCK)).await.unwrap().remove(0);
    assert_eq!(holder.ballot.map(Ballot::micros), Some(token));
    until("every node was told", || engine.records().is_empty()).await;
    for node in &engine.nodes {
        let reached = node.commands().into_iter().filter_map(|command| match command {
            Command::Release { lease: None, up_to, .. } => Some(up_to.micros()),
            _ => None,
        });
        assert_eq!(reached.collect::<Vec<_>>(), [token]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_for_sure_is_not_released_by_force() {
    let engine = Engine::<3>::start().await;
    let left_over = Caller::new(LOCK, "lost");
    engine.nodes[0].carry_out(&left_over.acquire(engine.nodes[0].ahead(Duration::ZERO))).unwrap();
    engine.nodes[1].next(Fate::Down);
    assert_eq!(engine.redlock.force(lock_key(LOCK)).await, Err(ForceError::Contended));
    assert_eq!(engine.records(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_release_reaches_no_further_than_the_present_although_ballots_do() {
    let engine = Engine::<3>::start().await;
    // A fence that is ahead makes this gateway draw ballots that are ahead.
    let (other, ahead) = (Caller::new("ahead", "other"), engine.nodes[0].ahead(Duration::from_millis(300)));
    for node in &engine.nodes {
        node.carry_out(&other.acquire(ahead)).unwrap();
        node.carry_out(&other.release(ahead)).unwrap();
    }
    let acquired = engine.redlock.acquire(request("ahead", None)).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert!(ahead < acquired.grant.fencing_token.ballot());
    acquired.keep();
    let nothing = engine.redlock.release(lock_key("free"), lease_id("first"), None).await;
    assert_eq!(nothing, Ok(Released { released: false }));
    let now = engine.nodes[0].ahead(Duration::ZERO);
    let reached = |command: Command| if let Command::Release { up_to, .. } = command { Some(up_to) } else { None };
    let reaches: Vec<_> = engine.nodes.iter().flat_map(|node| node.commands()).filter_map(reached).collect();
    assert!(!reaches.is_empty() && reaches.iter().all(|up_to| *up_to <= now), "{reaches:?} at {now:?}");
}
