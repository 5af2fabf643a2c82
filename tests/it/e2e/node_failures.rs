//! Nodes that die, return and pause.

use std::time::{Duration, Instant};

use super::{PATIENT, granted, machine_to_itself, record_on, records_on, redis_servers};
use crate::support::{Gateway, HttpAnswer, eventually};

/// Quarantine takes about a second under these.
const SHORT: &[&str] = &["--max-ttl=1s", "--default-ttl=500ms", "--clock-window=50ms"];

/// Asks for a new lock each time until it is granted. Under such short leases a busy machine may answer too late.
fn acquire_one_of_many(gateway: &Gateway, name: &str) -> HttpAnswer {
    let mut tries = 0;
    eventually("a lock is granted", || {
        tries += 1;
        let answer = gateway.post(&format!("/locks/{name}/{tries}"));
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        (answer.status == 200).then_some(answer)
    })
}

#[test]
fn the_first_acquire_after_a_quarantine_is_granted() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    // Calls have time, so that what is refused is not refused for want of it.
    let gateway = Gateway::on(&servers, &["--max-ttl=2s", "--default-ttl=2s", "--clock-window=50ms", "--node-timeout=1s"]);
    eventually("connections are made", || (gateway.post("/locks/a?ttl=100ms").status == 200).then_some(()));
    servers.iter().for_each(|server| server.run::<()>(&["FLUSHALL"]));
    gateway.until_nodes_are("quarantined", 3);
    gateway.until_nodes_are("up", 3);
    gateway.post("/locks/b").ok();
}

#[test]
fn a_minority_may_die_a_majority_may_not_and_whoever_returns_is_quarantined_first() {
    let _machine = machine_to_itself();
    let mut servers = redis_servers::<5>();
    let gateway = Gateway::on(&servers, SHORT);
    acquire_one_of_many(&gateway, "all-five");

    servers[..2].iter_mut().for_each(|server| server.kill());
    assert_eq!(acquire_one_of_many(&gateway, "three-left").json()["votes"]["granted"], 3);

    servers[2].kill();
    gateway.until_nodes_are("down", 3);
    let refused = gateway.post("/locks/two-left?ttl=1s");
    assert_eq!(refused.problem(), (503, "no_quorum".into()));
    let votes: Vec<_> = refused.json()["votes"].as_array().unwrap().iter().map(|vote| vote["vote"].as_str().unwrap().to_owned()).collect();
    assert_eq!(votes[..3], ["unreachable"; 3], "{refused:?}");
    assert_eq!(records_on(&servers[3..], "two-left"), 0);
    assert_eq!(gateway.get("/readyz").problem(), (503, "no_quorum".into()));

    servers[0].restart();
    let ready_in = || gateway.nodes()[0]["ready_in_ms"].as_u64();
    let first = eventually("a node that returns is quarantined", ready_in);
    eventually("its quarantine passes", || ready_in().filter(|later| *later < first));
    servers[1..3].iter_mut().for_each(|server| server.restart());
    gateway.until_nodes_are("up", 5);
    acquire_one_of_many(&gateway, "five-again");
}

#[test]
fn a_node_that_lost_its_memory_does_not_vote_before_its_old_leases_are_over() {
    let _machine = machine_to_itself();
    let mut servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, &["--max-ttl=3s", "--default-ttl=3s", "--clock-window=50ms"]);
    let asked = Instant::now();
    let held = granted(&gateway, "/locks/held");
    let valid_for = Duration::from_millis(held.number("valid_for_ms"));
    servers[..2].iter_mut().for_each(|server| server.restart());
    let second = granted(&gateway, "/locks/held");
    assert!(valid_for <= asked.elapsed(), "granted again after {:?}, valid for {valid_for:?}", asked.elapsed());
    assert!(held.number("fencing_token") < second.number("fencing_token"));
}

#[test]
fn a_paused_node_is_skipped_and_is_back_at_once_when_it_goes_on() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<5>();
    let gateway = Gateway::on(&servers, PATIENT);
    let with_all = p99_of_acquires(&gateway, "all");
    servers[4].pause();
    let with_one_paused = p99_of_acquires(&gateway, "paused");
    gateway.until_nodes_are("down", 1);
    let with_one_skipped = p99_of_acquires(&gateway, "skipped");
    println!("p99 of 200 acquires: {with_all:?} with all nodes, {with_one_paused:?} while one pauses, {with_one_skipped:?} once it is skipped");

    servers[4].resume();
    let state = eventually("the node is used again", || {
        let state = gateway.nodes()[4]["state"].clone();
        (state != "down").then_some(state)
    });
    assert_eq!(state, "up");
}

/// Acquires 200 locks one by one, all of which must be granted.
fn p99_of_acquires(gateway: &Gateway, prefix: &str) -> Duration {
    let mut client = gateway.client();
    let mut times: Vec<_> = (0..200)
        .map(|n| {
            let begun = Instant::now();
            client.ask("POST", &format!("/locks/{prefix}/{n}"), &[]).unwrap().ok();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn a_node_that_forgets_while_it_runs_is_quarantined_by_the_next_request() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, PATIENT);
    servers[0].run::<()>(&["FLUSHALL"]);
    gateway.post("/locks/after-the-flush").ok();
    gateway.until_nodes_are("quarantined", 1);
    assert_eq!(record_on(&servers[0], "after-the-flush"), None);
}
