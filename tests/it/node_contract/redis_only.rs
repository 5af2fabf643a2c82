//! What only a server can do to its node: forget, restart, be somebody else's, or be unfit to vote.

use std::sync::Arc;
use std::time::Duration;

use redlockd::lease::{Abstention, AcquireVote, Ballot, ExtendVote, Holder, Lifetime, Mode, Quorum, ReleaseVote};
use redlockd::node::{Agreement, ClusterClock, Fault, Members, Node, Probe, Reply};
use tokio::time::Instant;

use super::{ACCEPTED, holder, in_the_way};
use crate::support::{Caller, RedisServer, Subject, TestClock, agreement, eventually, first_probe, lone_clock, redis_node, redis_node_that};

const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// A first look at `server` by a gateway of these settings.
async fn greeted(server: &RedisServer, name: &str, agreement: Agreement, fresh: bool) -> (Subject, Result<Probe, Fault>) {
    let clock = lone_clock();
    let node = redis_node(server, name, agreement, &clock);
    let probe = first_probe(&node, fresh).await;
    (Subject::new(node, clock, ()), probe)
}

async fn refusal_of(server: &RedisServer) -> String {
    refusal(greeted(server, "n1", agreement(), true).await.1)
}

fn refusal(probe: Result<Probe, Fault>) -> String {
    match probe {
        Err(Fault::Refused(sentence)) => sentence,
        other => panic!("not refused: {other:?}"),
    }
}

fn is_quarantine(left: Duration) -> bool {
    let full = agreement().quarantine();
    full / 2 < left && left <= full + Duration::from_millis(10)
}

#[tokio::test]
async fn the_first_contact_is_quarantined_and_releases_go_on() {
    let server = RedisServer::start();
    let (subject, probe) = greeted(&server, "n1", agreement(), false).await;
    assert!(is_quarantine(probe.unwrap().quarantine_left));
    let alice = Caller::new("lock", "alice");
    let record = format!("{:016} - {} alice", 17, alice.lease.reveal());
    server.run::<()>(&["SET", "redlockd:lock:lock", &record, "PX", "60000"]);
    let answers = subject.batch(vec![alice.acquire(subject.now()), alice.inspect(), alice.release(subject.now()), alice.cancel(subject.now())]).await;
    assert!(answers[..2].iter().all(|answer| matches!(answer, Err(Abstention::Quarantined { .. }))), "{answers:?}");
    assert_eq!(answers[2..], [Ok(Reply::Release(ReleaseVote::Freed)), Ok(Reply::Cancel { freed: false })]);
}

#[tokio::test]
async fn a_fresh_cluster_votes_at_once_and_stays_certified() {
    let server = RedisServer::start();
    assert_eq!(redis_node(&server, "n1", agreement(), &lone_clock()).survey().await.unwrap().marker, None);
    assert_eq!(greeted(&server, "n1", agreement(), true).await.1.unwrap().quarantine_left, Duration::ZERO);
    let (subject, probe) = greeted(&server, "n1", agreement(), false).await;
    assert_eq!(probe.unwrap().quarantine_left, Duration::ZERO);
    assert!(subject.node.survey().await.unwrap().marker.is_some());
}

#[tokio::test]
async fn a_flush_is_noticed_by_the_next_batch_and_quarantined_by_the_next_probe() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    let alice = Caller::new("lock", "alice");
    subject.ask(alice.acquire(subject.now())).await.unwrap();
    server.run::<()>(&["FLUSHALL"]);
    assert_eq!(subject.ask(alice.acquire(subject.now())).await, Err(Abstention::Epoch));
    assert!(is_quarantine(subject.node.probe(false).await.unwrap().quarantine_left));
    assert!(matches!(subject.ask(alice.acquire(subject.now())).await, Err(Abstention::Quarantined { .. })));
}

