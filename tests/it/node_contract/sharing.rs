//! Locks that several hold together: in any order among themselves, or in numbered slots.

use std::time::Duration;

use redlockd::lease::{AcquireVote, Answer, Ballot, ExtendVote, Holder, InspectVote, Mode, ReleaseVote, Slot, Slots};
use redlockd::node::Reply;

use super::{ACCEPTED, holder, in_the_way, mine, stale};
use crate::support::{Caller, Subject, agreement};

fn reader(name: &str) -> Caller {
    Caller::new("lock", name).mode(Mode::Shared)
}

fn in_slot(name: &str, number: u16) -> Caller {
    Caller::new("lock", name).mode(Mode::Slot(Slot { number, limit: 3 }))
}

/// A ballot that no fence or window of the next quarter of a second is above.
fn ahead(subject: &Subject) -> Ballot {
    subject.ahead(agreement().window / 2)
}

/// Who hold it together, and in which slots.
async fn sharers(subject: &Subject) -> Vec<(Ballot, u16)> {
    match subject.ask(reader("anybody").inspect()).await {
        Ok(Reply::Inspect(InspectVote::Free)) => Vec::new(),
        Ok(Reply::Inspect(InspectVote::Together { sharers, .. })) => {
            sharers.iter().map(|sharing| (sharing.holder.ballot.unwrap(), sharing.slot)).collect()
        }
        other => panic!("not shared: {other:?}"),
    }
}

fn taken(answer: Answer<Reply>) -> (Slots, Holder) {
    match answer {
        Ok(Reply::Acquire(AcquireVote::Taken { slots, holder })) => (slots, holder),
        other => panic!("not taken: {other:?}"),
    }
}

pub async fn those_who_share_a_lock_come_in_any_order_and_keep_out_who_wants_it_alone(subject: Subject) {
    let ballot = ahead(&subject);
    let answers = subject.batch(vec![reader("alice").acquire(ballot.next()), reader("bob").acquire(ballot)]).await;
    assert_eq!(answers, [ACCEPTED, ACCEPTED]);
    assert_eq!(sharers(&subject).await, [(ballot.next(), 0), (ballot, 0)]);
    let holder = in_the_way(subject.ask(Caller::new("lock", "carol").acquire(ballot.next().next())).await);
    assert!(holder.is_shared && holder.ballot == Some(ballot.next()), "{holder:?}");
}

pub async fn who_holds_it_alone_keeps_out_who_would_share_it(subject: Subject) {
    let alice = Caller::new("lock", "alice");
    subject.ask(alice.acquire(subject.now())).await.unwrap();
    let holder = in_the_way(subject.ask(reader("bob").acquire(ahead(&subject))).await);
    assert!(!holder.is_shared && holder.owner == alice.owner, "{holder:?}");
    // Nor can it let others in itself.
    in_the_way(subject.ask(reader("alice").acquire(ahead(&subject))).await);
}

pub async fn whoever_wants_it_alone_afterwards_is_above_all_who_shared_it(subject: Subject) {
    let (ballot, alice, carol) = (ahead(&subject), reader("alice"), Caller::new("lock", "carol"));
    let high = ballot.next().next();
    subject.batch(vec![alice.acquire(high), reader("bob").acquire(ballot)]).await;
    subject.batch(vec![alice.cancel(ballot), reader("bob").release(ballot)]).await;
    assert_eq!(holder(&subject, &carol.key).await, None);
    assert_eq!(subject.ask(carol.acquire(high)).await, stale(high));
    // Those who share it need to be above what was cancelled and released only, and above who had it alone.
    assert_eq!(subject.ask(reader("dave").acquire(ballot)).await, stale(ballot));
    assert_eq!(subject.ask(reader("dave").acquire(ballot.next())).await, ACCEPTED);
    subject.ask(reader("dave").release(ballot.next())).await.unwrap();
    assert_eq!(subject.ask(carol.acquire(high.next())).await, ACCEPTED);
    subject.ask(carol.release(high.next())).await.unwrap();
    assert_eq!(subject.ask(reader("dave").acquire(high.next())).await, stale(high.next()));
}

