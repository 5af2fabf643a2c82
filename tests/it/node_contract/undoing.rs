//! What cancels and releases free, and what they leave behind.

use redlockd::lease::{AcquireVote, Ballot, ReleaseVote};
use redlockd::node::Reply;

use super::{ACCEPTED, holder, stale};
use crate::support::{Caller, Subject, agreement};

const CANCELLED: Reply = Reply::Cancel { freed: true };
const NOTHING_TO_CANCEL: Reply = Reply::Cancel { freed: false };

/// A ballot that no fence or window of the next quarter of a second is above.
fn ahead(subject: &Subject) -> Ballot {
    subject.ahead(agreement().window / 2)
}

pub async fn a_cancel_frees_its_own_attempt_and_refuses_what_it_overtook(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), ahead(&subject));
    subject.ask(alice.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(alice.cancel(ballot.next())).await, Ok(CANCELLED));
    assert_eq!(holder(&subject, &alice.key).await, None);
    assert_eq!(subject.ask(alice.acquire(ballot.next())).await, stale(ballot.next()));
}

pub async fn a_cancel_of_another_attempt_frees_nothing(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), ahead(&subject));
    subject.ask(alice.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(alice.attempt(2).cancel(ballot)).await, Ok(NOTHING_TO_CANCEL));
    assert_eq!(subject.ask(Caller::new("lock", "bob").cancel(ballot)).await, Ok(NOTHING_TO_CANCEL));
    assert_eq!(holder(&subject, &alice.key).await.unwrap().ballot, Some(ballot));
}

pub async fn a_cancel_frees_nothing_that_is_firm(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), ahead(&subject));
    subject.batch(vec![alice.acquire(ballot), alice.extend(alice.ttl)]).await;
    assert_eq!(subject.ask(alice.cancel(ballot.next())).await, Ok(NOTHING_TO_CANCEL));
    assert_eq!(holder(&subject, &alice.key).await.unwrap().ballot, Some(ballot));
}

pub async fn a_release_frees_what_is_firm(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.batch(vec![alice.acquire(ballot), alice.extend(alice.ttl)]).await;
    assert_eq!(subject.ask(alice.release(ballot)).await, Ok(Reply::Release(ReleaseVote::Freed)));
    assert_eq!(subject.ask(alice.release(ballot)).await, Ok(Reply::Release(ReleaseVote::NotHeld)));
}

pub async fn a_release_reaches_up_to_its_ballot_only(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), ahead(&subject));
    subject.ask(alice.acquire(ballot.next())).await.unwrap();
    let newer = Reply::Release(ReleaseVote::Newer { ballot: ballot.next() });
    assert_eq!(subject.ask(alice.release(ballot)).await, Ok(newer));
    assert_eq!(holder(&subject, &alice.key).await.unwrap().ballot, Some(ballot.next()));
}

pub async fn a_release_of_another_lease_frees_nothing(subject: Subject) {
    let (alice, bob) = (Caller::new("lock", "alice"), Caller::new("lock", "bob"));
    let ballot = subject.now();
    subject.ask(alice.acquire(ballot)).await.unwrap();
    assert_eq!(subject.ask(bob.release(subject.now())).await, Ok(Reply::Release(ReleaseVote::HeldByOther)));
    assert_eq!(holder(&subject, &alice.key).await.unwrap().ballot, Some(ballot));
}

pub async fn a_release_of_whoever_holds_it_reaches_up_to_its_ballot_only(subject: Subject) {
    let (alice, bob, ballot) = (Caller::new("lock", "alice"), Caller::new("lock", "bob"), ahead(&subject));
    assert_eq!(subject.ask(bob.force(ballot)).await, Ok(Reply::Release(ReleaseVote::NotHeld)));
    subject.batch(vec![alice.acquire(ballot.next()), alice.extend(alice.ttl)]).await;
    let newer = Reply::Release(ReleaseVote::Newer { ballot: ballot.next() });
    assert_eq!(subject.ask(bob.force(ballot)).await, Ok(newer));
    assert_eq!(subject.ask(bob.force(ballot.next())).await, Ok(Reply::Release(ReleaseVote::Freed)));
    assert_eq!(subject.ask(alice.acquire(ballot.next())).await, stale(ballot.next()));
}

pub async fn a_release_raises_the_fence_in_every_case(subject: Subject) {
    let (held, up_to) = (subject.now(), ahead(&subject));
    for (case, holder) in [("free", None), ("own", Some("alice")), ("another's", Some("bob"))] {
        let (alice, bob, carol) = (Caller::new(case, "alice"), Caller::new(case, "bob"), Caller::new(case, "carol"));
        if let Some(holder) = holder {
            subject.ask(Caller::new(case, holder).acquire(held)).await.unwrap();
        }
        subject.batch(vec![alice.release(up_to), bob.release(held)]).await;
        assert_eq!(subject.ask(carol.acquire(up_to)).await, stale(up_to), "{case}");
    }
}

pub async fn a_release_cannot_poison_the_fence(subject: Subject) {
    let alice = Caller::new("lock", "alice");
    subject.ask(alice.release(Ballot::from_micros(Ballot::MAX))).await.unwrap();
    // With room for the error of the estimate.
    let latest = subject.ahead(agreement().window + agreement().window / 4);
    match subject.ask(alice.acquire(subject.now())).await {
        Ok(Reply::Acquire(AcquireVote::Stale { floor })) => {
            assert!(floor <= latest, "{floor} is beyond {latest}");
            assert_eq!(subject.ask(alice.acquire(floor.next())).await, ACCEPTED);
        }
        other => panic!("not stale: {other:?}"),
    }
}
