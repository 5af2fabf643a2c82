//! What is too much is refused with a sentence and counted: connections, requests, a caller's pace, heads, bodies.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use crate::support::{Gateway, HttpClient, eventually};

const METRICS: &str = "--metrics-listen=127.0.0.1:0";

/// How often a bound was reached.
fn hits(gateway: &Gateway, limit: &str) -> u64 {
    let metrics = gateway.operations().ask("GET", "/metrics", &[]).unwrap().ok().body;
    let series = format!("redlockd_limits_hit_total{{limit=\"{limit}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)).map_or(0, |count| count.parse().unwrap())
}

/// A connection on which a request has been answered.
fn kept(gateway: &Gateway) -> HttpClient {
    let mut client = gateway.client();
    client.ask("GET", "/livez", &[]).unwrap().ok();
    client
}

#[test]
fn more_connections_than_there_is_room_for_are_told_so() {
    let gateway = Gateway::start(&["--max-connections=2", METRICS]);
    let (mut first, _second) = (kept(&gateway), kept(&gateway));
    for probe in ["/livez", "/readyz", "/metrics"] {
        let answer = gateway.get(probe).ok();
        assert_eq!(answer.header("connection"), Some("close"), "{probe}");
    }
    let mut third = gateway.client();
    let refused = third.ask("GET", "/locks/a", &[]).unwrap();
    assert_eq!(refused.problem(), (503, "too_many_connections".into()));
    assert_eq!((refused.header("connection"), refused.header("retry-after")), (Some("close"), Some("1")));
    assert!(third.ask("GET", "/livez", &[]).is_err(), "it was not closed");
    assert!(1 <= hits(&gateway, "connections"));
    first.ask("GET", "/livez", &[]).unwrap().ok();
    drop(first);
    eventually("there is room again", || gateway.client().ask("GET", "/locks/a", &[]).ok().filter(|answer| answer.status == 200));
}

#[test]
fn more_requests_at_once_than_are_worked_on_are_refused_but_for_probes() {
    let gateway = Gateway::start(&["--max-requests=1", METRICS]);
    let mut slow = gateway.client();
    slow.send("POST", "/locks/a", &[("Content-Type", "application/json"), ("Content-Length", "2")]).unwrap();
    // Until then another request could come first, and this one be the one that is refused.
    eventually("it is being worked on", || {
        let metrics = gateway.operations().ask("GET", "/metrics", &[]).unwrap().ok().body;
        metrics.contains("redlockd_http_requests_in_flight 1\n").then_some(())
    });
    let refused = gateway.get("/locks/a");
    assert_eq!((refused.problem().1.as_str(), refused.header("retry-after")), ("overloaded", Some("1")));
    assert_eq!([gateway.get("/livez").status, gateway.get("/readyz").status], [200, 200]);
    assert!(1 <= hits(&gateway, "requests"));
    slow.hang_up();
    eventually("it is given up", || (gateway.get("/locks/a").status == 200).then_some(()));
}

#[test]
fn a_caller_that_asks_too_often_is_told_to_wait() {
    let gateway = Gateway::start(&["--rate-limit=1", METRICS]);
    let mut client = gateway.client();
    let refused = eventually("it is too fast", || Some(client.ask("GET", "/locks/a", &[]).unwrap()).filter(|answer| answer.status == 429));
    assert_eq!((refused.problem().1.as_str(), refused.header("retry-after")), ("rate_limited", Some("1")));
    assert!(1 <= hits(&gateway, "rate"));
    // Probes are nobody's.
    assert!((0..10).all(|_| gateway.get("/readyz").status == 200));
    eventually("it may ask again", || (client.ask("GET", "/locks/a", &[]).unwrap().status == 200).then_some(()));
}

#[test]
fn a_head_and_a_body_that_are_too_long_are_counted() {
    let gateway = Gateway::start(&[METRICS]);
    let long = "x".repeat(100_000);
    let mut client = gateway.client();
    assert!(client.ask("GET", "/livez", &[("X-Long", &long)]).map_or(true, |answer| answer.status == 431));
    eventually("it is counted", || (hits(&gateway, "head") == 1).then_some(()));
    let length = (65 * 1024).to_string();
    let body = gateway.ask("POST", "/locks/a", &[("Content-Type", "application/json"), ("Content-Length", &length)]);
    assert_eq!((body.problem().1.as_str(), hits(&gateway, "body")), ("body_too_large", 1));
}

#[test]
fn a_connection_on_which_nobody_asks_anything_is_closed() {
    let gateway = Gateway::start(&[METRICS]);
    let mut idle = TcpStream::connect(gateway.address()).unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: ").unwrap();
    idle.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    // It may be told why first.
    let mut said = Vec::new();
    idle.read_to_end(&mut said).unwrap();
    eventually("it is counted", || (hits(&gateway, "first_head_time") == 1).then_some(()));
}

/// The log of a gateway that starts under these limits of open files, and ends because its port is taken.
fn log_under(limits: &str, argument: &str) -> String {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--listen={}", taken.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limits} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_redlockd"), &listen, argument]);
    let output = command.env_clear().current_dir(directory.path()).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_limit_of_open_files_is_raised_and_one_that_is_too_low_is_named() {
    let raised = log_under("-Sn 64", "--max-connections=99");
    assert!(raised.contains("cannot listen on") && !raised.contains("ulimit"), "{raised}");
    let low = log_under("-n 500", "--max-connections=100");
    assert!(low.contains("raise its limit (ulimit -n)") && low.contains("allowed=500") && low.contains("max_connections=100"), "{low}");
}
