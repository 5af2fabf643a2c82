//! Extending, inspecting, listing, and answering many at once.

use std::collections::BTreeSet;
use std::time::Duration;

use redlockd::lease::{Answer, Ballot, ExtendVote, InspectVote, ReleaseVote};
use redlockd::node::{Command, Page, Reply};

use super::{ACCEPTED, holder, in_the_way};
use crate::support::{Caller, Subject, eventually_async};

const SECOND: Duration = Duration::from_secs(1);

fn extended(answer: Answer<Reply>) -> (Ballot, Duration) {
    match answer {
        Ok(Reply::Extend(ExtendVote::Extended { ballot, left })) => (ballot, left),
        other => panic!("not extended: {other:?}"),
    }
}

pub async fn an_extend_lengthens_and_never_shortens(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(alice.ttl(10 * SECOND).acquire(ballot)).await.unwrap();
    assert_eq!(extended(subject.ask(alice.extend(100 * SECOND)).await), (ballot, 100 * SECOND));
    let (_, left) = extended(subject.ask(alice.extend(SECOND)).await);
    assert!(50 * SECOND < left && left <= 100 * SECOND, "{left:?}");
    assert!(50 * SECOND < holder(&subject, &alice.key).await.unwrap().left.unwrap());
}

pub async fn an_extend_never_creates(subject: Subject) {
    let alice = Caller::new("lock", "alice");
    assert_eq!(subject.ask(alice.extend(SECOND)).await, Ok(Reply::Extend(ExtendVote::Gone)));
    assert_eq!(holder(&subject, &alice.key).await, None);
}

pub async fn an_extend_of_another_lease_is_refused(subject: Subject) {
    let (alice, bob) = (Caller::new("lock", "alice"), Caller::new("lock", "bob"));
    subject.ask(alice.acquire(subject.now())).await.unwrap();
    assert_eq!(subject.ask(bob.extend(100 * SECOND)).await, Ok(Reply::Extend(ExtendVote::HeldByOther)));
    assert!(holder(&subject, &alice.key).await.unwrap().left.unwrap() <= alice.ttl);
}

pub async fn an_extend_makes_firm(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(alice.acquire(ballot)).await.unwrap();
    // Shorter than what is left, so that only the firmness changes.
    extended(subject.ask(alice.extend(SECOND)).await);
    assert_eq!(subject.ask(alice.cancel(ballot)).await, Ok(Reply::Cancel { freed: false }));
}

pub async fn an_inspection_shows_the_holder(subject: Subject) {
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    assert_eq!(subject.ask(alice.inspect()).await, Ok(Reply::Inspect(InspectVote::Free)));
    subject.ask(alice.acquire(ballot)).await.unwrap();
    let Ok(Reply::Inspect(InspectVote::Held { lease, holder, .. })) = subject.ask(alice.inspect()).await else { panic!("not held") };
    assert!(lease == Some(alice.lease), "another lease");
    assert_eq!((holder.ballot, holder.owner), (Some(ballot), alice.owner));
    assert!(holder.left.unwrap() <= alice.ttl);
}

pub async fn a_lock_frees_itself_when_its_time_is_over(subject: Subject) {
    let (alice, bob) = (Caller::new("lock", "alice"), Caller::new("lock", "bob"));
    let acquired = subject.batch(vec![alice.ttl(20 * SECOND / 1000).acquire(subject.now()), bob.acquire(subject.now())]).await;
    assert_eq!(in_the_way(acquired[1].clone()).owner, alice.owner);
    let free = async || (subject.ask(bob.acquire(subject.now())).await == ACCEPTED).then_some(());
    eventually_async("the lock is free", free).await;
}

pub async fn a_scan_pages_through_every_name_once(subject: Subject) {
    let names: BTreeSet<String> = (0..100).map(|n| format!("orders/{n}")).collect();
    for name in names.iter().map(String::as_str).chain(["order", "orders", "others/1"]) {
        subject.ask(Caller::new(name, "alice").acquire(subject.now())).await.unwrap();
    }
    let found = scan(&subject, "orders/").await;
    assert!(found.len() == names.len() && found.into_iter().collect::<BTreeSet<_>>() == names);
}

pub async fn a_prefix_is_no_pattern(subject: Subject) {
    let names = ["*/a", "?/a", "[ab]/a", "[ab]/b", "a/a", "b/a", "\\*/a"];
    for name in names {
        subject.ask(Caller::new(name, "alice").acquire(subject.now())).await.unwrap();
    }
    for (prefix, expected) in [("*", &["*/a"][..]), ("?", &["?/a"]), ("[ab]/", &["[ab]/a", "[ab]/b"]), ("\\", &["\\*/a"]), ("[a-b]", &[])] {
        let mut found = scan(&subject, prefix).await;
        found.sort();
        assert_eq!(found, expected, "{prefix:?}");
    }
}

pub async fn a_batch_is_answered_command_by_command_in_order(subject: Subject) {
    let (alice, bob) = (Caller::new("lock", "alice"), Caller::new("lock", "bob"));
    let other = Caller::new("other", "bob");
    let ballot = subject.now();
    let commands = vec![alice.acquire(ballot), other.acquire(ballot), bob.release(ballot), alice.release(ballot), alice.inspect()];
    let votes = |vote| Ok(Reply::Release(vote));
    let expected = [ACCEPTED, ACCEPTED, votes(ReleaseVote::HeldByOther), votes(ReleaseVote::Freed), Ok(Reply::Inspect(InspectVote::Free))];
    assert_eq!(subject.batch(commands).await, expected);
    assert_eq!(holder(&subject, &other.key).await.unwrap().ballot, Some(ballot));
}

/// Every name under `prefix`, page by page.
async fn scan(subject: &Subject, prefix: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = Command::Scan { prefix: prefix.to_owned(), cursor, limit: 7 };
        let Ok(Reply::Page(Page { keys, next })) = subject.ask(page).await else { panic!("no page") };
        found.extend(keys.iter().map(ToString::to_string));
        match next {
            Some(next) => cursor = next,
            None => return found,
        }
    }
}
