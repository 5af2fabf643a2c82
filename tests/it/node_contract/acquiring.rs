//! Who gets a lock, and who is told what instead.

use std::time::Duration;

use redlockd::lease::{AcquireVote, Ballot};
use redlockd::node::Reply;

use super::{ACCEPTED, holder, in_the_way, mine, stale};
use crate::support::{Caller, Subject, agreement};

const SECOND: Duration = Duration::from_secs(1);

pub async fn a_free_lock_is_accepted(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    assert_eq!(subject.ask(alice.acquire(ballot)).await, ACCEPTED);
    assert_eq!(holder(&subject, &alice.key).await.unwrap().ballot, Some(ballot));
}

pub async fn a_lock_of_another_lease_is_busy(subject: Subject) {
    let (alice, bob) = (Caller::new("lock", "alice"), Caller::new("lock", "bob"));
    let ballot = subject.now();
    subject.ask(alice.acquire(ballot)).await.unwrap();
    let holder = in_the_way(subject.ask(bob.acquire(subject.now())).await);
    assert_eq!((holder.ballot, &holder.owner), (Some(ballot), &alice.owner));
    let left = holder.left.unwrap();
    assert!(alice.ttl - 10 * SECOND < left && left <= alice.ttl, "{left:?}");
}

pub async fn a_duplicate_is_accepted_again(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    for _ in 0..2 {
        assert_eq!(subject.ask(alice.acquire(ballot)).await, ACCEPTED);
    }
}

pub async fn a_repeat_by_another_attempt_is_mine_and_firm(subject: Subject) {
    let (first, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(first.acquire(ballot)).await.unwrap();
    assert_eq!(mine(subject.ask(first.attempt(2).acquire(ballot.next())).await), ballot);
    for late in [first.cancel(ballot), first.attempt(2).cancel(ballot.next())] {
        assert_eq!(subject.ask(late).await, Ok(Reply::Cancel { freed: false }));
    }
    assert_eq!(holder(&subject, &first.key).await.unwrap().ballot, Some(ballot));
}

pub async fn a_higher_ballot_of_the_same_attempt_raises_its_record(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(alice.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(alice.acquire(ballot.next())).await, ACCEPTED);
    assert_eq!(holder(&subject, &alice.key).await.unwrap().ballot, Some(ballot.next()));
    assert_eq!(subject.ask(alice.cancel(ballot.next())).await, Ok(Reply::Cancel { freed: true }));
}

pub async fn over_raises_a_foreign_attempt_and_makes_it_firm(subject: Subject) {
    let (first, ballot) = (Caller::new("lock", "alice"), subject.now());
    let second = first.attempt(2);
    subject.ask(first.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(second.acquire_over(ballot.next(), Some(ballot))).await, ACCEPTED);
    assert_eq!(subject.ask(second.cancel(ballot.next())).await, Ok(Reply::Cancel { freed: false }));
    assert_eq!(holder(&subject, &first.key).await.unwrap().ballot, Some(ballot.next()));
}

pub async fn over_below_the_stored_ballot_raises_nothing(subject: Subject) {
    let (first, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(first.acquire(ballot.next())).await.unwrap();
    let repeat = first.attempt(2).acquire_over(ballot.next().next(), Some(ballot));
    assert_eq!(mine(subject.ask(repeat).await), ballot.next());
}

pub async fn a_raise_never_shortens(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(alice.ttl(100 * SECOND).acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(alice.ttl(SECOND).acquire(ballot.next())).await, ACCEPTED);
    assert!(50 * SECOND < holder(&subject, &alice.key).await.unwrap().left.unwrap());
}

pub async fn a_ballot_beyond_the_window_is_ahead(subject: Subject) {
    let alice = Caller::new("lock", "alice");
    let beyond = subject.ahead(agreement().window + 10 * SECOND);
    assert_eq!(subject.ask(alice.acquire(beyond)).await, Ok(Reply::Acquire(AcquireVote::Ahead)));
    assert_eq!(holder(&subject, &alice.key).await, None);
}

pub async fn a_ballot_at_or_below_the_fence_is_stale(subject: Subject) {
    let (alice, bob) = (Caller::new("lock", "alice"), Caller::new("lock", "bob"));
    // In the future, so that the fence is well above the window's lower end for as long as this takes.
    let fence = subject.ahead(agreement().window / 2);
    subject.batch(vec![alice.acquire(fence), alice.release(fence)]).await;
    for ballot in [fence, Ballot::from_micros(fence.micros() - 1)] {
        assert_eq!(subject.ask(bob.acquire(ballot)).await, stale(fence));
    }
    assert_eq!(subject.ask(bob.acquire(fence.next())).await, ACCEPTED);
}

pub async fn a_ballot_behind_the_window_is_stale(subject: Subject) {
    let behind = subject.behind(agreement().window + SECOND);
    match subject.ask(Caller::new("lock", "alice").acquire(behind)).await {
        Ok(Reply::Acquire(AcquireVote::Stale { floor })) => assert!(behind < floor && floor < subject.now(), "{floor}"),
        other => panic!("not stale: {other:?}"),
    }
}
