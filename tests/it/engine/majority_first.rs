//! A majority is asked first, the rest gets its copies later, or never.

use std::sync::Arc;
use std::time::Duration;

use redlockd::lease::{FencingToken, InspectVote, LockKey, Mode, Slot};
use redlockd::node::{Command, Reply};
use redlockd::redlock::{AcquireRequest, LeaseBounds, ReleaseError, Released};
use tokio::time::Instant;

use super::fake_node::{FakeNode, Fate};
use super::{Engine, LOCK, NODE_TIMEOUT, TTL, lease_id, request, ttl, until};
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
async fn a_copy_ends_with_its_lease() {
    let engine = Engine::<5>::start().await;
    engine.hold("first").await;
    let begun = Instant::now();
    until("every node has it", || engine.records().len() == 5).await;
    assert!(begun.elapsed() < NODE_TIMEOUT, "{:?}", begun.elapsed());
    tokio::time::sleep((begun + TTL + 2 * MS).duration_since(Instant::now())).await;
    assert_eq!(engine.records(), [0_usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_left_open_copies_nothing() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    engine.nodes.iter().for_each(|node| node.next(Fate::RequestLost));
    assert!(matches!(release(&engine, token).await, Err(ReleaseError::Indeterminate(_))));
    until("it is released in the background", || engine.records().is_empty()).await;
    tokio::time::sleep(TTL / 2).await;
    let acquires = |node: &FakeNode| node.commands().iter().filter(|command| matches!(command, Command::Acquire { .. })).count();
    assert_eq!(engine.nodes.iter().map(|node| acquires(node)).sum::<usize>(), 3);
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
async fn copies_last_as_long_as_an_extend_that_overtook_them() {
    let engine = Engine::<5>::start().await;
    engine.hold("first").await;
    engine.redlock.extend(lock_key(LOCK), lease_id("first"), ttl(2 * TTL)).await.unwrap();
    tokio::time::sleep(TTL + TTL / 2).await;
    assert_eq!(engine.records().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_before_the_copies_leaves_nothing_to_a_release() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    assert_eq!(engine.hold("first").await, token);
    tokio::time::sleep(MS).await;
    assert_eq!(release(&engine, token).await, Ok(Released { released: true }));
    assert_eq!(engine.records(), [0_usize; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_always_slow_is_not_among_the_first() {
    let engine = Engine::<5>::start().await;
    engine.nodes[0].always(Fate::Late(30 * MS));
    let acquire = async |lock: String| {
        let begun = Instant::now();
        engine.redlock.acquire(super::request(&lock, None)).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
        begun.elapsed()
    };
    for n in 0..10 {
        assert!(acquire(format!("learning/{n}")).await < 5 * MS);
        tokio::time::sleep(500 * MS).await;
    }
    for n in 0..10 {
        assert_eq!(acquire(format!("learnt/{n}")).await, Duration::ZERO);
        tokio::time::sleep(500 * MS).await;
    }
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
    let begun = Instant::now();
    engine.hold("first").await;
    // The others are asked at once, and not only when the first took unusually long.
    assert_eq!((asked(&engine), begun.elapsed()), (5, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_the_first_all_refuse_is_held_without_asking_the_others() {
    let engine = Engine::<5>::start().await;
    let other = Caller::new(LOCK, "other");
    engine.nodes.iter().for_each(|node| drop(node.carry_out(&other.acquire(node.ahead(Duration::ZERO)))));
    assert!(engine.acquire("first").await.is_err());
    assert_eq!(asked(&engine), 3);
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_told_to_every_node_at_once() {
    let engine = Engine::<5>::start().await;
    let (semaphore, mode) = (LockKey::of_semaphore(&lock_key(LOCK)), Mode::Slot(Slot { number: 0, limit: 2 }));
    let slot = AcquireRequest { mode, ..AcquireRequest::of(semaphore.clone(), None, ttl(TTL), None) };
    engine.redlock.acquire(slot).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    tokio::task::yield_now().await;
    let has_it = |node: &&Arc<FakeNode>| node.carry_out(&Command::Inspect { key: semaphore.clone() }) != Ok(Reply::Inspect(InspectVote::Free));
    assert_eq!(engine.nodes.iter().filter(has_it).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_copy_does_not_outlast_what_bounds_its_lease() {
    let engine = Engine::<5>::start().await;
    let bounds = LeaseBounds { max_lifetime: Some(TTL), ..LeaseBounds::default() };
    let bounded = AcquireRequest { bounds, ..request(LOCK, Some(lease_id("mine"))) };
    engine.redlock.acquire(bounded).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    assert_eq!(engine.records().len(), 3);
    // Which sends the copies before it.
    engine.redlock.extend(lock_key(LOCK), lease_id("mine"), ttl(2 * TTL)).await.unwrap_or_else(|error| panic!("{error:?}"));
    until("its copies are there", || engine.records().len() == 5).await;
    for node in &engine.nodes {
        let view = node.carry_out(&Command::Inspect { key: lock_key(LOCK) });
        let Ok(Reply::Inspect(InspectVote::Held { holder, .. })) = view else { panic!("not held: {view:?}") };
        assert!(holder.left.unwrap() <= TTL, "{holder:?}");
    }
}
