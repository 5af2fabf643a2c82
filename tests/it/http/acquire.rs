//! `POST /locks/{key}`.

use serde_json::json;

use crate::support::{RedisServer, RouterAnswer, TestRouter, eventually_async};

const MINE: &str = "a-lease-id-of-mine";

/// Body and headers say the same.
fn assert_lease(answer: &RouterAnswer, lease_id: &str, fencing_token: u64) {
    assert_eq!((answer.str("lease_id"), answer.u64("fencing_token")), (lease_id, fencing_token));
    assert_eq!(answer.header("Lease-Id"), Some(lease_id));
    assert_eq!(answer.header("Fencing-Token"), Some(fencing_token.to_string().as_str()));
}

#[tokio::test]
async fn a_grant_says_all_that_its_holder_needs() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/orders/42?ttl=30s&owner=worker-7").ok().await;
    let members = ["expires_at", "fencing_token", "key", "lease_id", "owner", "renew_after_ms", "ttl_ms", "valid_for_ms", "votes", "waited_ms"];
    assert_eq!(grant.members(), members);
    assert_eq!((grant.str("key"), grant.str("owner")), ("orders/42", "worker-7"));
    assert_eq!((grant.u64("ttl_ms"), grant.u64("waited_ms")), (30_000, 0));
    assert_eq!((grant.u64("valid_for_ms"), grant.u64("renew_after_ms")), (29_698, 10_000));
    assert_eq!(grant["votes"], json!({ "granted": 1, "required": 1, "nodes": 1 }));
}

#[tokio::test]
async fn the_headers_of_a_grant_repeat_lease_and_token() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    assert_lease(&grant, grant.str("lease_id"), grant.u64("fencing_token"));
    assert_eq!(grant.header("Cache-Control"), Some("no-store"));
    assert_eq!(grant.header("Content-Type"), Some("application/json"));
}

#[tokio::test]
async fn the_deadline_is_a_time_in_utc_with_milliseconds() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a?ttl=1m").ok().await;
    let deadline: jiff::Timestamp = grant.str("expires_at").parse().unwrap();
    // The token is the time of the grant in microseconds.
    let granted = jiff::Timestamp::from_microsecond(grant.u64("fencing_token") as i64).unwrap();
    let lasts = deadline.as_millisecond() - granted.as_millisecond();
    assert!((59_000..=59_400).contains(&lasts), "{lasts} ms");
    assert_eq!(grant.str("expires_at").len(), "2026-11-23T12:00:29.698Z".len());
}

#[tokio::test]
async fn without_options_a_lease_lives_for_half_a_minute_and_has_no_owner() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    assert_eq!(grant.u64("ttl_ms"), 30_000);
    assert!(!grant.members().contains(&"owner"));
}

#[tokio::test]
async fn lease_ids_of_the_gateway_hold_128_random_bits() {
    let gateway = TestRouter::embedded().await;
    let (one, other) = (gateway.post("/locks/a").ok().await, gateway.post("/locks/b").ok().await);
    assert_ne!(one.str("lease_id"), other.str("lease_id"));
    assert_eq!(one.str("lease_id").len(), 22);
}

#[tokio::test]
async fn options_may_stand_in_a_json_body() {
    let gateway = TestRouter::embedded().await;
    let options = json!({ "ttl": "1m", "owner": "größe \u{1f512}", "lease_id": MINE }).to_string();
    let grant = gateway.post("/locks/a").json(&options).ok().await;
    assert_eq!((grant.u64("ttl_ms"), grant.str("owner"), grant.str("lease_id")), (60_000, "größe \u{1f512}", MINE));
}

#[tokio::test]
async fn query_and_body_may_name_different_options() {
    let gateway = TestRouter::embedded().await;
    let body = gateway.post("/locks/a?owner=worker+7").header("Content-Type", "Application/JSON; charset=utf-8").body(r#"{"ttl":"5m"}"#);
    let grant = body.ok().await;
    assert_eq!((grant.u64("ttl_ms"), grant.str("owner")), (300_000, "worker 7"));
}

#[tokio::test]
async fn a_held_lock_is_refused_with_its_holder() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a?ttl=30s&owner=worker-7").ok().await;
    let refusal = gateway.post("/locks/a").problem(423, "locked").await;
    let seconds: u64 = refusal.header("Retry-After").unwrap().parse().unwrap();
    let left_ms = refusal["holder"]["expires_in_ms"].as_u64().unwrap();
    assert_eq!(refusal["holder"], json!({ "owner": "worker-7", "fencing_token": grant["fencing_token"], "expires_in_ms": left_ms }));
    assert!(left_ms <= 30_000 && seconds == left_ms.div_ceil(1000), "{left_ms} ms, Retry-After: {seconds}");
    assert_eq!(refusal.members(), ["code", "detail", "holder", "status", "title", "type"]);
}

