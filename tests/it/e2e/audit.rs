//! The audit log, and what the gateway counts of its own leases.

use serde_json::{Value, json};

use super::PATIENT;
use crate::support::{Gateway, RedisServer, eventually, machine_to_itself};

/// The digests are of the tokens abc and eve.
const ROSTER: &str = r#"
[[token]]
name = "olga"
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
allow = ["*:", "force:"]

[[token]]
name = "eve"
sha256 = "85262adf74518bbb70c7cb94cd6159d91669e5a81edf1efebd543eadbda9fa2b"
allow = ["*:b"]
"#;

/// The lines of the audit log, without their times, the address and the names of the requests.
fn events(gateway: &Gateway) -> Vec<Value> {
    let log = gateway.log();
    let lines = log.lines().filter(|line| line.starts_with("{\"time\":"));
    lines
        .map(|line| {
            let mut event: Value = serde_json::from_str(line).unwrap();
            let fields = event.as_object_mut().unwrap();
            assert!(fields.remove("time").unwrap().as_str().unwrap().ends_with('Z'));
            assert_eq!(fields.remove("from").unwrap(), "127.0.0.1");
            assert!(!fields.remove("request_id").unwrap().as_str().unwrap().is_empty());
            event
        })
        .collect()
}

#[test]
fn everything_that_is_wanted_of_a_lock_is_a_line_of_the_audit_log() {
    let mut gateway = Gateway::start(&[&["--audit", "--tokens", ROSTER], PATIENT].concat());
    let ask = |method: &str, target: &str, lease: &str| gateway.ask(method, target, &[("Authorization", "Bearer abc"), ("Lease-Id", lease)]);
    let (mine, others) = ("mine-0123456789abcdef", "others-0123456789abcd");
    let token = ask("POST", "/locks/a?owner=job", mine).ok().number("fencing_token");
    ask("POST", "/locks/a", others);
    ask("PUT", "/locks/a", mine).ok();
    ask("DELETE", "/locks/a", others);
    ask("DELETE", "/locks/a", mine).ok();
    ask("DELETE", "/locks/a", mine).ok();
    let next = ask("POST", "/locks/a", mine).ok().number("fencing_token");
    let by_force = |token: &str| gateway.ask("DELETE", "/locks/a?force=true&reason=it+hangs", &[("Authorization", &format!("Bearer {token}"))]);
    assert_eq!([by_force("eve").status, by_force("nobody").status], [403, 401]);
    assert_eq!(gateway.ask("GET", "/locks/a", &[("Authorization", "Bearer eve")]).status, 403);
    by_force("abc").ok();
    gateway.ask("GET", "/locks/a", &[("Authorization", "Bearer abc")]).ok();
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    let of = |event: &str, outcome: &str| json!({"event": event, "outcome": outcome, "key": "a", "who": "olga", "known_by": "roster"});
    let with = |mut event: Value, more: Value| {
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let expected = [
        with(of("acquire", "granted"), json!({"owner": "job", "fencing_token": token})),
        with(of("acquire", "locked"), json!({"owner": "olga"})),
        with(of("extend", "extended"), json!({"fencing_token": token})),
        of("release", "not_holder"),
        of("release", "released"),
        of("release", "not_held"),
        with(of("acquire", "granted"), json!({"owner": "olga", "fencing_token": next})),
        json!({"event": "force", "outcome": "forbidden", "key": "a", "who": "eve", "known_by": "roster"}),
        with(of("force", "released"), json!({"owner": "olga", "fencing_token": next, "reason": "it hangs"})),
    ];
    assert_eq!(events(&gateway), expected);
    // Three digits of a request's id may happen to be the token's.
    assert!([mine, "\"abc\"", "Bearer abc"].iter().all(|secret| !gateway.log().contains(secret)));
}

#[test]
fn what_a_client_wanted_that_hung_up_is_a_line_as_well() {
    let _machine = machine_to_itself();
    let server = RedisServer::start();
    let mut gateway = Gateway::on(std::slice::from_ref(&server), &[&["--audit"], PATIENT].concat());
    let lease = "mine-0123456789abcdef";
    gateway.ask("POST", "/locks/a", &[("Lease-Id", lease)]).ok();
    server.pause();
    for (method, target) in [("POST", "/locks/b"), ("PUT", "/locks/a"), ("DELETE", "/locks/a")] {
        let in_flight = |count: f64| (gateway.metric("redlockd_http_requests_in_flight") == count).then_some(());
        let mut client = gateway.client();
        client.send(method, target, &[("Lease-Id", lease)]).unwrap();
        eventually("it is worked on", || in_flight(1.0));
        drop(client);
        eventually("it is given up", || in_flight(0.0));
    }
    server.resume();
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    let told: Vec<_> = events(&gateway).iter().map(|event| format!("{} {} {}", event["event"], event["outcome"], event["key"])).collect();
    let expected = ["acquire granted a", "acquire abandoned b", "extend abandoned a", "release abandoned a"];
    assert_eq!(told.iter().map(|line| line.replace('"', "")).collect::<Vec<_>>(), expected);
}

#[test]
fn a_line_names_the_request_as_its_client_did() {
    let mut gateway = Gateway::start(&[&["--audit"], PATIENT].concat());
    gateway.ask("POST", "/locks/a", &[("X-Request-Id", "ours-7")]).ok();
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    assert_eq!(gateway.log().matches("\"request_id\":\"ours-7\"").count(), 1, "{}", gateway.log());
}

#[test]
fn nothing_is_written_that_was_not_asked_for() {
    let mut gateway = Gateway::start(PATIENT);
    gateway.post("/locks/a").ok();
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    assert_eq!(events(&gateway), [] as [Value; 0]);
}

#[test]
fn leases_are_counted_from_the_grant_to_the_release() {
    let gateway = Gateway::start(PATIENT);
    let granted = gateway.post("/locks/a").ok();
    gateway.post("/locks/b").ok();
    assert_eq!(gateway.metric("redlockd_leases_held"), 2.0);
    gateway.delete("/locks/a", &granted.text("lease_id")).ok();
    assert_eq!((gateway.metric("redlockd_leases_held"), gateway.metric("redlockd_lease_hold_duration_seconds_count")), (1.0, 1.0));
    gateway.ask("DELETE", "/locks/b?force=true&reason=it+hangs", &[]).ok();
    assert_eq!((gateway.metric("redlockd_leases_held"), gateway.metric("redlockd_lease_hold_duration_seconds_count")), (0.0, 2.0));
    assert_eq!(gateway.metric("redlockd_leases_run_out_total"), 0.0);
}

#[test]
fn whoever_lost_a_slot_by_force_has_a_line_and_so_does_a_set_that_nobody_knows() {
    let mut gateway = Gateway::start(&[&["--audit", "--tokens", ROSTER], PATIENT].concat());
    let ask = |method: &str, target: &str, more: &[(&str, &str)]| gateway.ask(method, target, &[&[("Authorization", "Bearer abc")], more].concat());
    let tokens = ["one", "two"].map(|owner| ask("POST", &format!("/semaphores/s?limit=2&owner={owner}"), &[]).ok().number("fencing_token"));
    ask("DELETE", "/semaphores/s?force=true&reason=it+hangs", &[]).ok();
    let lease = ("Lease-Id", "mine-0123456789abcdef");
    ask("DELETE", "/locks", &[lease]).ok();
    assert_eq!(ask("PUT", "/locks", &[lease]).status, 410);
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    let told = events(&gateway).split_off(2);
    let mut forced: Vec<_> = told[..2].iter().map(|event| (event["owner"].clone(), event["fencing_token"].clone(), event["kind"].clone())).collect();
    forced.sort_by_key(|(owner, ..)| owner.to_string());
    assert_eq!(forced, [("one", &tokens[0]), ("two", &tokens[1])].map(|(owner, token)| (json!(owner), json!(token), json!("semaphore"))));
    let of_set: Vec<_> =
        told[2..].iter().map(|event| (event["event"].clone(), event["outcome"].clone(), event["kind"].clone(), event.get("key"))).collect();
    let line = |event: &str, outcome: &str| (json!(event), json!(outcome), json!("set"), None);
    assert_eq!(of_set, [line("release", "not_held"), line("extend", "lease_expired")]);
    assert_eq!(gateway.log().matches("a semaphore was released by force").count(), 2);
}