#[tokio::test]
async fn a_restart_that_forgets_is_quarantined() {
    let mut server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    subject.ask(Caller::new("lock", "alice").acquire(subject.now())).await.unwrap();
    server.restart();
    assert!(subject.try_batch(vec![Caller::new("lock", "bob").acquire(subject.now())]).await.is_err());
    assert!(is_quarantine(greeted(&server, "n1", agreement(), false).await.1.unwrap().quarantine_left));
}

#[tokio::test]
async fn a_restart_that_wrote_everything_down_forgets_nothing() {
    let mut server = RedisServer::start_with(DURABLE);
    let subject = Subject::redis_on(&server).await;
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(alice.acquire(ballot)).await.unwrap();
    server.restart();
    let (after, probe) = greeted(&server, "n1", agreement(), false).await;
    assert_eq!(probe.unwrap().quarantine_left, Duration::ZERO);
    assert_eq!(holder(&after, &alice.key).await.unwrap().ballot, Some(ballot));
}

#[tokio::test]
async fn what_is_on_disk_counts_for_nothing_unless_it_is_to() {
    let mut server = RedisServer::start_with(DURABLE);
    Subject::redis_on(&server).await;
    server.restart();
    let distrustful = redis_node_that(false, &server, "n1", agreement(), &lone_clock());
    assert!(is_quarantine(first_probe(&distrustful, false).await.unwrap().quarantine_left));
}

#[tokio::test]
async fn what_was_seen_to_write_less_comes_back_with_an_old_disk() {
    let mut server = RedisServer::start_with(DURABLE);
    let subject = Subject::redis_on(&server).await;
    server.run::<()>(&["CONFIG", "SET", "appendonly", "no"]);
    assert_eq!(subject.node.probe(false).await.unwrap().quarantine_left, Duration::ZERO);
    subject.ask(Caller::new("lock", "alice").acquire(subject.now())).await.unwrap();
    // With the arguments that it had at first.
    server.restart();
    assert!(is_quarantine(first_probe(&*subject.node, false).await.unwrap().quarantine_left));
}

#[tokio::test]
async fn a_replica_that_is_a_master_again_knows_what_another_knew() {
    let (server, other) = (RedisServer::start(), RedisServer::start());
    let subject = Subject::redis_on(&server).await;
    follow(&other, &server);
    subject.ask(Caller::new("lock", "alice").acquire(subject.now())).await.unwrap();
    // Its own marker comes back to it, and its process is the same.
    follow(&server, &other);
    assert!(server.run::<Option<String>>(&["GET", "redlockd:node"]).is_some());
    assert!(is_quarantine(first_probe(&*subject.node, false).await.unwrap().quarantine_left));
    assert_eq!(subject.node.probe(false).await.unwrap().facts.run_id, server.run_id());
}

/// Makes `server` a replica of `master` until it has all of it, and then a master.
fn follow(server: &RedisServer, master: &RedisServer) {
    server.run::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually("it has everything", || server.run::<String>(&["INFO", "replication"]).contains("master_link_status:up").then_some(()));
    server.run::<()>(&["REPLICAOF", "NO", "ONE"]);
}

#[tokio::test]
async fn what_was_evicted_costs_the_vote_although_the_policy_is_mended() {
    evicted_costs_the_vote(RedisServer::start()).await;
}

#[tokio::test]
async fn a_disk_that_is_trusted_has_not_what_was_evicted() {
    evicted_costs_the_vote(RedisServer::start_with(DURABLE)).await;
}

async fn evicted_costs_the_vote(server: RedisServer) {
    let subject = Subject::redis_on(&server).await;
    subject.ask(Caller::new("lock", "alice").acquire(subject.now())).await.unwrap();
    for (name, value) in [("maxmemory-policy", "volatile-ttl"), ("maxmemory", "1")] {
        server.run::<()>(&["CONFIG", "SET", name, value]);
    }
    // It evicts what will expire, and has no room all the same.
    assert!(redis::cmd("SET").arg("another").arg("x").query::<()>(&mut server.connect()).is_err());
    assert!(matches!(subject.node.probe(false).await, Err(Fault::Refused(_))));
    for (name, value) in [("maxmemory", "0"), ("maxmemory-policy", "noeviction")] {
        server.run::<()>(&["CONFIG", "SET", name, value]);
    }
    assert!(server.run::<Option<String>>(&["GET", "redlockd:node"]).is_some());
    assert!(is_quarantine(subject.node.probe(false).await.unwrap().quarantine_left));
    // Once, and not for ever.
    let marker = server.run::<String>(&["GET", "redlockd:node"]);
    greeted(&server, "n1", agreement(), false).await.1.unwrap();
    assert_eq!(server.run::<String>(&["GET", "redlockd:node"]), marker);
}

