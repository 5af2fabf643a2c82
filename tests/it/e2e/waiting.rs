//! Clients that wait for a lock, on real servers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::{PATIENT, granted, redis_servers};
use crate::support::{Chance, Gateway, HttpAnswer, HttpClient, RedisServer, eventually, number_from};

const LOCK: &str = "/locks/turn";

/// Asks in a thread of its own, and returns once it stands in the line with `others`.
fn wait_behind(gateway: &Gateway, others: usize, target: &'static str, headers: &'static [(&'static str, &'static str)]) -> JoinHandle<HttpAnswer> {
    ask_behind(gateway, others, "POST", target, headers)
}

fn ask_behind(
    gateway: &Gateway,
    others: usize,
    method: &'static str,
    target: &'static str,
    headers: &'static [(&'static str, &'static str)],
) -> JoinHandle<HttpAnswer> {
    let mut client = gateway.client();
    let waiting = thread::spawn(move || client.ask(method, target, headers).unwrap());
    until_so_many_wait(gateway, others + 1);
    waiting
}

fn until_so_many_wait(gateway: &Gateway, count: usize) {
    eventually(&format!("{count} wait"), || (gateway.metric("redlockd_waiters") == count as f64).then_some(()));
}

fn on_three(arguments: &[&str]) -> ([RedisServer; 3], Gateway) {
    let servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, &[PATIENT, arguments].concat());
    (servers, gateway)
}

#[test]
fn whoever_waits_gets_the_lock_in_turn_and_is_told_how_long_it_took() {
    let (_servers, gateway) = on_three(&[]);
    let first = granted(&gateway, LOCK);
    let line = [
        wait_behind(&gateway, 0, "/locks/turn?wait=1m", &[]),
        wait_behind(&gateway, 1, LOCK, &[("Prefer", "respond-async, wait=60")]),
        wait_behind(&gateway, 2, "/locks/turn?wait=60s&owner=third", &[]),
    ];
    let (mut holder, mut answers) = (first.ok(), Vec::new());
    for waiting in line {
        let before = holder.number("fencing_token");
        gateway.delete(LOCK, &holder.text("lease_id")).ok();
        holder = waiting.join().unwrap().ok();
        assert!(before < holder.number("fencing_token"));
        assert!(holder.number("valid_for_ms") <= holder.number("ttl_ms"));
        answers.push(holder.clone());
    }
    assert_eq!(answers.iter().map(|answer| answer.header("preference-applied")).collect::<Vec<_>>(), [None, Some("wait=60"), None]);
    assert_eq!((answers[2].text("owner").as_str(), gateway.metric("redlockd_waiters")), ("third", 0.0));
    assert!(gateway.metric("redlockd_wait_duration_seconds_count{outcome=\"granted\"}") == 3.0);
}

#[test]
fn a_wait_ends_with_the_holder_in_the_answer_or_when_the_client_hangs_up() {
    let (_servers, gateway) = on_three(&[]);
    let held = granted(&gateway, "/locks/turn?owner=first");
    let refused = gateway.post("/locks/turn?wait=50ms");
    assert_eq!(refused.problem(), (423, "locked".into()));
    assert_eq!((&refused.json()["holder"]["owner"], &refused.json()["holder"]["fencing_token"]), (&"first".into(), &held.json()["fencing_token"]));
    let mut client = gateway.client();
    client.send("POST", "/locks/turn?wait=1m", &[]).unwrap();
    until_so_many_wait(&gateway, 1);
    client.hang_up();
    until_so_many_wait(&gateway, 0);
    gateway.delete(LOCK, &held.text("lease_id")).ok();
    gateway.post(LOCK).ok();
}

/// By the timer alone a waiter tries a held lock again after half a second at the earliest.
#[test]
fn a_release_through_another_gateway_is_heard_of() {
    let servers = redis_servers::<3>();
    let gateways = [(); 2].map(|()| Gateway::on(&servers, PATIENT));
    for round in 0..5 {
        let holder = granted(&gateways[0], LOCK);
        let heard = gateways[0].metric("redlockd_words_heard_total");
        let waiting = wait_behind(&gateways[1], 0, "/locks/turn?wait=1m", &[]);
        eventually("the first gateway hears that somebody waits", || (heard < gateways[0].metric("redlockd_words_heard_total")).then_some(()));
        let released = Instant::now();
        gateways[0].delete(LOCK, &holder.text("lease_id")).ok();
        let next = waiting.join().unwrap().ok();
        println!("round {round}: {:?} after the release", released.elapsed());
        gateways[1].delete(LOCK, &next.text("lease_id")).ok();
    }
    // Each round the second said that it waits, and the first that the lock is free, which it does only if somebody waits.
    assert_eq!(gateways.each_ref().map(|gateway| gateway.metric("redlockd_words_said_total")), [5.0, 5.0]);
    granted(&gateways[0], "/locks/other").ok();
}

