//! Probes, nodes, metrics, and the way out.

use serde_json::json;

use crate::support::{RedisServer, TestRouter};

/// Nothing listens there: port 1 is kept for a service that nobody runs.
const NOBODY: &str = "n1=redis://127.0.0.1:1";

#[tokio::test]
async fn a_gateway_that_can_grant_is_alive_and_ready() {
    let gateway = TestRouter::embedded().await;
    assert_eq!(gateway.get("/livez").ok().await.json, json!({ "alive": true }));
    let ready = json!({ "ready": true, "runs_on": "one embedded node", "voting": 1, "required": 1, "nodes": 1 });
    assert_eq!(gateway.get("/readyz").ok().await.json, ready);
}

#[tokio::test]
async fn without_a_quorum_a_gateway_is_alive_but_not_ready() {
    let gateway = TestRouter::on(&[NOBODY.to_owned()]).await;
    gateway.get("/livez").ok().await;
    let answer = gateway.get("/readyz").problem(503, "no_quorum").await;
    answer.assert_says("0 of 1 nodes vote and 1 are required", "/readyz");
    assert_eq!(answer.header("Retry-After"), Some("1"));
}

#[tokio::test]
async fn while_it_drains_it_takes_no_new_locks_and_lets_go_of_old_ones() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    gateway.drain();
    assert_eq!(gateway.post("/locks/b").problem(503, "draining").await.header("Retry-After"), Some("1"));
    assert_eq!(gateway.get("/readyz").problem(503, "draining").await.header("Retry-After"), Some("1"));
    for path in ["/livez", "/nodes", "/metrics", "/locks", "/locks/a"] {
        gateway.get(path).ok().await;
    }
    gateway.put("/locks/a").lease(grant.str("lease_id")).ok().await;
    assert_eq!(gateway.delete("/locks/a").lease(grant.str("lease_id")).ok().await["released"], true);
    assert_eq!(gateway.get("/locks/b").ok().await["state"], "free");
}

#[tokio::test]
async fn the_embedded_node_is_shown() {
    let gateway = TestRouter::embedded().await;
    let nodes = gateway.get("/nodes").ok().await;
    assert_eq!((nodes.str("runs_on"), nodes.u64("voting"), nodes.u64("required")), ("one embedded node", 1, 1));
    assert_eq!((&nodes["nodes"][0]["name"], &nodes["nodes"][0]["state"]), (&json!("embedded"), &json!("up")));
}

#[tokio::test]
async fn redis_nodes_are_shown_with_version_and_round_trip() {
    let servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    let nodes = gateway.get("/nodes").ok().await;
    assert_eq!((nodes.str("runs_on"), nodes.u64("voting"), nodes.u64("required")), ("redis nodes", 3, 2));
    for (node, server) in nodes["nodes"].as_array().unwrap().iter().zip(&servers) {
        assert_eq!(node["name"], format!("127.0.0.1:{}/0", server.port()));
        let version = node["version"].as_str().unwrap();
        assert!(version.starts_with("Redis ") || version.starts_with("Valkey "), "{node}");
        assert!(node["latency_us"].is_u64() && node["clock_offset_ms"].is_number() && node["role"] == "master", "{node}");
    }
}

#[tokio::test]
async fn a_node_that_is_down_says_why() {
    let gateway = TestRouter::on(&[NOBODY.to_owned()]).await;
    let nodes = gateway.get("/nodes").ok().await;
    assert_eq!((nodes.u64("voting"), &nodes["nodes"][0]["state"]), (0, &json!("down")));
    assert!(!nodes["nodes"][0]["reason"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn the_metrics_are_complete() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/a").ok().await;
    let metrics = gateway.get("/metrics").ok().await;
    assert_eq!(metrics.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for family in [
        "redlockd_acquire_rounds_total counter",
        "redlockd_acquire_second_rounds_total counter",
        "redlockd_build_info gauge",
        "redlockd_http_request_duration_seconds histogram",
        "redlockd_http_requests_in_flight gauge",
        "redlockd_http_requests_total counter",
        "redlockd_node_batch_commands histogram",
        "redlockd_node_batch_duration_seconds histogram",
        "redlockd_node_clock_offset_seconds gauge",
        "redlockd_node_faults_total counter",
        "redlockd_node_latency_seconds gauge",
        "redlockd_node_quarantined gauge",
        "redlockd_node_up gauge",
        "redlockd_node_votes_total counter",
        "redlockd_operations_total counter",
        "redlockd_undo_dropped_total counter",
        "redlockd_undo_waiting gauge",
        "process_resident_memory_bytes gauge",
    ] {
        assert!(metrics.text.contains(&format!("# TYPE {family}\n")), "{family} is missing in\n{}", metrics.text);
    }
}

#[tokio::test]
async fn requests_and_operations_are_counted_under_a_few_names() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/orders/42?owner=worker-7").ok().await;
    gateway.post("/locks/orders/42").problem(423, "locked").await;
    gateway.delete("/locks/orders/42").lease(grant.str("lease_id")).ok().await;
    gateway.get("/locks/").problem(400, "invalid_request").await;
    gateway.get("/nowhere/at/all").problem(404, "not_found").await;
    let metrics = gateway.get("/metrics").ok().await.text;
    for series in [
        r#"redlockd_http_requests_total{method="POST",route="/locks/{key}",status="200"} 1"#,
        r#"redlockd_http_requests_total{method="POST",route="/locks/{key}",status="423"} 1"#,
        r#"redlockd_http_requests_total{method="GET",route="/locks/{key}",status="400"} 1"#,
        r#"redlockd_http_requests_total{method="GET",route="other",status="404"} 1"#,
        r#"redlockd_operations_total{operation="acquire",outcome="granted"} 1"#,
        r#"redlockd_operations_total{operation="acquire",outcome="locked"} 1"#,
        r#"redlockd_operations_total{operation="release",outcome="released"} 1"#,
        r#"redlockd_node_votes_total{node="embedded",vote="accepted"} 1"#,
        r#"redlockd_http_requests_in_flight 0"#,
    ] {
        assert!(metrics.contains(&format!("{series}\n")), "{series} is missing in\n{metrics}");
    }
    for name in ["orders", "worker-7", "nowhere"] {
        assert!(!metrics.contains(name), "{name} is in\n{metrics}");
    }
}