#[tokio::test]
async fn a_dead_server_was_sent_nothing() {
    let mut server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    let alice = Caller::new("lock", "alice");
    server.kill();
    // At once, rather than when the call's time is over.
    let refused = Err(Fault::NotSent("connection refused".into()));
    assert_eq!(subject.try_batch(vec![alice.acquire(subject.now())]).await, refused);
}

#[tokio::test]
async fn a_paused_server_loses_the_reply_and_goes_on_later() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    let alice = Caller::new("lock", "alice");
    subject.ask(alice.inspect()).await.unwrap();
    server.pause();
    assert!(matches!(subject.try_batch(vec![alice.inspect()]).await, Err(Fault::Lost(_))));
    server.resume();
    assert_eq!(subject.ask(alice.acquire(subject.now())).await, ACCEPTED);
}

#[tokio::test]
async fn a_foreign_string_is_a_holder_without_a_token() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    server.run::<()>(&["SET", "redlockd:lock:lock", "f3a1c0de"]);
    let alice = Caller::new("lock", "alice");
    let foreign = Holder::default();
    assert_eq!(in_the_way(subject.ask(alice.acquire(subject.now())).await), foreign);
    let answers = subject.batch(vec![alice.extend(alice.ttl), alice.release(subject.now())]).await;
    assert_eq!(answers, [Ok(Reply::Extend(ExtendVote::HeldByOther)), Ok(Reply::Release(ReleaseVote::HeldByOther))]);
    assert_eq!(subject.ask(alice.force(Ballot::from_micros(Ballot::MAX))).await, Ok(Reply::Release(ReleaseVote::HeldByOther)));
    assert_eq!(server.run::<String>(&["GET", "redlockd:lock:lock"]), "f3a1c0de");
}

#[tokio::test]
async fn a_foreign_hash_fails_its_own_commands_only_and_survives() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    server.run::<()>(&["HSET", "redlockd:lock:hash", "field", "value"]);
    let (hash, other) = (Caller::new("hash", "alice"), Caller::new("other", "alice"));
    let ballot = subject.now();
    let commands =
        vec![hash.acquire(ballot), hash.extend(hash.ttl), hash.inspect(), other.acquire(ballot), hash.release(ballot), hash.cancel(ballot)];
    let answers = subject.batch(commands).await;
    assert!(answers[..3].iter().all(|answer| matches!(answer, Err(Abstention::Failed(_)))), "{answers:?}");
    assert_eq!(answers[3], ACCEPTED);
    assert_eq!(server.run::<String>(&["HGET", "redlockd:lock:hash", "field"]), "value");
}

