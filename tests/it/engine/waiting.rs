//! Waiting for a lock: whose turn it is, what ends a wait, and what it costs the nodes.

use std::time::Duration;

use futures_util::FutureExt;
use redlockd::lease::{FencingToken, Holder, Mode};
use redlockd::node::Command;
use redlockd::redlock::{AcquireError, AcquireRequest, Acquired, Locks, Redlock, Released, WaitError};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::Instant;

use super::fake_node::Fate;
use super::{Engine, LOCK, TTL, lease_id, request, ttl, until};
use crate::support::{Caller, lock_key};

const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

type Waiting = JoinHandle<Result<Acquired, WaitError>>;

/// Waits in a task of its own; it stands in the line when this returns.
async fn wait_for(redlock: &Redlock, lease: &str, wait: Duration) -> Waiting {
    let (redlock, request) = (redlock.clone(), request(LOCK, Some(lease_id(lease))));
    let waiting = tokio::spawn(async move { redlock.wait_for(request, wait).await });
    yield_now().await;
    waiting
}

/// The wait ends with the lock; the token.
async fn got(waiting: Waiting) -> u64 {
    let acquired = waiting.await.unwrap().unwrap_or_else(|error| panic!("{error:?}"));
    let token = acquired.grant.fencing_token.get();
    acquired.keep();
    token
}

async fn release<const N: usize>(engine: &Engine<N>, lease: &str, token: u64) {
    let token = FencingToken::parse(&token.to_string()).unwrap();
    let released = engine.redlock.release(lock_key(LOCK), lease_id(lease), Some(token)).await;
    assert_eq!(released, Ok(Released { released: true }));
}

/// A release of which this gateway hears nothing.
fn release_elsewhere<const N: usize>(engine: &Engine<N>, lease: &str, token: u64) {
    let caller = Caller { lease: lease_id(lease), ..Caller::new(LOCK, lease) };
    let up_to = FencingToken::parse(&token.to_string()).unwrap().ballot();
    engine.nodes.iter().for_each(|node| assert!(node.carry_out(&caller.release(up_to)).is_ok()));
}

/// How many acquires the nodes were sent.
fn acquires<const N: usize>(engine: &Engine<N>) -> usize {
    let of = |commands: Vec<Command>| commands.iter().filter(|command| matches!(command, Command::Acquire { .. })).count();
    engine.nodes.iter().map(|node| of(node.commands())).sum()
}

