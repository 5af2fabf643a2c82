//! Several locks under one lease, all or none.

use std::time::Duration;

use redlockd::lease::{AcquireVote, Ballot, ExtendVote, InspectVote, Lifetime, Mode, ReleaseVote};
use redlockd::node::Reply;

use super::{ACCEPTED, holder, in_the_way, stale};
use crate::support::{Caller, Subject, agreement, lock_key};

fn ahead(subject: &Subject) -> Ballot {
    subject.ahead(agreement().window / 2)
}

/// By which ballots these are held.
async fn held(subject: &Subject, locks: &[&str]) -> Vec<Option<Ballot>> {
    let mut ballots = Vec::new();
    for lock in locks {
        ballots.push(holder(subject, &lock_key(lock)).await.and_then(|holder| holder.ballot));
    }
    ballots
}

pub async fn a_set_is_had_whole_or_not_at_all(subject: Subject) {
    let (ballot, set) = (ahead(&subject), Caller::of_set(&["a", "b"], "alice"));
    assert_eq!(subject.ask(set.acquire(ballot)).await, ACCEPTED);
    assert_eq!(subject.ask(set.acquire(ballot)).await, ACCEPTED);
    assert_eq!(held(&subject, &["a", "b"]).await, [Some(ballot), Some(ballot)]);
    in_the_way(subject.ask(Caller::of_set(&["b", "c"], "bob").acquire(ballot.next())).await);
    assert_eq!(held(&subject, &["c"]).await, [None]);
    let answer = subject.ask(set.inspect()).await;
    let Ok(Reply::Inspect(InspectVote::Held { members, .. })) = answer else { panic!("not held: {answer:?}") };
    assert_eq!(members, set.members);
}

pub async fn whoever_has_a_lock_of_a_set_is_named(subject: Subject) {
    let ballot = ahead(&subject);
    subject.ask(Caller::new("b", "bob").acquire(ballot)).await.unwrap();
    let holder = in_the_way(subject.ask(Caller::of_set(&["a", "b"], "alice").acquire(ballot.next())).await);
    assert_eq!((holder.member, holder.ballot), (Some(1), Some(ballot)));
}

pub async fn a_set_is_above_every_fence_of_its_locks(subject: Subject) {
    let ballot = ahead(&subject);
    let bob = Caller::new("b", "bob");
    subject.batch(vec![bob.acquire(ballot.next()), bob.release(ballot.next())]).await;
    let set = Caller::of_set(&["a", "b"], "alice");
    assert_eq!(subject.ask(set.acquire(ballot)).await, stale(ballot.next()));
    assert_eq!(held(&subject, &["a", "b"]).await, [None, None]);
    assert_eq!(subject.ask(set.acquire(ballot.next().next())).await, ACCEPTED);
}

pub async fn a_set_is_extended_whole_or_not_at_all(subject: Subject) {
    let (ballot, set) = (ahead(&subject), Caller::of_set(&["a", "b"], "alice").ttl(Duration::from_secs(5)));
    let one = |lock| Caller { key: lock_key(lock), ..set.clone() };
    subject.ask(set.acquire(ballot)).await.unwrap();
    let left = |answer| match answer {
        Ok(Reply::Extend(ExtendVote::Extended { ballot: of, left })) if of == ballot => left,
        other => panic!("not extended: {other:?}"),
    };
    assert!(Duration::from_secs(20) < left(subject.ask(set.extend(Duration::from_secs(30))).await));
    for lock in ["a", "b"] {
        assert!(Duration::from_secs(20) < holder(&subject, &lock_key(lock)).await.unwrap().left.unwrap(), "{lock}");
    }
    subject.ask(one("b").release(ballot)).await.unwrap();
    assert_eq!(subject.ask(set.extend(Duration::from_secs(60))).await, Ok(Reply::Extend(ExtendVote::Gone)));
    subject.ask(Caller::new("b", "bob").acquire(ballot.next())).await.unwrap();
    assert_eq!(subject.ask(set.extend(Duration::from_secs(60))).await, Ok(Reply::Extend(ExtendVote::HeldByOther)));
    assert!(holder(&subject, &lock_key("a")).await.unwrap().left.unwrap() <= Duration::from_secs(30));
}