/// Whoever has a lock hands it to its own line, within a gateway in no time at all: without a turn for the others nobody who
/// waits in another gateway would ever find it free.
#[test]
fn gateways_take_turns() {
    const GRANTS: usize = 2000;
    let servers = redis_servers::<3>();
    let gateways = [(); 2].map(|()| Gateway::on(&servers, PATIENT));
    let granted = [const { AtomicUsize::new(0) }; 2];
    let all = || granted.iter().map(|granted| granted.load(Ordering::Relaxed)).sum::<usize>();
    thread::scope(|scope| {
        for (gateway, granted) in gateways.iter().zip(&granted).flat_map(|both| [both; 4]) {
            let mut client = gateway.client();
            scope.spawn(move || {
                while all() < GRANTS {
                    let grant = client.ask("POST", "/locks/turn?wait=1m", &[]).unwrap().ok();
                    granted.fetch_add(1, Ordering::Relaxed);
                    let token = grant.number("fencing_token").to_string();
                    let headers = [("Lease-Id", &*grant.text("lease_id")), ("Fencing-Token", &*token)];
                    client.ask("DELETE", LOCK, &headers).unwrap().ok();
                }
            });
        }
    });
    let shares = granted.map(AtomicUsize::into_inner);
    println!("grants of each gateway: {shares:?}");
    assert!(shares.iter().all(|share| GRANTS / 3 <= *share), "{shares:?}");
}

/// Whatever they wait for, and wherever in the line they stand.
#[test]
fn waiters_that_die_at_random_leave_no_lock_and_no_place_in_a_line() {
    const WISHES: [&str; 4] =
        ["/locks/turn?wait=1m&ttl=5m", "/locks/turn?mode=shared&wait=1m&ttl=5m", "/semaphores/turn?limit=2&wait=1m&ttl=5m", "/locks"];
    let (_servers, gateway) = on_three(&[]);
    let mut chance = Chance::new(number_from("TEST_SEED").unwrap_or(1));
    let mut waiting: Vec<HttpClient> = Vec::new();
    for _ in 0..1500 {
        if 12 < waiting.len() || chance.one_in(3) && !waiting.is_empty() {
            // It is waiting, or has been granted what it wanted and not read it.
            waiting.swap_remove(chance.below(waiting.len() as u64) as usize).hang_up();
            continue;
        }
        let (mut client, wish) = (gateway.client(), chance.pick(&WISHES));
        let body = if wish == "/locks" { r#"{"keys":["turn","other"],"wait":"1m","ttl":"5m"}"# } else { "" };
        client.send_with("POST", wish, &[], body).unwrap();
        waiting.push(client);
    }
    waiting.iter_mut().for_each(HttpClient::hang_up);
    until_so_many_wait(&gateway, 0);
    // An answer that was written before its client hung up is a grant. Nothing else is held.
    let paths = ["/locks/turn", "/locks/other", "/semaphores/turn"];
    let is_held = |path: &&str| {
        let shown = gateway.get(path).ok().json();
        shown["state"] == "held" || shown["held"].as_u64().is_some_and(|held| 0 < held)
    };
    eventually("nothing is held that was not handed out", || {
        (gateway.metric("redlockd_leases_held") > 0.0 || !paths.iter().any(is_held)).then_some(())
    });
    for path in paths {
        gateway.ask("DELETE", &format!("{path}?force=true&reason=a+test"), &[]).ok();
    }
    gateway.post("/locks/turn").ok();
    gateway.post("/locks/other").ok();
    (0..2).for_each(|_| drop(gateway.post("/semaphores/turn?limit=2").ok()));
    assert_eq!(gateway.metric("redlockd_waiters"), 0.0);
}

#[test]
fn more_than_may_wait_are_told_so() {
    let gateway = Gateway::start(&[PATIENT, &["--max-waiters-per-lock=1", "--max-waiters=3"]].concat());
    for lock in ["/locks/a", "/locks/b", "/locks/c"] {
        gateway.post(lock).ok();
    }
    let first = wait_behind(&gateway, 0, "/locks/a?wait=1m", &[]);
    let refused = gateway.post("/locks/a?wait=1m");
    assert_eq!((refused.problem(), refused.header("retry-after")), ((429, "too_many_waiters".into()), Some("1")));
    assert!(refused.json()["detail"].as_str().unwrap().contains("max_waiters_per_lock"), "{refused:?}");
    let second = wait_behind(&gateway, 1, "/locks/b?wait=1m", &[]);
    let third = ask_behind(&gateway, 2, "GET", "/locks/c?wait=1m", &[]);
    for method in ["POST", "GET"] {
        let refused = gateway.ask(method, "/locks/c?wait=1m", &[]);
        assert!(refused.status == 429 && refused.json()["detail"].as_str().unwrap().contains("max_waiters allows"), "{refused:?}");
    }
    assert_eq!(gateway.metric("redlockd_limits_hit_total{limit=\"waiters\"}"), 3.0);
    assert_eq!(gateway.ask("GET", "/locks/free?wait=1m", &[]).ok().text("state"), "free");
    // Whoever only tries is not one of them.
    assert_eq!(gateway.post("/locks/c").status, 423);
    gateway.terminate();
    for waiting in [first, second, third] {
        let answer = waiting.join().unwrap();
        assert_eq!((answer.problem(), answer.header("retry-after")), ((503, "draining".into()), Some("1")));
    }
}
