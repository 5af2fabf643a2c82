//! Gateways share nothing but the nodes.

use std::time::Duration;

use super::{PATIENT, machine_to_itself, redis_servers, token_of_holder};
use crate::load::Load;
use crate::support::Gateway;

#[test]
fn leases_of_a_lock_never_overlap_and_its_tokens_only_grow() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<5>();
    let (one, other) = (Gateway::on(&servers, &[]), Gateway::on(&servers, &[]));
    let load = Load { clients: 200, locks: 20, duration: Duration::from_secs(20), ttl_ms: 150..1001, seed: 1 };
    let history = load.run(&[one.address(), other.address()]);
    let violations = history.violations();
    println!("{} grants, {} overlaps", history.counts().grants, violations.len());
    assert_eq!(violations, []);
    assert!(1000 < history.counts().grants, "only {} grants", history.counts().grants);
}

#[test]
fn gateways_that_do_not_see_each_others_locks_are_caught_by_the_same_check() {
    let _machine = machine_to_itself();
    let (servers, elsewhere) = (redis_servers::<3>(), redis_servers::<3>());
    let (one, other) = (Gateway::on(&servers, &[]), Gateway::on(&elsewhere, &[]));
    let load = Load { clients: 20, locks: 4, duration: Duration::from_secs(3), ttl_ms: 150..1001, seed: 1 };
    let history = load.run(&[one.address(), other.address()]);
    println!("{} grants, {} violations", history.counts().grants, history.violations().len());
    assert!(!history.violations().is_empty());
}

#[test]
fn a_gateway_that_calls_locks_otherwise_is_refused_by_the_nodes() {
    let servers = redis_servers::<3>();
    let _one = Gateway::on(&servers, &[]);
    let nodes: Vec<String> = servers.iter().enumerate().map(|(index, server)| format!("--node=n{}={}", index + 1, server.url())).collect();
    let arguments: Vec<&str> = nodes.iter().map(String::as_str).chain(["--lock-prefix=elsewhere:"]).collect();
    let other = Gateway::start(&arguments);
    other.until_nodes_are("refused", 3);
    assert!(other.nodes()[0]["reason"].as_str().unwrap().contains("lock_prefix"));
    assert_eq!(other.post("/locks/a").problem(), (503, "no_quorum".into()));
}

#[test]
fn the_same_lease_id_gets_the_same_token_from_any_gateway() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let (one, other) = (Gateway::on(&servers, PATIENT), Gateway::on(&servers, PATIENT));
    let target = "/locks/repeated?lease_id=chosen-by-the-client";
    let first = one.post(target).ok();
    for gateway in [&one, &other] {
        let again = gateway.post(target).ok();
        assert_eq!(again.number("fencing_token"), first.number("fencing_token"));
        assert!(again.number("valid_for_ms") <= first.number("valid_for_ms"));
    }
}

#[test]
fn a_lease_is_extended_and_released_through_any_gateway_and_only_by_its_id() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let (one, other) = (Gateway::on(&servers, PATIENT), Gateway::on(&servers, PATIENT));
    let held = one.post("/locks/shared").ok();
    let (lease, token) = (held.text("lease_id"), held.number("fencing_token"));

    for gateway in [&one, &other] {
        assert_eq!(gateway.delete("/locks/shared", "somebody-elses-lease").problem(), (409, "not_holder".into()));
        assert_eq!(gateway.put("/locks/shared", "somebody-elses-lease").problem(), (409, "not_holder".into()));
        assert_eq!(gateway.post("/locks/shared").problem(), (423, "locked".into()));
        assert_eq!(token_of_holder(gateway, "shared"), Some(token));
    }
    assert_eq!(other.put("/locks/shared?ttl=1m", &lease).ok().number("fencing_token"), token);
    assert_eq!(other.delete("/locks/shared", &lease).ok().json()["released"], true);
    assert_eq!(one.put("/locks/shared", &lease).problem(), (410, "lease_expired".into()));
    assert!(token < one.post("/locks/shared").ok().number("fencing_token"));
}
