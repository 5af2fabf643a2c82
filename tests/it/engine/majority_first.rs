//! A majority is asked first, the rest gets its copies later, or never.

use std::time::Duration;

use redlockd::lease::FencingToken;
use redlockd::redlock::{ReleaseError, Released};
use tokio::time::Instant;

use super::fake_node::Fate;
use super::{Engine, LOCK, NODE_TIMEOUT, TTL, lease_id, ttl, until};
use crate::support::{Caller, lock_key};

const MS: Duration = Duration::from_millis(1);

/// How many nodes were sent anything.
fn asked<const N: usize>(engine: &Engine<N>) -> usize {
    engine.nodes.iter().filter(|node| !node.commands().is_empty()).count()
}

async fn release<const N: usize>(engine: &Engine<N>, token: u64) -> Result<Released, ReleaseError> {
    let token = FencingToken::parse(&token.to_string()).unwrap();
    engine.redlock.release(lock_key(LOCK), lease_id("first"), Some(token)).await
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_granted_by_three_of_five_and_copied_to_the_others() {
    let engine = Engine::<5>::start().await;
    engine.hold("first").await;
    assert_eq!((engine.records().len(), asked(&engine)), (3, 3));
    until("every node has it", || engine.records().len() == 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_given_back_at_once_costs_the_others_nothing() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    assert_eq!(release(&engine, token).await, Ok(Released { released: true }));
    tokio::time::sleep(TTL / 2).await;
    assert_eq!((engine.records().len(), asked(&engine)), (0, 3));
    assert!(engine.nodes.iter().all(|node| node.commands().len() <= 2));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_frees_nothing_does_not_keep_the_copies_back() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    assert!(matches!(release(&engine, token - 1).await, Err(ReleaseError::HeldNewer(_))));
    until("every node has it", || engine.records().len() == 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_asks_the_others_as_well_if_the_first_do_not_answer() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    let holders = engine.records();
    engine.nodes[holders[0]].always(Fate::RequestLost);
    let begun = Instant::now();
    assert_eq!(release(&engine, token).await, Ok(Released { released: true }));
    assert!(begun.elapsed() < NODE_TIMEOUT / 2, "{:?}", begun.elapsed());
    engine.nodes[holders[0]].always(None);
    until("the silent one is told", || engine.records().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn an_extend_does_not_wait_for_the_copies() {
    let engine = Engine::<5>::start().await;
    engine.hold("first").await;
    engine.redlock.extend(lock_key(LOCK), lease_id("first"), ttl(TTL)).await.unwrap();
    until("every node has it", || engine.records().len() == 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_through_another_gateway_leaves_nothing_to_a_copy_that_comes_later() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    let caller = Caller { lease: lease_id("first"), ..Caller::new(LOCK, "first") };
    let up_to = FencingToken::parse(&token.to_string()).unwrap().ballot();
    engine.nodes.iter().for_each(|node| assert!(node.carry_out(&caller.release(up_to)).is_ok()));
    until("every node was asked", || asked(&engine) == 5).await;
    assert_eq!(engine.records(), [0_usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_among_the_first_costs_a_fraction_of_its_timeout() {
    let engine = Engine::<5>::start().await;
    engine.nodes[0].always(Fate::RequestLost);
    let begun = Instant::now();
    engine.hold("first").await;
    assert!(begun.elapsed() < NODE_TIMEOUT / 2, "{:?}", begun.elapsed());
    tokio::time::sleep(NODE_TIMEOUT).await;
    // It has missed a call and is not among the first again.
    let begun = Instant::now();
    engine.redlock.acquire(super::request("another", None)).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_first_take_turns() {
    let engine = Engine::<5>::start().await;
    for turn in 0..5 {
        let token = engine.hold("first").await;
        assert_eq!(engine.records().len(), 3, "turn {turn}");
        release(&engine, token).await.unwrap();
        tokio::time::sleep(1000 * MS).await;
    }
    let commands: Vec<_> = engine.nodes.iter().map(|node| node.commands().len()).collect();
    assert_eq!(commands, [6; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_minority_of_refusals_among_the_first_is_no_refusal() {
    let engine = Engine::<5>::start().await;
    let other = Caller::new(LOCK, "other");
    engine.nodes[..2].iter().for_each(|node| drop(node.carry_out(&other.acquire(node.ahead(Duration::ZERO)))));
    engine.hold("first").await;
    assert_eq!(asked(&engine), 5);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_the_first_all_refuse_is_held_without_asking_the_others() {
    let engine = Engine::<5>::start().await;
    let other = Caller::new(LOCK, "other");
    engine.nodes.iter().for_each(|node| drop(node.carry_out(&other.acquire(node.ahead(Duration::ZERO)))));
    assert!(engine.acquire("first").await.is_err());
    assert_eq!(asked(&engine), 3);
}
