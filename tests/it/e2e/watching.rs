//! Locks that are watched.

use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENT, granted, machine_to_itself, redis_servers};
use crate::support::{EventStream, Gateway, eventually};

const LOCK: &str = "/locks/a";

#[test]
fn what_happens_through_any_gateway_is_told_as_it_happens() {
    let servers = redis_servers::<3>();
    let gateways = [(); 2].map(|()| Gateway::on(&servers, PATIENT));
    let mut watch = EventStream::connect(gateways[0].address(), "GET", LOCK);
    let (name, now) = watch.next().unwrap();
    assert_eq!((name.as_str(), &now["state"], &now["key"]), ("state", &"free".into(), &"a".into()));
    eventually("the other gateway hears that it is watched", || (0.0 < gateways[1].metric("redlockd_words_heard_total")).then_some(()));
    for gateway in &gateways {
        let granted = gateway.post("/locks/a?ttl=1m&owner=me").ok();
        let (name, now) = watch.next().unwrap();
        assert_eq!(
            (name.as_str(), &now["holder"]["fencing_token"], &now["holder"]["owner"]),
            ("acquired", &granted.json()["fencing_token"], &"me".into())
        );
        gateway.put("/locks/a?ttl=2m", &granted.text("lease_id")).ok();
        assert_eq!(watch.next().unwrap().0, "extended");
        gateway.delete(LOCK, &granted.text("lease_id")).ok();
        let (name, now) = watch.next().unwrap();
        assert_eq!((name.as_str(), &now["state"]), ("released", &"free".into()));
    }
    gateways[1].post("/locks/a?ttl=300ms").ok();
    assert_eq!(watch.next().unwrap().0, "acquired");
    assert_eq!(watch.next().unwrap().0, "expired");
    // Whoever comes back is told the present state first.
    let held = gateways[1].post("/locks/a?ttl=1m").ok();
    assert_eq!(watch.next().unwrap().0, "acquired");
    let (name, now) = EventStream::connect(gateways[1].address(), "GET", LOCK).next().unwrap();
    assert_eq!((name.as_str(), &now["holder"]["fencing_token"]), ("state", &held.json()["fencing_token"]));
    gateways[0].terminate();
    assert_eq!(watch.until("draining").1, [""; 0]);
    assert!(watch.next().is_none());
}

#[test]
fn while_nobody_knows_that_is_told_once_and_then_what_is() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, &[]);
    granted(&gateway, "/locks/a?ttl=1m");
    let mut watch = EventStream::connect(gateway.address(), "GET", LOCK);
    assert_eq!(watch.next().unwrap().0, "state");
    servers[..2].iter().for_each(|server| server.pause());
    watch.until("unknown");
    servers[..2].iter().for_each(|server| server.resume());
    let (now, others) = watch.until("state");
    assert_eq!((&now["state"], others.len()), (&"held".into(), 0));
}

#[test]
fn a_get_that_waits_is_answered_when_the_lock_is_free_or_its_time_is_over() {
    let servers = redis_servers::<3>();
    let gateways = [(); 2].map(|()| Gateway::on(&servers, PATIENT));
    assert_eq!(gateways[0].get("/locks/a?wait=1m").ok().json()["state"], "free");
    let held = gateways[1].post("/locks/a?ttl=5m").ok();
    assert_eq!(gateways[0].get("/locks/a?wait=50ms").ok().json()["state"], "held");
    let heard = gateways[1].metric("redlockd_words_heard_total");
    let mut client = gateways[0].client();
    let waiting = thread::spawn(move || client.ask("GET", LOCK, &[("Prefer", "wait=60")]).unwrap());
    eventually("the other gateway hears of it", || (heard < gateways[1].metric("redlockd_words_heard_total")).then_some(()));
    let released = Instant::now();
    gateways[1].delete(LOCK, &held.text("lease_id")).ok();
    let answer = waiting.join().unwrap().ok();
    assert_eq!((&answer.json()["state"], answer.header("preference-applied")), (&"free".into(), Some("wait=60")));
    assert!(released.elapsed() < Duration::from_secs(60));
    let both = gateways[0].ask("GET", "/locks/a?wait=1s", &[("Accept", "text/event-stream")]);
    assert_eq!(both.problem(), (400, "invalid_request".into()));
}