#[tokio::test(start_paused = true)]
async fn whoever_came_first_gets_it_first() {
    let engine = Engine::<5>::start().await;
    let mut token = engine.hold("first").await;
    let names = ["a", "b", "c", "d"];
    let mut line = Vec::new();
    for name in names {
        line.push(wait_for(&engine.redlock, name, MINUTE).await);
    }
    for (index, (waiting, before)) in line.into_iter().zip(["first", "a", "b", "c"]).enumerate() {
        // Ballots are times: two grants within one moment would make the second wait for its own.
        tokio::time::sleep(MS).await;
        let begun = Instant::now();
        release(&engine, before, token).await;
        let next = got(waiting).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "{index}");
        assert!(token < next, "{index}");
        token = next;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_hands_the_lock_over_in_one_try() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    let waiting = wait_for(&engine.redlock, "second", MINUTE).await;
    // By then the holder is no news any more, which might have been a tie.
    tokio::time::sleep(100 * MS).await;
    let before = acquires(&engine);
    release(&engine, "first", token).await;
    got(waiting).await;
    assert_eq!(acquires(&engine), before + 3);
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_cost_no_more_than_one() {
    let engine = Engine::<5>::start().await;
    engine.hold("first").await;
    let mut line = Vec::new();
    for n in 0..100 {
        line.push(wait_for(&engine.redlock, &format!("waiter-{n}"), MINUTE).await);
    }
    let (begun, before) = (Instant::now(), acquires(&engine));
    tokio::time::sleep(TTL / 2).await;
    // One try in half a second at most, of five nodes at most.
    let most = begun.elapsed().as_millis() as usize / 500 * 5;
    assert!(acquires(&engine) - before <= most, "{} of {most}", acquires(&engine) - before);
    line.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_holder_that_died_is_not_missed() {
    let engine = Engine::<5>::start().await;
    let begun = Instant::now();
    engine.hold("dead").await;
    let waiting = wait_for(&engine.redlock, "next", MINUTE).await;
    let acquired = waiting.await.unwrap().unwrap_or_else(|error| panic!("{error:?}"));
    assert!(TTL <= begun.elapsed() && begun.elapsed() <= TTL + 5 * MS, "{:?}", begun.elapsed());
    // What it waited is told apart from what the attempt that won took of the ttl.
    assert_eq!(acquired.waited, begun.elapsed());
    assert!(TTL.mul_f64(0.98) < acquired.grant.valid_for);
    acquired.keep();
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_it_said_and_names_the_holder() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    let begun = Instant::now();
    let [first, second] = [wait_for(&engine.redlock, "a", 5 * MS).await, wait_for(&engine.redlock, "b", 7 * MS).await];
    for (waiting, wait) in [(first, 5 * MS), (second, 7 * MS)] {
        let Err(WaitError::Acquire(AcquireError::Held(Some(Holder { ballot, left, .. })))) = waiting.await.unwrap() else { panic!("it is not held") };
        assert_eq!((begun.elapsed(), ballot.map(|ballot| ballot.micros())), (wait, Some(token)));
        assert!(TTL - 10 * MS <= left.unwrap() && left.unwrap() <= TTL);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_through_another_gateway_is_found_by_the_timer() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    let waiting = wait_for(&engine.redlock, "second", MINUTE).await;
    tokio::time::sleep(10 * MS).await;
    let begun = Instant::now();
    release_elsewhere(&engine, "first", token);
    got(waiting).await;
    assert!(begun.elapsed() <= 1500 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn so_is_a_release_through_another_gateway_of_what_one_in_the_line_got() {
    let engine = Engine::<5>::start().await;
    let [first, second] = [wait_for(&engine.redlock, "first", MINUTE).await, wait_for(&engine.redlock, "second", MINUTE).await];
    let token = got(first).await;
    let begun = Instant::now();
    release_elsewhere(&engine, "first", token);
    got(second).await;
    assert!(begun.elapsed() <= 1500 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_nobody_takes_is_handed_on() {
    let engine = Engine::<5>::start().await;
    let [first, second] = [wait_for(&engine.redlock, "first", MINUTE).await, wait_for(&engine.redlock, "second", MINUTE).await];
    let begun = Instant::now();
    // As when the client hangs up before it has its answer.
    drop(first.await.unwrap().unwrap_or_else(|error| panic!("{error:?}")));
    got(second).await;
    assert!(begun.elapsed() < 10 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_nobody_takes_is_handed_on_to_another_gateway() {
    let engine = Engine::<5>::start().await;
    let other = engine.beside().await;
    let here = wait_for(&engine.redlock, "here", MINUTE).await.await.unwrap();
    let elsewhere = wait_for(&other, "elsewhere", MINUTE).await;
    // By then whoever waits leaves the lock alone.
    tokio::time::sleep(100 * MS).await;
    let begun = Instant::now();
    drop(here.unwrap_or_else(|error| panic!("{error:?}")));
    got(elsewhere).await;
    assert!(begun.elapsed() < 10 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_release_for_whose_answer_nobody_waits_is_told_of_all_the_same() {
    let engine = Engine::<5>::start().await;
    let other = engine.beside().await;
    engine.hold("first").await;
    let elsewhere = wait_for(&other, "elsewhere", MINUTE).await;
    tokio::time::sleep(100 * MS).await;
    engine.nodes.iter().for_each(|node| node.always(Fate::Late(MS)));
    let begun = Instant::now();
    let release = engine.redlock.release(lock_key(LOCK), lease_id("first"), None);
    assert!(release.now_or_never().is_none());
    got(elsewhere).await;
    assert!(begun.elapsed() < 10 * MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_the_line_leaves_nothing_behind() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("first").await;
    let [leaves, stays] = [wait_for(&engine.redlock, "leaves", MINUTE).await, wait_for(&engine.redlock, "stays", MINUTE).await];
    // Its attempt is on its way when it leaves.
    engine.nodes.iter().for_each(|node| node.always(Fate::Late(10 * MS)));
    release(&engine, "first", token).await;
    leaves.abort();
    assert!(leaves.await.is_err_and(|error| error.is_cancelled()));
    let begun = Instant::now();
    got(stays).await;
    assert!(begun.elapsed() < 100 * MS, "{:?}", begun.elapsed());
    until("its copies are there", || engine.records().len() == 5).await;
    assert_eq!(engine.redlock.cluster().waiters().count(), 0);
}

/// To share the lock.
fn shared(lease: &str) -> AcquireRequest {
    AcquireRequest { mode: Mode::Shared, ..request(LOCK, Some(lease_id(lease))) }
}

#[tokio::test(start_paused = true)]
async fn one_that_wants_it_alone_holds_others_back_no_longer_than_it_waits() {
    let engine = Engine::<5>::start().await;
    engine.redlock.acquire(shared("first")).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    let begun = Instant::now();
    let alone = wait_for(&engine.redlock, "alone", 100 * MS).await;
    let Err(AcquireError::Held(Some(holder))) = engine.redlock.acquire(shared("refused")).await else { panic!("it is let in") };
    assert!(holder.is_shared);
    let redlock = engine.redlock.clone();
    let behind = tokio::spawn(async move { redlock.wait_for(shared("behind"), MINUTE).await });
    got(behind).await;
    assert!(alone.await.unwrap().is_err());
    assert!((100 * MS..110 * MS).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

/// By its timer alone a writer tries again after a quarter of a second at the earliest.
#[tokio::test(start_paused = true)]
async fn a_lock_that_is_kept_for_one_who_waits_in_another_gateway_is_handed_over_to_it() {
    let engine = Engine::<5>::start().await;
    let other = engine.beside().await;
    engine.redlock.acquire(shared("first")).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    let alone = wait_for(&other, "alone", MINUTE).await;
    until("it holds others back", || engine.nodes.iter().any(|node| node.commands().iter().any(holds_others_back))).await;
    let redlock = engine.redlock.clone();
    let behind = tokio::spawn(async move { redlock.wait_for(shared("behind"), MINUTE).await });
    until("another one waits beside the lock", || engine.redlock.cluster().waiters().count() == 1).await;
    // By then the first in each line leaves it alone.
    tokio::time::sleep(20 * MS).await;
    let begun = Instant::now();
    engine.redlock.release(lock_key(LOCK), lease_id("first"), None).await.unwrap();
    got(alone).await;
    assert!(begun.elapsed() <= 10 * MS, "{:?}", begun.elapsed());
    behind.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_later_holds_nobody_back_who_came_before() {
    let engine = Engine::<5>::start().await;
    engine.redlock.acquire(shared("first")).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    let before = engine.redlock.cluster().waiters().join(&lock_key(LOCK), false).unwrap();
    let alone = wait_for(&engine.redlock, "alone", MINUTE).await;
    until("it looked, lest it is a repeat, and is in the line", || engine.redlock.cluster().waiters().count() == 2).await;
    // Whoever would share the lock is still let in.
    engine.redlock.acquire(shared("second")).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    drop(before);
    until("it is its turn", || engine.nodes.iter().any(|node| node.commands().iter().any(holds_others_back))).await;
    alone.abort();
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_with_a_lease_id_of_its_own_takes_nobodys_turn() {
    let engine = Engine::<5>::start().await;
    // The lock is free, and somebody stands in the line.
    let before = engine.redlock.cluster().waiters().join(&lock_key(LOCK), true).unwrap();
    let waiting = wait_for(&engine.redlock, "later", MINUTE).await;
    until("it is in the line", || engine.redlock.cluster().waiters().count() == 2).await;
    tokio::time::sleep(100 * MS).await;
    assert_eq!((acquires(&engine), engine.records().len()), (0, 0));
    drop(before);
    got(waiting).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_does_not_wait_for_its_turn() {
    let engine = Engine::<5>::start().await;
    let token = engine.hold("mine").await;
    let _before = engine.redlock.cluster().waiters().join(&lock_key(LOCK), true).unwrap();
    assert_eq!(got(wait_for(&engine.redlock, "mine", MINUTE).await).await, token);
}

#[tokio::test(start_paused = true)]
async fn nor_does_one_of_which_too_few_nodes_can_say_whether_it_is_one() {
    let engine = Engine::<5>::start().await;
    engine.hold("mine").await;
    let _before = engine.redlock.cluster().waiters().join(&lock_key(LOCK), true).unwrap();
    engine.nodes[..3].iter().for_each(|node| node.always(Fate::RequestLost));
    let outcome = wait_for(&engine.redlock, "mine", MINUTE).await.await.unwrap();
    assert!(matches!(outcome, Err(WaitError::Acquire(AcquireError::Indeterminate(_) | AcquireError::NoQuorum(_)))), "{:?}", outcome.err());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_lock_of_a_set_is_told_of_its_release() {
    let engine = Engine::<5>::start().await;
    let set = Locks::of_set(vec![lock_key("another"), lock_key(LOCK)]);
    let request = AcquireRequest::of(set.clone(), Some(lease_id("set")), ttl(TTL), None);
    engine.redlock.acquire(request).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    // By then it is no news any more, which might have been a tie.
    tokio::time::sleep(100 * MS).await;
    let waiting = wait_for(&engine.redlock, "second", MINUTE).await;
    tokio::time::sleep(100 * MS).await;
    let begun = Instant::now();
    engine.redlock.release(set, lease_id("set"), None).await.unwrap();
    got(waiting).await;
    assert!(begun.elapsed() <= MS, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_set_holds_nobody_back_who_stands_before_it_in_the_line_of_another_of_its_locks() {
    let engine = Engine::<5>::start().await;
    engine.redlock.acquire(shared("first")).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    let before = engine.redlock.cluster().waiters().join(&lock_key(LOCK), false).unwrap();
    let (redlock, set) = (engine.redlock.clone(), Locks::of_set(vec![lock_key("another"), lock_key(LOCK)]));
    let waiting = tokio::spawn(async move { redlock.wait_for(AcquireRequest::of(set, None, ttl(TTL), None), MINUTE).await });
    until("it found one of its locks held", || 0 < acquires(&engine) && engine.redlock.cluster().waiters().count() == 2).await;
    engine.redlock.acquire(shared("second")).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    drop(before);
    until("it is its turn", || engine.nodes.iter().any(|node| node.commands().iter().any(holds_others_back))).await;
    waiting.abort();
}

fn holds_others_back(command: &Command) -> bool {
    matches!(command, Command::Acquire(acquire) if !acquire.holds_back.is_zero())
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_waited_for() {
    let engine = Engine::<3>::start().await;
    for n in 0..Mode::MAX_TOGETHER {
        engine.redlock.acquire(shared(&format!("reader-{n}"))).await.unwrap_or_else(|error| panic!("{error:?}")).keep();
    }
    let wait_for = |lease: &'static str, wait| {
        let redlock = engine.redlock.clone();
        tokio::spawn(async move { redlock.wait_for(shared(lease), wait).await })
    };
    assert!(matches!(wait_for("brief", 10 * MS).await.unwrap(), Err(WaitError::Acquire(AcquireError::Crowded(Some(_))))));
    let waiting = wait_for("patient", MINUTE);
    until("it waits", || engine.redlock.cluster().waiters().count() == 1).await;
    engine.redlock.release(lock_key(LOCK), lease_id("reader-7"), None).await.unwrap();
    got(waiting).await;
}
