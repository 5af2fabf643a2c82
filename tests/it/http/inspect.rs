//! `GET /locks/{key}`.

use axum::http::Method;
use serde_json::json;

use crate::support::TestRouter;

#[tokio::test]
async fn a_free_lock_is_free() {
    let gateway = TestRouter::embedded().await;
    let seen = gateway.get("/locks/orders/42").ok().await;
    assert_eq!(seen.json, json!({ "key": "orders/42", "state": "free" }));
    assert_eq!(seen.header("Cache-Control"), Some("no-store"));
}

#[tokio::test]
async fn a_held_lock_shows_its_holder_without_the_lease_id() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a?owner=worker-7").ok().await;
    let seen = gateway.get("/locks/a").ok().await;
    let holder = json!({ "owner": "worker-7", "fencing_token": grant["fencing_token"], "expires_in_ms": seen["holder"]["expires_in_ms"] });
    assert_eq!(seen.json, json!({ "key": "a", "state": "held", "holder": holder }));
    assert!((1..=30_000).contains(&holder["expires_in_ms"].as_u64().unwrap()));
}

#[tokio::test]
async fn looking_takes_nothing() {
    let gateway = TestRouter::embedded().await;
    gateway.get("/locks/a").ok().await;
    assert_eq!(gateway.get("/locks").ok().await["locks"], json!([]));
    gateway.post("/locks/a").ok().await;
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body() {
    let gateway = TestRouter::embedded().await;
    assert_eq!(gateway.ask(Method::HEAD, "/locks/a").ok().await.text, "");
}
