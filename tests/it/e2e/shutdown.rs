//! What a gateway does between the signal and its exit.

use super::{machine_to_itself, record_on};
use crate::support::{Gateway, Proxy, RedisServer, eventually};

#[test]
fn while_it_drains_holders_are_served_and_nobody_new() {
    let _machine = machine_to_itself();
    let mut gateway = Gateway::start(&["--drain-delay=3s", "--node-timeout=5s"]);
    let held = gateway.post("/locks/held").ok();
    let lease = held.text("lease_id");
    gateway.get("/readyz").ok();

    gateway.terminate();
    let not_ready = eventually("it says that it is not ready", || Some(gateway.get("/readyz")).filter(|answer| answer.status != 200));
    assert_eq!(not_ready.problem(), (503, "draining".into()));
    let refused = gateway.post("/locks/another");
    assert_eq!((refused.problem(), refused.header("retry-after")), ((503, "draining".into()), Some("1")));
    assert_eq!(gateway.put("/locks/held?ttl=1m", &lease).ok().number("fencing_token"), held.number("fencing_token"));
    assert_eq!(gateway.delete("/locks/held", &lease).ok().json()["released"], true);
    gateway.get("/livez").ok();
    assert_eq!(gateway.wait_exit().code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_request_under_way_is_answered_before_it_stops() {
    let _machine = machine_to_itself();
    let server = RedisServer::start();
    let proxy = Proxy::before(&server);
    let mut gateway = Gateway::on_urls([&*proxy.url()], &["--node-timeout=10s", "--drain-delay=0s"]);
    proxy.hold_reply_to("redlockd:lock:slow");
    let mut client = gateway.client();
    let asking = std::thread::spawn(move || client.ask("POST", "/locks/slow?ttl=5m", &[]));
    eventually("the node holds the lock", || record_on(&server, "slow"));
    gateway.terminate();
    eventually("it listens no more", || gateway.client().send("GET", "/livez", &[]).is_err().then_some(()));
    proxy.let_go();
    asking.join().unwrap().unwrap().ok();
    assert_eq!(gateway.wait_exit().code(), Some(0), "{}", gateway.log());
    assert!(record_on(&server, "slow").is_some());
}

#[test]
fn somebody_at_a_terminal_does_not_wait_for_balancers() {
    let mut gateway = Gateway::start(&["--drain-delay=1h"]);
    gateway.interrupt();
    assert_eq!(gateway.wait_exit().code(), Some(0), "{}", gateway.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut gateway = Gateway::start(&["--drain-delay=1h"]);
    gateway.terminate();
    eventually("it drains", || (gateway.get("/readyz").status == 503).then_some(()));
    gateway.interrupt();
    assert_eq!(gateway.wait_exit().code(), Some(1));
}
