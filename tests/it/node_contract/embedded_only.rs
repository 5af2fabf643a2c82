//! What only a node with a disk of its own promises.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redlockd::lease::{Abstention, ReleaseVote};
use redlockd::node::{Agreement, EmbeddedError, EmbeddedNode, Reply};

use super::{ACCEPTED, holder, stale};
use crate::support::{Caller, Subject, agreement, embedded_node, first_probe, lone_clock};

async fn opened(directory: &Path, agreement: Agreement) -> (Subject, Duration) {
    let clock = lone_clock();
    let node = embedded_node(directory, agreement, &clock);
    let quarantine_left = first_probe(&node, false).await.unwrap().quarantine_left;
    (Subject::new(node, clock, ()), quarantine_left)
}

#[tokio::test]
async fn a_new_directory_votes_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let (subject, quarantine_left) = opened(directory.path(), agreement()).await;
    assert_eq!(quarantine_left, Duration::ZERO);
    assert_eq!(subject.ask(Caller::new("lock", "alice").acquire(subject.now())).await, ACCEPTED);
}

#[tokio::test]
async fn a_reopened_node_remembers_locks_and_fences() {
    let directory = tempfile::tempdir().unwrap();
    let (held, freed) = (Caller::new("held", "alice"), Caller::new("freed", "alice"));
    let (before, _) = opened(directory.path(), agreement()).await;
    // Far enough ahead that reopening takes less time than it stays a fence.
    let ballot = before.ahead(agreement().window);
    before.batch(vec![held.acquire(ballot), freed.acquire(ballot), freed.release(ballot)]).await;
    drop(before);
    let (after, quarantine_left) = opened(directory.path(), agreement()).await;
    assert_eq!(quarantine_left, Duration::ZERO);
    assert_eq!(holder(&after, &held.key).await.unwrap().ballot, Some(ballot));
    assert_eq!(after.ask(Caller::new("freed", "bob").acquire(ballot)).await, stale(ballot));
}

#[tokio::test]
async fn a_directory_serves_one_node_only() {
    let directory = tempfile::tempdir().unwrap();
    let (_first, _) = opened(directory.path(), agreement()).await;
    let second = EmbeddedNode::open(directory.path(), agreement(), "run".into(), Arc::clone(&lone_clock()));
    assert!(matches!(second, Err(EmbeddedError::InUse(_))));
}

#[tokio::test]
async fn a_file_that_was_emptied_is_not_taken_for_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::File::create(EmbeddedNode::path(directory.path())).unwrap();
    let emptied = EmbeddedNode::open(directory.path(), agreement(), "run".into(), Arc::clone(&lone_clock()));
    assert!(matches!(emptied, Err(EmbeddedError::Emptied(_))));
}

#[tokio::test]
async fn nobody_else_can_read_what_it_writes() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("new/data");
    drop(opened(&data, agreement()).await);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&EmbeddedNode::path(&data))), (0o700, 0o600));
}

#[tokio::test]
async fn a_longer_ttl_needs_no_quarantine() {
    let directory = tempfile::tempdir().unwrap();
    drop(opened(directory.path(), agreement()).await);
    let longer = Agreement { max_ttl: 2 * agreement().max_ttl, ..agreement() };
    assert_eq!(opened(directory.path(), longer).await.1, Duration::ZERO);
}

#[tokio::test]
async fn another_window_needs_a_quarantine_of_windows_in_which_releases_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let alice = Caller::new("lock", "alice");
    let (before, _) = opened(directory.path(), agreement()).await;
    let ballot = before.now();
    before.ask(alice.acquire(ballot)).await.unwrap();
    drop(before);
    let wider = Agreement { window: Duration::from_secs(1), ..agreement() };
    let (after, quarantine_left) = opened(directory.path(), wider).await;
    let windows = 6 * wider.window + Agreement::STEP_BACK;
    assert!(windows / 2 < quarantine_left && quarantine_left <= windows + Duration::from_millis(10), "{quarantine_left:?}");
    let answers = after.batch(vec![alice.extend(alice.ttl), alice.release(ballot)]).await;
    assert!(matches!(answers[0], Err(Abstention::Quarantined { .. })), "{answers:?}");
    assert_eq!(answers[1], Ok(Reply::Release(ReleaseVote::Freed)));
}