pub async fn a_waiting_writer_holds_back_new_readers_but_not_those_who_are_there(subject: Subject) {
    let (ballot, alice, carol) = (ahead(&subject), reader("alice"), Caller::new("lock", "carol"));
    subject.ask(alice.acquire(ballot)).await.unwrap();
    in_the_way(subject.ask(carol.acquire(ballot.next())).await);
    assert_eq!(subject.ask(reader("bob").acquire(ballot.next())).await, ACCEPTED);
    in_the_way(subject.ask(carol.waiting().acquire(ballot.next())).await);
    assert!(in_the_way(subject.ask(reader("dave").acquire(ballot.next())).await).is_shared);
    let extended = subject.ask(alice.extend(alice.ttl)).await;
    assert!(matches!(extended, Ok(Reply::Extend(ExtendVote::Extended { .. }))), "{extended:?}");
    // When all have left it is still kept for her, and it is hers.
    subject.batch(vec![alice.release(ballot), reader("bob").release(ballot.next())]).await;
    assert_eq!(holder(&subject, &carol.key).await, None);
    let nobody = in_the_way(subject.ask(reader("dave").acquire(ballot.next().next())).await);
    assert!(nobody.is_shared && nobody.ballot.is_none() && nobody.left.is_some(), "{nobody:?}");
    assert_eq!(subject.ask(carol.acquire(ballot.next().next())).await, ACCEPTED);
}

pub async fn each_sharer_extends_releases_and_cancels_its_own(subject: Subject) {
    let (ballot, alice, bob, carol) = (ahead(&subject), reader("alice"), reader("bob"), reader("carol"));
    subject.batch(vec![alice.ttl(Duration::from_secs(1)).acquire(ballot), bob.acquire(ballot.next())]).await;
    assert_eq!(subject.ask(carol.extend(carol.ttl)).await, Ok(Reply::Extend(ExtendVote::Gone)));
    let Ok(Reply::Extend(ExtendVote::Extended { ballot: of, left })) = subject.ask(alice.extend(alice.ttl)).await else { panic!("not extended") };
    assert!(of == ballot && Duration::from_secs(20) < left, "{of} {left:?}");
    // Nobody is in the way of a release, and an extended lease can't be cancelled.
    assert_eq!(subject.ask(carol.release(ballot)).await, Ok(Reply::Release(ReleaseVote::NotHeld)));
    assert_eq!(subject.ask(alice.cancel(ballot)).await, Ok(Reply::Cancel { freed: false }));
    assert_eq!(subject.ask(bob.cancel(ballot.next())).await, Ok(Reply::Cancel { freed: true }));
    assert_eq!(sharers(&subject).await, [(ballot, 0)]);
    assert_eq!(subject.ask(alice.release(Ballot::from_micros(1))).await, Ok(Reply::Release(ReleaseVote::Newer { ballot })));
    assert_eq!(subject.ask(alice.release(ballot)).await, Ok(Reply::Release(ReleaseVote::Freed)));
    assert_eq!(sharers(&subject).await, []);
}

pub async fn a_release_of_whoever_shares_it_reaches_up_to_its_ballot_only(subject: Subject) {
    let (ballot, anybody) = (ahead(&subject), reader("anybody"));
    subject.batch(vec![reader("alice").acquire(ballot), reader("bob").acquire(ballot.next())]).await;
    assert_eq!(subject.ask(anybody.force(ballot)).await, Ok(Reply::Release(ReleaseVote::Freed)));
    assert_eq!(subject.ask(anybody.force(ballot)).await, Ok(Reply::Release(ReleaseVote::Newer { ballot: ballot.next() })));
    assert_eq!(sharers(&subject).await, [(ballot.next(), 0)]);
}

pub async fn a_repeat_of_a_sharer_is_told_what_it_has(subject: Subject) {
    let (ballot, alice) = (ahead(&subject), reader("alice"));
    subject.batch(vec![alice.acquire(ballot), reader("bob").acquire(ballot)]).await;
    assert_eq!(subject.ask(alice.acquire(ballot)).await, ACCEPTED);
    let again = alice.attempt(2);
    assert_eq!(mine(subject.ask(again.acquire(ballot.next())).await), ballot);
    assert_eq!(subject.ask(alice.cancel(ballot)).await, Ok(Reply::Cancel { freed: false }));
    assert_eq!(subject.ask(again.acquire_over(ballot.next(), Some(ballot))).await, ACCEPTED);
    assert_eq!(sharers(&subject).await, [(ballot, 0), (ballot.next(), 0)]);
}

pub async fn no_more_than_a_bound_share_a_lock(subject: Subject) {
    let ballot = ahead(&subject);
    let all = subject.batch((0..Mode::MAX_TOGETHER).map(|name| reader(&name.to_string()).acquire(ballot)).collect()).await;
    assert!(all.iter().all(|answer| *answer == ACCEPTED), "{all:?}");
    let answer = subject.ask(reader("one-more").acquire(ballot)).await;
    assert!(matches!(answer, Ok(Reply::Acquire(AcquireVote::Crowded(_)))), "{answer:?}");
    subject.ask(reader("0").release(ballot)).await.unwrap();
    assert_eq!(subject.ask(reader("one-more").acquire(ballot.next())).await, ACCEPTED);
}