pub async fn a_set_is_released_and_cancelled_whole(subject: Subject) {
    let (ballot, set) = (ahead(&subject), Caller::of_set(&["a", "b"], "alice"));
    subject.ask(set.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(set.attempt(2).cancel(ballot)).await, Ok(Reply::Cancel { freed: false }));
    assert_eq!(subject.ask(set.cancel(ballot)).await, Ok(Reply::Cancel { freed: true }));
    assert_eq!(held(&subject, &["a", "b"]).await, [None, None]);
    assert_eq!(subject.ask(set.acquire(ballot.next())).await, ACCEPTED);
    let newer = Ok(Reply::Release(ReleaseVote::Newer { ballot: ballot.next() }));
    assert_eq!(subject.ask(set.release(ballot)).await, newer);
    assert_eq!(subject.ask(set.release(ballot.next())).await, Ok(Reply::Release(ReleaseVote::Freed)));
    assert_eq!(held(&subject, &["a", "b"]).await, [None, None]);
    assert_eq!(subject.ask(set.release(ballot.next())).await, Ok(Reply::Release(ReleaseVote::NotHeld)));
    // What a release overtook is refused, although no fence of its locks is that high.
    subject.ask(set.release(ballot.next().next())).await.unwrap();
    assert_eq!(subject.ask(set.acquire(ballot.next().next())).await, stale(ballot.next().next()));
}

pub async fn a_repeat_of_a_set_is_mine_and_of_a_part_of_it_has_nothing_left(subject: Subject) {
    let (ballot, set) = (ahead(&subject), Caller::of_set(&["a", "b"], "alice"));
    subject.ask(set.acquire(ballot)).await.unwrap();
    let again = set.attempt(2);
    let mine = |answer| match answer {
        Ok(Reply::Acquire(AcquireVote::Mine { ballot: of, left, .. })) if of == ballot => left,
        other => panic!("not mine: {other:?}"),
    };
    assert!(Duration::ZERO < mine(subject.ask(again.acquire(ballot.next())).await));
    assert_eq!(subject.ask(set.cancel(ballot)).await, Ok(Reply::Cancel { freed: false }));
    subject.ask(Caller { key: lock_key("b"), ..set.clone() }.release(ballot)).await.unwrap();
    assert_eq!(mine(subject.ask(again.acquire(ballot.next())).await), Duration::ZERO);
    assert_eq!(subject.ask(again.acquire_over(ballot.next(), Some(ballot))).await, ACCEPTED);
    assert_eq!(held(&subject, &["a", "b"]).await, [Some(ballot.next()), Some(ballot.next())]);
}

pub async fn a_lease_that_holds_a_set_is_of_no_other(subject: Subject) {
    let ballot = ahead(&subject);
    subject.ask(Caller::of_set(&["a", "b"], "alice").acquire(ballot)).await.unwrap();
    let holder = in_the_way(subject.ask(Caller::of_set(&["a", "c"], "alice").acquire(ballot.next())).await);
    assert_eq!((holder.member, holder.ballot), (None, Some(ballot)));
    assert_eq!(held(&subject, &["c"]).await, [None]);
}

pub async fn a_set_is_not_extended_whose_lock_was_had_anew(subject: Subject) {
    for mode in [Mode::Exclusive, Mode::Shared] {
        let name = mode.to_string();
        let (ballot, set) = (ahead(&subject), Caller::of_set(&["a", "b"], &name));
        subject.ask(set.acquire(ballot)).await.unwrap();
        // By the same lease, so that somebody else may have had it in between, or has it besides.
        let again = Caller { members: [].into(), key: lock_key("b"), ..set.mode(mode) };
        subject.batch(vec![again.release(ballot), again.acquire(ballot.next())]).await;
        assert_eq!(subject.ask(set.extend(Duration::from_secs(60))).await, Ok(Reply::Extend(ExtendVote::Gone)), "{mode}");
        subject.batch(vec![again.release(ballot.next()), set.release(ballot.next())]).await;
    }
}

pub async fn in_its_delay_a_set_is_in_its_own_way(subject: Subject) {
    let lifetime = Lifetime { delay_ms: 20_000, ..Lifetime::default() };
    let over = Caller { lifetime, ..Caller::of_set(&["a", "b"], "alice").ttl(Duration::from_secs(20)) };
    let ballot = ahead(&subject);
    subject.ask(over.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(over.extend(Duration::from_secs(60))).await, Ok(Reply::Extend(ExtendVote::Gone)));
    let others = Caller { members: [lock_key("c")].into(), ..over.clone() };
    for (caller, member) in [(over, Some(0)), (others, None)] {
        assert_eq!(in_the_way(subject.ask(caller.attempt(2).acquire(ballot.next())).await).member, member);
    }
}

pub async fn a_waiting_set_holds_back_new_readers(subject: Subject) {
    let (ballot, reader) = (ahead(&subject), |name| Caller::new("b", name).mode(Mode::Shared));
    subject.ask(reader("alice").acquire(ballot)).await.unwrap();
    let set = Caller::of_set(&["a", "b"], "carol");
    assert!(in_the_way(subject.ask(set.acquire(ballot.next())).await).is_shared);
    assert_eq!(subject.ask(reader("bob").acquire(ballot.next())).await, ACCEPTED);
    assert!(in_the_way(subject.ask(set.waiting().acquire(ballot.next())).await).is_shared);
    let nobody = in_the_way(subject.ask(reader("dave").acquire(ballot.next())).await);
    assert!(nobody.is_shared && nobody.ballot.is_none(), "{nobody:?}");
}
