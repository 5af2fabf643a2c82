//! Locks that live as long as a connection.

use serde_json::Value;

use super::{PATIENT, granted, machine_to_itself, redis_servers};
use crate::support::{EventStream, Gateway, eventually};

/// Holds a lock, once it is granted.
fn hold(gateway: &Gateway, target: &str) -> (EventStream, Value) {
    let mut holder = EventStream::connect(gateway.address(), "POST", target);
    let (name, acquired) = holder.next().unwrap();
    assert_eq!(name, "acquired");
    (holder, acquired)
}

#[test]
fn a_lock_is_renewed_while_its_connection_lives_and_free_at_once_when_it_ends() {
    let servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, PATIENT);
    let (mut holder, acquired) = hold(&gateway, "/locks/a?ttl=2s&owner=me");
    assert_eq!((&acquired["key"], &acquired["owner"]), (&"a".into(), &"me".into()));
    // Each a quarter of the ttl after the one before, so at the end more than the ttl has passed.
    for _ in 0..5 {
        let (extended, others) = holder.until("extended");
        assert_eq!((&extended["fencing_token"], others.len()), (&acquired["fencing_token"], 0));
    }
    assert_eq!(gateway.get("/locks/a").ok().json()["holder"]["fencing_token"], acquired["fencing_token"]);
    assert_eq!(gateway.metric("redlockd_holders"), 1.0);
    drop(holder);
    eventually("it is free", || (gateway.get("/locks/a").ok().json()["state"] == "free").then_some(()));
    // By a release: the ttl is longer than the test may take.
    let (holder, _) = hold(&gateway, "/locks/b?ttl=5m");
    let mut waiting = EventStream::connect(gateway.address(), "POST", "/locks/b?ttl=5m&wait=1m");
    eventually("the next one waits", || (gateway.metric("redlockd_waiters") == 1.0).then_some(()));
    drop(holder);
    assert_eq!(waiting.next().unwrap().0, "acquired");
    assert_eq!(gateway.metric("redlockd_holders"), 1.0);
}

#[test]
fn a_holder_is_told_that_it_has_lost_the_lock_before_somebody_else_can_have_it() {
    let _machine = machine_to_itself();
    let mut servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, &["--default-ttl=5m"]);
    let (mut forced, _) = hold(&gateway, "/locks/a?ttl=2s");
    gateway.ask("DELETE", "/locks/a?force=true&reason=a+test", &[]).ok();
    assert_eq!(forced.until("lost").0["reason"], "not_holder");
    assert!(forced.next().is_none());
    let (mut short, _) = hold(&gateway, "/locks/b?ttl=1s&max_lifetime=300ms");
    assert_eq!(short.until("lost").0["reason"], "max_lifetime");
    granted(&gateway, "/locks/b");
    let (mut cut_off, _) = hold(&gateway, "/locks/c?ttl=2s");
    servers[..2].iter_mut().for_each(|server| server.kill());
    assert_eq!(cut_off.until("lost").0["reason"], "not_renewed");
    assert!(cut_off.next().is_none());
}

#[test]
fn a_connection_holds_a_shared_lock_a_slot_and_several_locks_as_well() {
    let servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, PATIENT);
    let mut set = EventStream::connect_with(gateway.address(), "POST", "/locks?ttl=2s", r#"{"keys":["a","b"]}"#);
    let (name, acquired) = set.next().unwrap();
    assert_eq!((name.as_str(), &acquired["keys"]), ("acquired", &serde_json::json!(["a", "b"])));
    let (mut reader, _) = hold(&gateway, "/locks/c?mode=shared&ttl=2s");
    let (mut slot, acquired) = hold(&gateway, "/semaphores/s?limit=1&ttl=2s");
    assert_eq!(acquired["slot"], 1);
    // More than the ttl passes.
    for holder in [&mut set, &mut reader, &mut slot] {
        (0..5).for_each(|_| drop(holder.until("extended")));
    }
    gateway.post("/locks/c?mode=shared").ok();
    assert_eq!([gateway.post("/locks/b").status, gateway.post("/locks/c").status, gateway.post("/semaphores/s?limit=1").status], [423; 3]);
    drop(set);
    // By a release: the ttl is longer than the test may take.
    let mut long = EventStream::connect_with(gateway.address(), "POST", "/locks?ttl=5m&wait=1m", r#"{"keys":["a","b"]}"#);
    assert_eq!(long.next().unwrap().0, "acquired");
    let mut next = EventStream::connect(gateway.address(), "POST", "/locks/b?ttl=5m&wait=1m");
    eventually("the next one waits", || (gateway.metric("redlockd_waiters") == 1.0).then_some(()));
    drop(long);
    assert_eq!(next.next().unwrap().0, "acquired");
    drop(slot);
    eventually("the slot is free", || (gateway.get("/semaphores/s").ok().json()["held"] == 0).then_some(()));
}

#[test]
fn another_gateway_goes_on_when_one_is_shut_down() {
    let servers = redis_servers::<3>();
    let gateways = [(); 2].map(|()| Gateway::on(&servers, PATIENT));
    let (mut holder, acquired) = hold(&gateways[0], "/locks/a?ttl=1m");
    gateways[0].terminate();
    let (draining, _) = holder.until("draining");
    assert!(30_000 < draining["valid_for_ms"].as_u64().unwrap(), "{draining}");
    assert!(holder.next().is_none());
    let target = format!("/locks/a?ttl=1m&lease_id={}", acquired["lease_id"].as_str().unwrap());
    let (_holder, again) = hold(&gateways[1], &target);
    assert_eq!(again["fencing_token"], acquired["fencing_token"]);
}

#[test]
fn what_can_not_be_held_is_refused_as_any_acquire() {
    let gateway = Gateway::start(PATIENT);
    let events = [("Accept", "text/event-stream")];
    gateway.post("/locks/a").ok();
    assert_eq!(gateway.ask("POST", "/locks/a", &events).problem(), (423, "locked".into()));
    for (target, headers, named) in [
        ("/locks/b?ttl=500ms", &events[..], "ttl"),
        ("/locks/b?max_lifetime=0s", &events, "max_lifetime"),
        ("/locks/b?max_lifetime=1", &events, "max_lifetime"),
    ] {
        let refused = gateway.ask("POST", target, headers);
        assert!(refused.status == 400 && refused.text("detail").starts_with(&format!("{named}:")), "{target}: {refused:?}");
    }
    assert_eq!(gateway.get("/locks/b").ok().json()["state"], "free");
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // of abc
    let roster = format!("[[token]]\nname = \"olga\"\nsha256 = \"{digest}\"\nallow = [\"acquire,release:\"]\n");
    let gateway = Gateway::start(&[&["--tokens", &roster], PATIENT].concat());
    let token = ("Authorization", "Bearer abc");
    assert_eq!(gateway.ask("POST", "/locks/a", &[token, events[0]]).problem(), (403, "forbidden".into()));
    gateway.ask("POST", "/locks/a", &[token]).ok();
}
