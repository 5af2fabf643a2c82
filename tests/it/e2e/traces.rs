//! What collectors of traces and readers of the log are told of a request.

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::Value;

use super::{PATIENT, records_on, redis_servers};
use crate::support::{Collector, Gateway, RedisServer, attribute, eventually, redlockd};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT_SPAN: &str = "00f067aa0ba902b7";
/// SPAN_KIND_SERVER and SPAN_KIND_CLIENT of OTLP.
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced_gateway(collector: &Collector, servers: &[RedisServer], more: &[&str]) -> Gateway {
    let urls: Vec<String> = servers.iter().map(RedisServer::url).collect();
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint())];
    Gateway::on_urls_in(&environment, urls.iter().map(String::as_str), &[PATIENT, more].concat())
}

#[test]
fn a_request_is_a_span_in_the_trace_of_its_client_and_so_are_its_calls_to_nodes() {
    let (collector, servers) = (Collector::start(), redis_servers::<3>());
    let mut gateway = traced_gateway(&collector, &servers, &[]);
    let parent = format!("00-{TRACE}-{CLIENT_SPAN}-01");
    let granted = gateway.ask("POST", "/locks/hidden-name", &[("traceparent", &parent), ("Lease-Id", "hidden-lease-0123456789")]).ok();
    let told = granted.header("traceparent").unwrap().to_owned();
    // Before the lock is taken again, after which a copy would be refused.
    eventually("every node has it", || (records_on(&servers, "hidden-name") == 3).then_some(()));
    let forced = gateway.ask("DELETE", "/locks/hidden-name?force=true&reason=it+hangs", &[]).ok();
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    let spans: Vec<_> = collector.spans().into_iter().filter(|span| hex(&span.trace_id) == TRACE).collect();
    let (requests, calls): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.kind == SERVER);
    let [request] = requests[..] else { panic!("{requests:?}") };
    assert_eq!((request.name.as_str(), hex(&request.parent_span_id).as_str()), ("POST /locks/{key}", CLIENT_SPAN));
    assert_eq!(told, format!("00-{TRACE}-{}-01", hex(&request.span_id)));
    let of_request = |name: &str| attribute(request, name).unwrap();
    assert_eq!((of_request("http.request.method"), of_request("http.route")), ("POST".into(), "/locks/{key}".into()));
    assert_eq!(of_request("http.response.status_code"), "200");
    assert_eq!(calls.len(), 3, "{calls:?}");
    for call in calls {
        assert_eq!((call.name.as_str(), call.kind, &call.parent_span_id), ("acquire", CLIENT, &request.span_id));
        assert!(["n1", "n2", "n3"].contains(&attribute(call, "redlockd.node").unwrap().as_str()));
        assert_eq!(attribute(call, "redlockd.vote").unwrap(), "accepted");
        assert!(request.start_time_unix_nano <= call.start_time_unix_nano && call.start_time_unix_nano <= call.end_time_unix_nano);
    }
    // It goes on in a task of its own.
    let of_force = forced.header("traceparent").unwrap().split('-').nth(2).unwrap();
    let names: BTreeSet<_> = collector.spans().into_iter().filter(|span| hex(&span.parent_span_id) == of_force).map(|span| span.name).collect();
    assert_eq!(names, ["inspect", "release"].map(str::to_owned).into());
    let bytes = collector.bytes();
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds("redlockd") && !holds("hidden-name") && !holds("hidden-lease"));
}

#[test]
fn a_request_without_a_trace_begins_one_and_a_failure_is_marked() {
    let (collector, servers) = (Collector::start(), redis_servers::<1>());
    let mut gateway = traced_gateway(&collector, &servers, &["--max-requests=1"]);
    let told = gateway.get("/locks/a").ok().header("traceparent").unwrap().to_owned();
    let mut slow = gateway.client();
    slow.send("POST", "/locks/a", &[("Content-Type", "application/json"), ("Content-Length", "2")]).unwrap();
    eventually("it is being worked on", || (gateway.metric("redlockd_http_requests_in_flight") == 1.0).then_some(()));
    let refused = gateway.get("/locks/a");
    assert_eq!(refused.status, 503);
    drop(slow);
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    let span_of = |told: &str| {
        let id = told.split('-').nth(2).unwrap().to_owned();
        collector.spans().into_iter().find(|span| hex(&span.span_id) == id).unwrap()
    };
    let (first, failed) = (span_of(&told), span_of(refused.header("traceparent").unwrap()));
    assert!(first.parent_span_id.is_empty() && first.trace_id != failed.trace_id);
    assert_eq!((first.status.unwrap_or_default().code, failed.status.unwrap().code), (0, 2));
}

/// The lines of a log in JSON that hold `text`.
fn lines(gateway: &Gateway, text: &str) -> Vec<Value> {
    gateway.log().lines().filter(|line| line.contains(text)).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_log_in_json_names_the_request_and_the_trace() {
    let gateway = Gateway::start(&[&["--log-format=json"], PATIENT].concat());
    gateway.post("/locks/a").ok();
    let parent = format!("00-{TRACE}-{CLIENT_SPAN}-00");
    let force = |headers: &[(&str, &str)]| gateway.ask("DELETE", "/locks/a?force=true&reason=it+hangs", headers).ok();
    let named = force(&[("traceparent", &parent), ("X-Request-Id", "ours-7")]);
    assert_eq!(named.header("x-request-id"), Some("ours-7"));
    let told = lines(&gateway, "by force");
    assert_eq!(told.len(), 2);
    for line in told {
        assert_eq!((&line["span"]["request_id"], &line["span"]["trace_id"]), (&"ours-7".into(), &TRACE.into()), "{line}");
    }
    let id = force(&[("X-Request-Id", "with a blank")]).header("x-request-id").unwrap().to_owned();
    assert!(id.len() == 32 && lines(&gateway, &id).len() == 2, "{id}");
}

#[test]
fn what_can_not_be_sent_stops_the_start_with_a_sentence_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value, said) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@collector", "OTEL_EXPORTER_OTLP_ENDPOINT: a user and password in a URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "secret:4317", "OTEL_EXPORTER_OTLP_ENDPOINT: the URL must start with http"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL: spans are sent as http/protobuf"),
    ] {
        let mut command = redlockd(directory.path());
        let output =
            command.args(["--listen=127.0.0.1:0"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1").env(name, value).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && log.contains(said) && !log.contains("secret"), "{log}");
    }
}

#[test]
fn a_collector_that_is_away_is_told_once_with_the_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{closed}");
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let mut gateway = Gateway::start_in(&environment, PATIENT);
    eventually("it is told", || {
        gateway.post("/locks/a");
        gateway.log().contains("does not take them").then_some(())
    });
    gateway.post("/locks/a");
    gateway.interrupt();
    assert!(gateway.wait_exit().success());
    let log = gateway.log();
    assert_eq!(log.matches("does not take them").count(), 1, "{log}");
    assert!(log.contains("Connection refused") && !log.contains("secret") && !log.contains("ExportError"), "{log}");
}