#[tokio::test]
async fn fencing_tokens_rise_from_grant_to_grant() {
    let gateway = TestRouter::embedded().await;
    let mut last = 0;
    for _ in 0..20 {
        let grant = gateway.post("/locks/a").ok().await;
        assert!(last < grant.u64("fencing_token") && grant.u64("fencing_token") < 1 << 53, "{last} then {}", grant.text);
        last = grant.u64("fencing_token");
        gateway.delete("/locks/a").lease(grant.str("lease_id")).ok().await;
    }
}

#[tokio::test]
async fn a_repeat_gets_the_same_lease_and_token() {
    let gateway = TestRouter::embedded().await;
    let first = gateway.post(&format!("/locks/a?lease_id={MINE}")).ok().await;
    let token = first.u64("fencing_token");
    assert_lease(&first, MINE, token);
    assert_lease(&gateway.post(&format!("/locks/a?lease_id={MINE}")).ok().await, MINE, token);
    assert_lease(&gateway.post("/locks/a").json(&json!({ "lease_id": MINE }).to_string()).ok().await, MINE, token);
    assert_lease(&gateway.post("/locks/a").header("Idempotency-Key", MINE).ok().await, MINE, token);
    assert_lease(&gateway.post("/locks/a").header("Idempotency-Key", format!("{MINE:?}")).ok().await, MINE, token);
    assert_lease(&gateway.post("/locks/a").lease(MINE).ok().await, MINE, token);
}

#[tokio::test]
async fn a_repeat_does_not_claim_an_owner_that_others_are_not_shown() {
    let gateway = TestRouter::embedded().await;
    assert_eq!(gateway.post(&format!("/locks/a?owner=first&lease_id={MINE}")).ok().await["owner"], "first");
    let repeat = gateway.post(&format!("/locks/a?owner=second&lease_id={MINE}")).ok().await;
    assert_eq!((&repeat["owner"], &gateway.get("/locks/a").ok().await["holder"]["owner"]), (&json!(null), &json!("first")));
}

#[tokio::test]
async fn a_repeat_may_rely_on_no_more_than_is_left() {
    let gateway = TestRouter::embedded().await;
    gateway.post(&format!("/locks/a?ttl=30s&lease_id={MINE}")).ok().await;
    let repeat = gateway.post(&format!("/locks/a?ttl=5m&lease_id={MINE}")).ok().await;
    assert!(repeat.u64("valid_for_ms") < 30_000 && repeat.u64("renew_after_ms") <= 15_000, "{}", repeat.text);
}

#[tokio::test]
async fn one_lease_id_may_hold_several_locks() {
    let gateway = TestRouter::embedded().await;
    for path in ["/locks/a", "/locks/b"] {
        gateway.post(&format!("{path}?lease_id={MINE}")).ok().await;
    }
    gateway.delete("/locks/a").lease(MINE).ok().await;
    assert_eq!(gateway.get("/locks/b").ok().await["state"], "held");
}

#[tokio::test]
async fn a_lock_is_free_again_when_its_ttl_is_over() {
    let gateway = TestRouter::embedded().await;
    let granted = async |path: &str| Some(gateway.post(path).send().await).filter(|answer| answer.status == 200);
    let first = eventually_async("a grant", async || granted("/locks/a?ttl=100ms").await).await;
    let second = eventually_async("the lease ends", async || granted("/locks/a").await).await;
    assert!(first.u64("fencing_token") < second.u64("fencing_token"));
}

#[tokio::test]
async fn a_grant_that_nobody_reads_is_undone() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/a").drop_unread().await;
    eventually_async("the lock is free", async || (gateway.get("/locks/a").ok().await["state"] == "free").then_some(())).await;
}

#[tokio::test]
async fn a_majority_of_redis_nodes_grants() {
    let servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    let grant = gateway.post("/locks/a").ok().await;
    assert_eq!((&grant["votes"]["required"], &grant["votes"]["nodes"]), (&json!(2), &json!(3)));
    assert!((2..=3).contains(&grant["votes"]["granted"].as_u64().unwrap()), "{}", grant.text);
}

/// Nothing listens there: port 1 is kept for a service that nobody runs.
const NOBODY: &str = "n1=redis://127.0.0.1:1";

#[tokio::test]
async fn without_a_quorum_the_votes_of_the_nodes_are_told() {
    let gateway = TestRouter::on(&[NOBODY.to_owned()]).await;
    let refusal = gateway.post("/locks/a").problem(503, "no_quorum").await;
    assert_eq!(refusal.header("Retry-After"), Some("1"));
    assert_eq!(refusal["votes"], json!([{ "node": "n1", "vote": "unreachable" }]));
    assert_eq!(refusal["required"], 1);
}

#[tokio::test]
async fn a_silent_node_makes_the_outcome_indeterminate() {
    let servers = [RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    servers[0].pause();
    let refusal = gateway.post("/locks/a?ttl=100ms").problem(503, "indeterminate").await;
    servers[0].resume();
    assert_eq!(refusal.header("Retry-After"), Some("1"));
    assert_eq!(refusal["votes"][0]["vote"], "silent");
}
