//! `PUT /locks/{key}`.

use serde_json::json;

use crate::support::{TestRouter, eventually_async};

#[tokio::test]
async fn an_extension_answers_the_lease_with_its_new_deadline() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a?ttl=30s").ok().await;
    let extended = gateway.put("/locks/a?ttl=1m").lease(grant.str("lease_id")).ok().await;
    let members = ["expires_at", "fencing_token", "key", "lease_id", "renew_after_ms", "ttl_ms", "valid_for_ms", "votes", "waited_ms"];
    assert_eq!(extended.members(), members);
    for same in ["key", "lease_id", "fencing_token", "votes", "waited_ms"] {
        assert_eq!(extended[same], grant[same], "{same}");
    }
    assert_eq!((extended.u64("ttl_ms"), extended.u64("renew_after_ms")), (60_000, 20_000));
    assert!((59_000..=59_398).contains(&extended.u64("valid_for_ms")), "{}", extended.text);
    assert!(grant.str("expires_at") < extended.str("expires_at"));
    assert_eq!(extended.header("Cache-Control"), Some("no-store"));
}

#[tokio::test]
async fn the_lease_may_be_named_in_header_query_or_body() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    let lease = grant.str("lease_id");
    gateway.put("/locks/a").lease(lease).ok().await;
    gateway.put(&format!("/locks/a?lease_id={lease}")).ok().await;
    gateway.put("/locks/a").json(&json!({ "lease_id": lease, "ttl": "1m" }).to_string()).ok().await;
}

#[tokio::test]
async fn without_a_ttl_the_default_counts_from_now() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a?ttl=20s").ok().await;
    let extended = gateway.put("/locks/a").lease(grant.str("lease_id")).ok().await;
    assert_eq!(extended.u64("ttl_ms"), 30_000);
    assert!(20_000 < extended.u64("valid_for_ms"));
}

#[tokio::test]
async fn a_lease_is_never_shortened() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a?ttl=5m").ok().await;
    let extended = gateway.put("/locks/a?ttl=30s").lease(grant.str("lease_id")).ok().await;
    assert!(200_000 < extended.u64("valid_for_ms"), "{}", extended.text);
    assert!(200_000 < gateway.get("/locks/a").ok().await["holder"]["expires_in_ms"].as_u64().unwrap());
}

#[tokio::test]
async fn a_wrong_lease_is_no_holder_and_the_lock_stays() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a?ttl=30s").ok().await;
    gateway.put("/locks/a?ttl=5m").lease("somebody-elses-lease").problem(409, "not_holder").await;
    let seen = gateway.get("/locks/a").ok().await;
    assert_eq!(seen["holder"]["fencing_token"], grant["fencing_token"]);
    assert!(seen["holder"]["expires_in_ms"].as_u64().unwrap() <= 30_000);
}

#[tokio::test]
async fn a_lease_that_was_released_is_gone_and_not_made_anew() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    gateway.delete("/locks/a").lease(grant.str("lease_id")).ok().await;
    gateway.put("/locks/a").lease(grant.str("lease_id")).problem(410, "lease_expired").await;
    assert_eq!(gateway.get("/locks/a").ok().await["state"], "free");
}

#[tokio::test]
async fn a_lease_that_has_run_out_is_gone_and_not_made_anew() {
    let gateway = TestRouter::embedded().await;
    // So short a lease is given up after 20 ms, which a busy machine may need.
    let granted = async || Some(gateway.post("/locks/a?ttl=100ms").send().await).filter(|answer| answer.status == 200);
    let grant = eventually_async("a grant", granted).await;
    eventually_async("the lease ends", async || (gateway.get("/locks/a").ok().await["state"] == "free").then_some(())).await;
    gateway.put("/locks/a").lease(grant.str("lease_id")).problem(410, "lease_expired").await;
    assert_eq!(gateway.get("/locks/a").ok().await["state"], "free");
}

#[tokio::test]
async fn a_lock_that_was_never_held_can_not_be_extended() {
    let gateway = TestRouter::embedded().await;
    gateway.put("/locks/a").lease("a-lease-of-nothing").problem(410, "lease_expired").await;
    assert_eq!(gateway.get("/locks").ok().await["locks"], json!([]));
}
