//! What bounds a lease beside its ttl: on one embedded node and on a quorum.

use serde_json::json;

use crate::support::{RedisServer, TestRouter, eventually_async};

#[tokio::test]
async fn what_bounds_a_lease_is_kept_by_the_nodes() {
    let servers = [(); 3].map(|()| RedisServer::start());
    for gateway in [TestRouter::embedded().await, TestRouter::redis(&servers).await] {
        let lease = gateway.post("/locks/long?ttl=10s&max_lifetime=20s").ok().await;
        let extended = gateway.put("/locks/long?ttl=1m").lease(lease.str("lease_id")).ok().await;
        assert!((18_000..20_000).contains(&extended.u64("valid_for_ms")), "{}", extended.text);

        let lease = gateway.post("/locks/cron?ttl=1m&min_hold=20s&owner=nightly").ok().await;
        assert_eq!(gateway.delete("/locks/cron").lease(lease.str("lease_id")).ok().await["released"], json!(true));
        assert_eq!(gateway.delete("/locks/cron").lease(lease.str("lease_id")).ok().await["released"], json!(false));
        let kept = gateway.post("/locks/cron").problem(423, "locked").await;
        assert_eq!(kept["holder"]["owner"], json!("nightly"));
        assert!(kept["holder"]["expires_in_ms"].as_u64().unwrap() <= 20_600, "{}", kept.text);
        gateway.put("/locks/cron").lease(lease.str("lease_id")).problem(410, "lease_expired").await;

        let lease = gateway.post("/locks/delayed?ttl=10s&lock_delay=20s").ok().await;
        assert!(lease.u64("valid_for_ms") < 10_000, "{}", lease.text);
        let shown = gateway.get("/locks/delayed").ok().await;
        assert!((29_000..=30_000).contains(&shown["holder"]["expires_in_ms"].as_u64().unwrap()), "{}", shown.text);
        gateway.delete("/locks/delayed").lease(lease.str("lease_id")).ok().await;
        gateway.post("/locks/delayed").ok().await;
    }
}

#[tokio::test]
async fn a_lock_of_a_holder_that_died_is_had_after_the_delay() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/a?ttl=100ms&lock_delay=400ms").ok().await;
    let next = gateway.post("/locks/a?wait=10s").ok().await;
    assert!((400..5_000).contains(&next.u64("waited_ms")), "{}", next.text);
}

#[tokio::test]
async fn bounds_that_make_no_sense_are_refused() {
    let gateway = TestRouter::embedded().await;
    for (query, says) in [
        ("ttl=30s&max_lifetime=10s", "max_lifetime: 10s is not allowed here, 30s to 8760h are: not shorter than the ttl"),
        ("max_lifetime=0s", "max_lifetime: 0s"),
        ("max_lifetime=18446744073709551615s", "max_lifetime: 18446744073709551615s is not allowed"),
        ("ttl=4m&lock_delay=2m", "lock_delay: 2m is not allowed here, 0ms to 1m are: together with the ttl it is max_ttl at most"),
        ("ttl=10s&min_hold=20s", "min_hold: 20s is not allowed here, 1ms to 10s are"),
        ("min_hold=0s", "min_hold: 0s"),
        ("mode=shared&min_hold=1s", "for who has the lock alone"),
        ("min_hold=soon", "min_hold: \"soon\" is not a duration"),
    ] {
        gateway.post(&format!("/locks/a?{query}")).problem(400, "invalid_request").await.assert_says(says, query);
    }
    gateway.post("/semaphores/a?limit=2&min_hold=1s").problem(400, "invalid_request").await;
    let held = gateway.post("/locks/a?lock_delay=1s").header("Accept", "text/event-stream").problem(400, "invalid_request").await;
    held.assert_says("released when the connection ends", "a lease that a connection holds");
    let held = gateway.post("/locks/a?max_lifetime=0s").header("Accept", "text/event-stream").problem(400, "invalid_request").await;
    held.assert_says("max_lifetime: 0s is not allowed here, 1ms to 8760h are: a year at most", "the same, for no time");
}

#[tokio::test]
async fn a_lease_is_over_in_its_delay() {
    let gateway = TestRouter::embedded().await;
    let lease = "the-first-one-----";
    gateway.post(&format!("/locks/a?ttl=100ms&max_lifetime=100ms&lock_delay=20s&lease_id={lease}")).ok().await;
    // However often it is asked, this is never an extended lease for longer than it may live.
    let over = async || {
        let answer = gateway.put("/locks/a?ttl=30s").lease(lease).send().await;
        if answer.status == 200 {
            assert!(answer.u64("valid_for_ms") <= 100, "{}", answer.text);
            return None;
        }
        // While clocks may differ nobody knows.
        (answer.status != 503).then_some(answer)
    };
    let answer = eventually_async("it is over", over).await;
    assert_eq!((answer.status, answer.str("code")), (410, "lease_expired"));
    gateway.post(&format!("/locks/a?lease_id={lease}")).problem(423, "locked").await;
}