#[tokio::test]
async fn a_server_that_is_out_of_memory_does_not_vote_and_frees_what_is_released() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    let (alice, bob) = (Caller::new("lock", "alice"), Caller::new("other", "bob"));
    // Two of whom one leaves, one whose attempt is undone, and one who is too early: something is left to be written.
    let shared = |name: &str| Caller::new("shared", name).mode(Mode::Shared);
    let kept_ms = subject.now().micros() / 1000 + 20_000;
    let early = Caller { lifetime: Lifetime { kept_ms, ..Lifetime::default() }, ..Caller::new("early", "erin") };
    let callers = [&alice, &bob, &early, &shared("one"), &shared("two"), &shared("three")];
    let acquires = callers.map(|caller| caller.acquire(subject.now())).to_vec();
    assert!(subject.batch(acquires).await.iter().all(|answer| *answer == ACCEPTED));
    server.run::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let late = subject.now();
    assert!(matches!(subject.ask(Caller::new("third", "carol").acquire(late)).await, Err(Abstention::Failed(_))));
    let answers = subject.batch(vec![alice.release(late), bob.cancel(late)]).await;
    assert_eq!(answers, [Ok(Reply::Release(ReleaseVote::Freed)), Ok(Reply::Cancel { freed: true })]);
    for (command, answer) in [
        (shared("one").release(late), Reply::Release(ReleaseVote::Freed)),
        (shared("two").cancel(late), Reply::Cancel { freed: true }),
        (early.release(late), Reply::Release(ReleaseVote::Freed)),
    ] {
        assert_eq!(subject.ask(command).await, Ok(answer));
    }
    let sharers = server.run::<String>(&["GET", "redlockd:lock:shared"]).lines().count() - 1;
    assert_eq!((sharers, server.run::<bool>(&["EXISTS", "redlockd:lock:early"])), (1, true));
}

#[tokio::test]
async fn lost_scripts_are_loaded_again_behind_a_new_handshake() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    let alice = Caller::new("lock", "alice");
    subject.ask(alice.inspect()).await.unwrap();
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    assert_eq!(subject.ask(alice.acquire(subject.now())).await, ACCEPTED);
    // The handshake comes before the script: a server that forgot more than its scripts does not vote.
    server.run::<()>(&["FLUSHALL"]);
    server.run::<()>(&["SCRIPT", "FLUSH"]);
    let answers = subject.try_batch(vec![alice.inspect()]).await.unwrap().answers;
    assert!(matches!(answers[..], [Err(Abstention::Quarantined { .. })]), "{answers:?}");
}

/// As servers do that were told to close idle connections.
#[tokio::test]
async fn a_connection_that_the_server_closed_is_found_out_by_the_next_probe() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    let alice = Caller::new("lock", "alice");
    subject.ask(alice.inspect()).await.unwrap();
    server.run::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    // Its own connection was closed as well.
    let _ = subject.node.probe(false).await;
    subject.node.probe(false).await.unwrap();
    assert_eq!(subject.ask(alice.acquire(subject.now())).await, ACCEPTED);
}

#[tokio::test]
async fn a_server_that_is_unfit_to_vote_is_refused_with_what_to_do() {
    let evicting = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    assert!(refusal_of(&evicting).await.contains("set it to noeviction"));
    let replica = RedisServer::start();
    replica.run::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(refusal_of(&replica).await.contains("name an independent master"));
    let cluster = RedisServer::start_with(&["--cluster-enabled", "yes"]);
    assert!(refusal_of(&cluster).await.contains("use independent masters"));
}

#[tokio::test]
async fn a_marker_of_another_program_is_refused_and_kept() {
    let server = RedisServer::start();
    server.run::<()>(&["SET", "redlockd:node", "not a marker"]);
    assert!(refusal_of(&server).await.contains("was not written by this version"));
    assert_eq!(server.run::<String>(&["GET", "redlockd:node"]), "not a marker");
}

#[tokio::test]
async fn two_entries_that_reach_one_server_are_refused() {
    let server = RedisServer::start();
    greeted(&server, "n1", agreement(), true).await.1.unwrap();
    let sentence = refusal(greeted(&server, "n2", agreement(), true).await.1);
    assert!(sentence.contains("\"n1\"") && sentence.contains("give every node one entry"), "{sentence}");
}

#[tokio::test]
async fn other_settings_are_refused_until_the_generation_is_raised() {
    let server = RedisServer::start();
    let longer = Agreement { max_ttl: 2 * agreement().max_ttl, ..agreement() };
    greeted(&server, "n1", longer, true).await.1.unwrap();
    assert!(refusal_of(&server).await.contains("max_ttl 10m and clock_window 500ms there, 5m and 500ms here"));
    let raised = Agreement { generation: 2, ..agreement() };
    let (_, probe) = greeted(&server, "n1", raised, true).await;
    // The longer leases of the generation before may still be live.
    assert!(probe.unwrap().quarantine_left > agreement().quarantine());
    assert!(refusal(greeted(&server, "n1", longer, true).await.1).contains("generation 2"));
}

