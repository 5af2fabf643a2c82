//! What bounds a lease beside its ttl.

use std::time::Duration;

use redlockd::lease::{ExtendVote, Lifetime, Mode, ReleaseVote};
use redlockd::node::Reply;

use super::{ACCEPTED, holder, in_the_way};
use crate::support::{Caller, Subject, agreement};

const SECOND: Duration = Duration::from_secs(1);

/// A lifetime that is counted from now.
fn from_now(subject: &Subject, lifetime: impl Fn(u64) -> Lifetime) -> Lifetime {
    lifetime(subject.now().micros() / 1000)
}

pub async fn an_extend_ends_where_the_lease_does(subject: Subject) {
    let lifetime = from_now(&subject, |now_ms| Lifetime { ends_ms: now_ms + 20_000, ..Lifetime::default() });
    let alice = Caller { lifetime, ..Caller::new("lock", "alice").ttl(10 * SECOND) };
    subject.ask(alice.acquire(subject.now())).await.unwrap();
    let mut lefts = Vec::new();
    for seconds in [15, 60] {
        let answer = subject.ask(alice.extend(seconds * SECOND)).await;
        let Ok(Reply::Extend(ExtendVote::Extended { left, .. })) = answer else { panic!("not extended: {answer:?}") };
        lefts.push(left.as_secs_f64().round() as u64);
    }
    assert_eq!(lefts, [15, 20]);
}

pub async fn a_lock_stays_after_its_lease_for_the_delay_unless_it_is_released(subject: Subject) {
    let delayed = |lock, ttl| {
        let lifetime = Lifetime { delay_ms: 10_000, ..Lifetime::default() };
        // Whoever asks adds the delay to what the record is to last.
        Caller { lifetime, ..Caller::new(lock, "alice").ttl(ttl + 10 * SECOND) }
    };
    let (alice, ballot) = (delayed("lock", 5 * SECOND), subject.now());
    subject.ask(alice.acquire(ballot)).await.unwrap();
    // What is left of the lease is told without it, what is left of the record with it.
    let answer = subject.ask(alice.extend(20 * SECOND)).await;
    let Ok(Reply::Extend(ExtendVote::Extended { left, .. })) = answer else { panic!("not extended: {answer:?}") };
    assert_eq!(left.as_secs_f64().round(), 20.0);
    assert_eq!(holder(&subject, &alice.key).await.unwrap().left.unwrap().as_secs_f64().round(), 30.0);
    assert_eq!(subject.ask(alice.release(ballot)).await, Ok(Reply::Release(ReleaseVote::Freed)));
    assert_eq!(subject.ask(Caller::new("lock", "bob").acquire(subject.now().next())).await, ACCEPTED);
}

pub async fn a_lock_that_is_released_too_early_is_kept(subject: Subject) {
    let lifetime = from_now(&subject, |now_ms| Lifetime { kept_ms: now_ms + 20_000, ..Lifetime::default() });
    let (alice, ballot) = (Caller { lifetime, ..Caller::new("lock", "alice") }, subject.now());
    subject.ask(alice.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(alice.release(ballot)).await, Ok(Reply::Release(ReleaseVote::Freed)));
    // It is nobody's, and says whose it was.
    let kept = in_the_way(subject.ask(Caller::new("lock", "bob").acquire(subject.now())).await);
    assert_eq!((kept.owner, kept.left.unwrap().as_secs_f64().round()), (alice.owner.clone(), 20.0));
    in_the_way(subject.ask(alice.acquire(subject.now())).await);
    assert_eq!(subject.ask(alice.release(ballot)).await, Ok(Reply::Release(ReleaseVote::NotHeld)));
    assert_eq!(subject.ask(alice.extend(60 * SECOND)).await, Ok(Reply::Extend(ExtendVote::Gone)));
    assert_eq!(subject.ask(alice.cancel(ballot)).await, Ok(Reply::Cancel { freed: false }));
    assert!(holder(&subject, &alice.key).await.unwrap().left.unwrap() <= 21 * SECOND);
}

pub async fn what_is_kept_can_be_had_by_force(subject: Subject) {
    let lifetime = from_now(&subject, |now_ms| Lifetime { kept_ms: now_ms + 20_000, ..Lifetime::default() });
    for released in [false, true] {
        let lock = if released { "released" } else { "held" };
        let (alice, ballot) = (Caller { lifetime, ..Caller::new(lock, "alice") }, subject.now());
        subject.ask(alice.acquire(ballot)).await.unwrap();
        if released {
            subject.ask(alice.release(ballot)).await.unwrap();
        }
        assert_eq!(subject.ask(alice.force(ballot)).await, Ok(Reply::Release(ReleaseVote::Freed)), "{lock}");
        assert_eq!(holder(&subject, &alice.key).await, None, "{lock}");
    }
}

pub async fn in_its_delay_a_lease_is_over(subject: Subject) {
    let lifetime = Lifetime { delay_ms: 20_000, ..Lifetime::default() };
    let [alone, shared] = [("alone", Mode::Exclusive), ("shared", Mode::Shared)].map(|(lock, mode)| {
        // The record lasts for as long as the delay, so nothing is left for the lease.
        Caller { lifetime, ..Caller::new(lock, "alice").mode(mode).ttl(20 * SECOND) }
    });
    for alice in [alone, shared] {
        let ballot = subject.now();
        subject.ask(alice.acquire(ballot)).await.unwrap();
        assert_eq!(subject.ask(alice.extend(60 * SECOND)).await, Ok(Reply::Extend(ExtendVote::Gone)));
        let left = in_the_way(subject.ask(alice.attempt(2).acquire(subject.now())).await).left.unwrap();
        assert!(left <= 20 * SECOND, "{left:?}");
        // A holder that is late to release it is done with it all the same.
        assert_eq!(subject.ask(alice.release(ballot)).await, Ok(Reply::Release(ReleaseVote::Freed)));
        assert_eq!(subject.ask(alice.acquire(subject.now())).await, ACCEPTED);
    }
}

pub async fn an_extend_leaves_room_for_the_delay(subject: Subject) {
    let (lifetime, max_ttl) = (Lifetime { delay_ms: 20_000, ..Lifetime::default() }, agreement().max_ttl);
    for (lock, mode) in [("alone", Mode::Exclusive), ("shared", Mode::Shared)] {
        let alice = Caller { lifetime, ..Caller::new(lock, "alice").mode(mode) };
        subject.ask(alice.acquire(subject.now())).await.unwrap();
        let answer = subject.ask(alice.extend(max_ttl)).await;
        let Ok(Reply::Extend(ExtendVote::Extended { left, .. })) = answer else { panic!("not extended: {answer:?}") };
        assert_eq!(left.as_secs_f64().round(), (max_ttl - 20 * SECOND).as_secs_f64(), "{lock}");
    }
}

pub async fn what_is_kept_ends_with_its_record(subject: Subject) {
    // As by a ballot that is ahead of the node's clock.
    let lifetime = from_now(&subject, |now_ms| Lifetime { kept_ms: now_ms + 60_000, ..Lifetime::default() });
    let (alice, ballot) = (Caller { lifetime, ..Caller::new("lock", "alice") }, subject.now());
    subject.ask(alice.acquire(ballot)).await.unwrap();
    subject.ask(alice.release(ballot)).await.unwrap();
    assert!(holder(&subject, &alice.key).await.unwrap().left.unwrap() <= alice.ttl);
}