pub async fn a_slot_has_one_holder_and_the_others_are_told(subject: Subject) {
    let ballot = ahead(&subject);
    subject.batch(vec![in_slot("alice", 1).acquire(ballot), in_slot("bob", 3).acquire(ballot.next())]).await;
    let (slots, holder) = taken(subject.ask(in_slot("carol", 3).acquire(ballot.next().next())).await);
    assert_eq!((slots, holder.is_shared), ([1, 3].into_iter().collect(), true));
    assert_eq!(subject.ask(in_slot("carol", 2).acquire(ballot.next().next())).await, ACCEPTED);
    assert_eq!(sharers(&subject).await, [(ballot, 1), (ballot.next(), 3), (ballot.next().next(), 2)]);
    in_the_way(subject.ask(Caller::new("lock", "dave").acquire(ballot.next().next())).await);
}

pub async fn slots_that_are_left_are_given_in_the_order_of_their_ballots(subject: Subject) {
    let ballot = ahead(&subject);
    subject.ask(in_slot("alice", 1).acquire(ballot.next())).await.unwrap();
    assert_eq!(subject.ask(in_slot("bob", 2).acquire(ballot.next())).await, stale(ballot.next()));
    subject.ask(in_slot("alice", 1).release(ballot.next())).await.unwrap();
    assert_eq!(subject.ask(in_slot("bob", 1).acquire(ballot.next())).await, stale(ballot.next()));
    assert_eq!(subject.ask(in_slot("bob", 1).acquire(ballot.next().next())).await, ACCEPTED);
}

pub async fn a_lease_keeps_its_slot(subject: Subject) {
    let (ballot, alice) = (ahead(&subject), in_slot("alice", 1));
    subject.ask(alice.acquire(ballot)).await.unwrap();
    let elsewhere = Caller { ttl: alice.ttl, ..in_slot("alice", 2) }.attempt(2);
    let answer = subject.ask(elsewhere.acquire_over(ballot.next(), Some(ballot))).await;
    assert!(matches!(answer, Ok(Reply::Acquire(AcquireVote::Mine { slot: 1, .. }))), "{answer:?}");
    // A later round of one attempt may move, to a slot that is free.
    subject.ask(in_slot("bob", 3).acquire(ballot.next())).await.unwrap();
    let moved = |number| in_slot("alice", number).attempt(3);
    assert_eq!(subject.ask(moved(1).acquire_over(ballot.next().next(), Some(ballot))).await, ACCEPTED);
    assert_eq!(sharers(&subject).await, [(ballot.next(), 3), (ballot.next().next(), 1)]);
}

pub async fn who_counts_otherwise_is_refused_while_a_slot_is_held(subject: Subject) {
    let ballot = ahead(&subject);
    subject.ask(in_slot("alice", 1).acquire(ballot)).await.unwrap();
    let of_five = Caller::new("lock", "bob").mode(Mode::Slot(Slot { number: 5, limit: 5 }));
    let limit = |answer| match answer {
        Ok(Reply::Acquire(AcquireVote::OtherLimit { limit, .. })) => limit,
        other => panic!("the same limit: {other:?}"),
    };
    assert_eq!(limit(subject.ask(of_five.acquire(ballot.next())).await), 3);
    assert_eq!(limit(subject.ask(reader("bob").acquire(ballot.next())).await), 3);
    subject.ask(in_slot("alice", 1).release(ballot)).await.unwrap();
    assert_eq!(subject.ask(of_five.acquire(ballot.next())).await, ACCEPTED);
}

pub async fn a_full_semaphore_says_which_slots_are_taken(subject: Subject) {
    let (limit, begin) = (Mode::MAX_TOGETHER, ahead(&subject).micros());
    let take = |name: &str, number: u16, ballot: u64| {
        let caller = Caller::new("lock", name).mode(Mode::Slot(Slot { number, limit }));
        caller.acquire(Ballot::from_micros(begin + ballot))
    };
    let all = subject.batch((1..=limit).map(|number| take(&number.to_string(), number, number.into())).collect()).await;
    assert!(all.iter().all(|answer| *answer == ACCEPTED), "{all:?}");
    let (slots, _) = taken(subject.ask(take("one-more", 7, 300)).await);
    assert_eq!(slots.iter().count(), usize::from(limit));
}

pub async fn the_longest_time_for_which_others_are_held_back_counts(subject: Subject) {
    let (ballot, carol) = (ahead(&subject), Caller::new("lock", "carol").waiting());
    subject.ask(reader("alice").acquire(ballot)).await.unwrap();
    let briefly = Caller { holds_back: Duration::from_millis(1), ..carol.clone() };
    for caller in [carol, briefly] {
        in_the_way(subject.ask(caller.acquire(ballot.next())).await);
    }
    subject.ask(reader("alice").release(ballot)).await.unwrap();
    let nobody = in_the_way(subject.ask(reader("dave").acquire(ballot.next())).await);
    assert!(Duration::from_millis(100) < nobody.left.unwrap(), "{nobody:?}");
}