#[tokio::test]
async fn another_list_of_nodes_is_refused_until_the_generation_is_raised() {
    let server = RedisServer::start();
    let shorter = Agreement { members: Members::of(["n1"], ""), ..agreement() };
    greeted(&server, "n1", shorter, true).await.1.unwrap();
    assert!(refusal_of(&server).await.contains("other gateways use another list of nodes"));
    let raised = Agreement { generation: 2, ..agreement() };
    assert!(is_quarantine(greeted(&server, "n1", raised, true).await.1.unwrap().quarantine_left));
}

#[tokio::test]
async fn a_higher_generation_ends_the_votes_of_the_one_before() {
    let server = RedisServer::start();
    let subject = Subject::redis_on(&server).await;
    let (alice, ballot) = (Caller::new("lock", "alice"), subject.now());
    subject.ask(alice.acquire(ballot)).await.unwrap();
    let raised = Agreement { generation: 2, ..agreement() };
    assert!(is_quarantine(greeted(&server, "n1", raised, false).await.1.unwrap().quarantine_left));
    let answers = subject.batch(vec![alice.extend(alice.ttl), alice.release(ballot)]).await;
    assert_eq!(answers, [Err(Abstention::Epoch), Ok(Reply::Release(ReleaseVote::Freed))]);
    // The connection is gone with the epoch, and there is no other for the generation before.
    let Err(Fault::Refused(sentence)) = subject.try_batch(vec![alice.inspect()]).await else { panic!("not refused") };
    assert!(sentence.contains("give this gateway the newer list"), "{sentence}");
}

#[tokio::test]
async fn a_wrong_clock_is_refused_with_how_wrong_it_is() {
    let real = lone_clock();
    let clock = TestClock::frozen_at(real.estimate_us() + 60_000_000);
    let server = RedisServer::start_with_clock(&clock);
    let cluster = Arc::new(ClusterClock::new(Quorum::of(3)));
    for other in [1, 2] {
        cluster.sample(other, real.estimate_us(), Instant::now());
    }
    let sentence = refusal(redis_node(&server, "n1", agreement(), &cluster).probe(true).await);
    assert!(sentence.contains("ahead of what most") && sentence.contains("fix the time synchronisation"), "{sentence}");
}

#[tokio::test]
async fn a_frozen_clock_decides_to_the_microsecond() {
    let clock = TestClock::frozen_at(lone_clock().estimate_us());
    let server = RedisServer::start_with_clock(&clock);
    let subject = Subject::redis_on(&server).await;
    let (alice, window) = (Caller::new("lock", "alice"), agreement().window.as_micros() as u64);
    let edge = Ballot::from_micros(clock.now_us() + window);
    assert_eq!(subject.ask(alice.acquire(edge.next())).await, Ok(Reply::Acquire(AcquireVote::Ahead)));
    assert_eq!(subject.ask(alice.acquire(edge)).await, ACCEPTED);
}

/// Redis expires keys by its clock whether or not somebody asks, so an excursion has to be noticed even on a node that is not used meanwhile.
#[tokio::test]
async fn a_clock_that_went_ahead_and_came_back_while_it_was_refused_is_a_loss_of_memory() {
    let real = lone_clock();
    let clock = TestClock::real();
    let server = RedisServer::start_with_clock(&clock);
    let cluster = Arc::new(ClusterClock::new(Quorum::of(3)));
    for other in [1, 2] {
        cluster.sample(other, real.estimate_us(), Instant::now());
    }
    let node = redis_node(&server, "n1", agreement(), &cluster);
    assert_eq!(first_probe(&node, true).await.unwrap().quarantine_left, Duration::ZERO);
    clock.set_ahead(60_000_000);
    assert!(refusal(node.probe(false).await).contains("ahead of what most"));
    clock.set_ahead(0);
    assert!(Duration::ZERO < first_probe(&node, false).await.unwrap().quarantine_left);
}
