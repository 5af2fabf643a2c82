//! `DELETE /locks/{key}`.

use serde_json::json;

use crate::support::TestRouter;

const MINE: &str = "a-lease-id-of-mine";

#[tokio::test]
async fn the_first_release_frees_and_the_second_finds_nothing() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    let first = gateway.delete("/locks/a").lease(grant.str("lease_id")).ok().await;
    assert_eq!(first.json, json!({ "key": "a", "released": true }));
    assert_eq!(first.header("Cache-Control"), Some("no-store"));
    let second = gateway.delete("/locks/a").lease(grant.str("lease_id")).ok().await;
    assert_eq!(second.json, json!({ "key": "a", "released": false }));
}

#[tokio::test]
async fn the_lease_may_be_named_in_the_query_too() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    assert_eq!(gateway.delete(&format!("/locks/a?lease_id={}", grant.str("lease_id"))).ok().await["released"], true);
}

#[tokio::test]
async fn a_wrong_lease_is_no_holder_and_the_lock_stays() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    gateway.delete("/locks/a").lease("somebody-elses-lease").problem(409, "not_holder").await;
    assert_eq!(gateway.get("/locks/a").ok().await["holder"]["fencing_token"], grant["fencing_token"]);
}

#[tokio::test]
async fn with_the_fencing_token_of_the_grant_the_lock_is_freed() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    let release = gateway.delete("/locks/a").lease(grant.str("lease_id")).header("Fencing-Token", grant.header("Fencing-Token").unwrap());
    assert_eq!(release.ok().await["released"], true);
    gateway.post("/locks/a").ok().await;
}

#[tokio::test]
async fn an_older_fencing_token_leaves_a_newer_grant_of_the_lease_alone() {
    let gateway = TestRouter::embedded().await;
    let older = gateway.post(&format!("/locks/a?lease_id={MINE}")).ok().await.u64("fencing_token");
    gateway.delete("/locks/a").lease(MINE).ok().await;
    let newer = gateway.post(&format!("/locks/a?lease_id={MINE}")).ok().await.u64("fencing_token");
    let late = gateway.delete("/locks/a").lease(MINE).header("Fencing-Token", older.to_string());
    let problem = late.problem(409, "not_holder").await;
    assert!(problem["detail"].as_str().unwrap().contains(&newer.to_string()), "{problem:?}");
    assert_eq!(gateway.get("/locks/a").ok().await["holder"]["fencing_token"], newer);
}

#[tokio::test]
async fn a_newer_fencing_token_frees_an_older_grant_of_the_lease() {
    let gateway = TestRouter::embedded().await;
    let token = gateway.post(&format!("/locks/a?lease_id={MINE}")).ok().await.u64("fencing_token");
    let release = gateway.delete("/locks/a").lease(MINE).header("Fencing-Token", (token + 1).to_string());
    assert_eq!(release.ok().await["released"], true);
    assert!(token + 1 < gateway.post("/locks/a").ok().await.u64("fencing_token"));
}

#[tokio::test]
async fn by_force_the_lock_is_taken_from_whoever_holds_it_and_its_fence_stays() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    let force = || gateway.delete("/locks/a?force=true&reason=it%20hangs");
    assert_eq!(force().ok().await.json, json!({ "key": "a", "released": true }));
    gateway.put("/locks/a").lease(grant.str("lease_id")).problem(410, "lease_expired").await;
    assert_eq!(force().ok().await["released"], false);
    let next = gateway.post("/locks/a").ok().await;
    assert!(grant.u64("fencing_token") < next.u64("fencing_token"));
}
