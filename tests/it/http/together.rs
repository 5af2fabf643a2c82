//! Locks that some share, semaphores, and several locks at once: on one embedded node and on a quorum.

use serde_json::json;

use crate::support::{RedisServer, TestRouter, eventually_async};

const FIRST: &str = "the-first-one-----";
const SECOND: &str = "the-second-one----";

/// Runs `check` on both kinds of gateway.
async fn on_both<F: Future<Output = ()>>(check: impl Fn(TestRouter) -> F) {
    check(TestRouter::embedded().await).await;
    let servers = [(); 3].map(|()| RedisServer::start());
    check(TestRouter::redis(&servers).await).await;
}

#[tokio::test]
async fn readers_share_a_lock_and_a_writer_comes_after_them() {
    on_both(async |gateway: TestRouter| {
        let first = gateway.post(&format!("/locks/a?mode=shared&owner=one&lease_id={FIRST}")).ok().await;
        let second = gateway.post(&format!("/locks/a?mode=shared&owner=two&lease_id={SECOND}")).ok().await;
        assert_eq!(first.str("mode"), "shared");
        let refused = gateway.post("/locks/a").problem(423, "locked").await;
        assert_eq!(refused["holder"]["mode"], json!("shared"));
        gateway.post(&format!("/locks/a?lease_id={FIRST}")).problem(423, "locked").await;
        let shown = gateway.get("/locks/a").ok().await;
        let tokens: Vec<_> = shown["holders"].as_array().unwrap().iter().map(|holder| holder["fencing_token"].clone()).collect();
        assert_eq!((shown.str("state"), tokens), ("held", vec![json!(first.u64("fencing_token")), json!(second.u64("fencing_token"))]));
        assert_eq!(gateway.get("/locks").ok().await["locks"][0]["mode"], json!("shared"));
        let extended = gateway.put("/locks/a?ttl=1m").lease(FIRST).ok().await;
        assert_eq!(extended.u64("fencing_token"), first.u64("fencing_token"));
        assert_eq!(gateway.delete("/locks/a").lease(FIRST).ok().await["released"], json!(true));
        // Its lease is in nobody's way, so there is nothing to refuse.
        assert_eq!(gateway.delete("/locks/a").lease(FIRST).ok().await["released"], json!(false));
        gateway.put("/locks/a").lease(FIRST).problem(410, "lease_expired").await;
        gateway.post("/locks/a").problem(423, "locked").await;
        gateway.delete("/locks/a").lease(SECOND).ok().await;
        let writer = gateway.post("/locks/a?mode=exclusive").ok().await;
        assert!(second.u64("fencing_token") < writer.u64("fencing_token"));
        gateway.post("/locks/a?mode=shared").problem(423, "locked").await;
        gateway.delete("/locks/a").lease(writer.str("lease_id")).ok().await;
        assert!(writer.u64("fencing_token") < gateway.post("/locks/a?mode=shared").ok().await.u64("fencing_token"));
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_waits_is_let_in_before_readers_that_come_later() {
    on_both(async |gateway: TestRouter| {
        let reader = gateway.post("/locks/a?mode=shared").ok().await;
        let writer = async { gateway.post("/locks/a?wait=20s").ok().await.u64("fencing_token") };
        let later = async {
            // Word of the waiting writer is on the nodes once a new reader is refused.
            while gateway.post("/locks/a?mode=shared&ttl=1s").send().await.status == 200 {}
            gateway.post("/locks/a?mode=shared").problem(423, "locked").await.assert_says("Somebody waits who wants the lock alone", "a writer");
            let late = async { gateway.post("/locks/a?mode=shared&wait=20s").ok().await.u64("fencing_token") };
            let leave = async { gateway.delete("/locks/a").lease(reader.str("lease_id")).ok().await };
            tokio::join!(late, leave).0
        };
        let ended = async {
            let (token, held) = (writer.await, gateway.get("/locks/a").ok().await);
            assert_eq!(held["holder"]["fencing_token"], json!(token));
            gateway.delete("/locks/a?force=true&reason=over").ok().await;
            token
        };
        let (writer, late) = tokio::join!(ended, later);
        assert!(writer < late, "{writer} {late}");
    })
    .await;
}

#[tokio::test]
async fn a_bad_mode_is_refused() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/a?mode=read").problem(400, "invalid_request").await.assert_says("\"read\"", "mode");
    gateway.post("/locks/a").json(r#"{"mode":"shared"}"#).ok().await;
}

#[tokio::test]
async fn as_many_have_a_slot_as_there_are() {
    on_both(async |gateway: TestRouter| {
        let mut slots = Vec::new();
        let mut tokens = Vec::new();
        for holder in 0..3 {
            let grant = gateway.post(&format!("/semaphores/s?limit=3&owner=holder-{holder}&lease_id=lease-of-holder-{holder}")).ok().await;
            assert_eq!((grant.str("key"), grant.u64("limit")), ("s", 3));
            slots.push(grant.u64("slot"));
            tokens.push(grant.u64("fencing_token"));
        }
        let mut numbers = slots.clone();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
        gateway.post("/semaphores/s?limit=3").problem(423, "locked").await.assert_says("Every slot is taken", "a full semaphore");
        let other = gateway.post("/semaphores/s?limit=4").problem(409, "limit_differs").await;
        other.assert_says("limit=4 was given, and those who hold the semaphore agree on limit=3", "another limit");
        assert!(other["holder"]["mode"].is_null(), "{}", other.text);
        // A repeat has the slot that it had.
        let again = gateway.post("/semaphores/s?limit=3&lease_id=lease-of-holder-1").ok().await;
        assert_eq!((again.u64("slot"), again.u64("fencing_token")), (slots[1], tokens[1]));
        gateway.put("/semaphores/s?ttl=1m").lease("lease-of-holder-1").ok().await;
        gateway.delete("/semaphores/s").lease("lease-of-holder-0").ok().await;
        let shown = gateway.get("/semaphores/s").ok().await;
        assert_eq!((shown.u64("limit"), shown.u64("held"), shown.u64("free")), (3, 2, 1));
        let taken: Vec<u64> = shown["holders"].as_array().unwrap().iter().map(|holder| holder["slot"].as_u64().unwrap()).collect();
        assert!(taken.is_sorted() && !taken.contains(&slots[0]), "{taken:?}");
        let next = gateway.post("/semaphores/s?limit=3&wait=5s").ok().await;
        assert_eq!(next.u64("slot"), slots[0]);
        // It has nothing to do with the lock of its name, and is none in a list of locks.
        gateway.post("/locks/s").ok().await;
        assert_eq!(gateway.get("/locks").ok().await["locks"].as_array().unwrap().len(), 1);
        gateway.get("/semaphores/s").header("Accept", "text/event-stream").problem(400, "invalid_request").await;
        gateway.delete("/semaphores/s?force=true&reason=test").ok().await;
        assert_eq!(gateway.get("/semaphores/s").ok().await.u64("held"), 0);
        gateway.post("/semaphores/s?limit=4").ok().await;
    })
    .await;
}

#[tokio::test]
async fn a_semaphore_has_a_limit_that_makes_sense() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/semaphores/s").problem(400, "invalid_request").await.assert_says("limit is missing", "no limit");
    for bad in ["0", "257", "-1", "two", ""] {
        gateway.post(&format!("/semaphores/s?limit={bad}")).problem(400, "invalid_request").await.assert_says(&format!("limit: {bad:?}"), bad);
    }
    gateway.post("/semaphores/s").json(r#"{"limit":256}"#).ok().await;
    let refused = gateway.post("/semaphores/t").json(r#"{"limit":null}"#).problem(400, "invalid_request").await;
    refused.assert_says("limit: null must be an integer", "a limit that is none");
    gateway.post("/semaphores/").problem(400, "invalid_request").await;
}

#[tokio::test]
async fn several_locks_are_had_all_or_none() {
    on_both(async |gateway: TestRouter| {
        let before = gateway.post("/locks/b").ok().await;
        gateway.delete("/locks/b").lease(before.str("lease_id")).ok().await;
        let wanted = format!(r#"{{"keys":["c","a","b"],"lease_id":"{FIRST}","owner":"me"}}"#);
        let grant = gateway.post("/locks").json(&wanted).ok().await;
        assert_eq!((&grant["keys"], grant.header("Lease-Id")), (&json!(["a", "b", "c"]), Some(FIRST)));
        assert!(before.u64("fencing_token") < grant.u64("fencing_token"));
        for lock in ["a", "b", "c"] {
            let shown = gateway.get(&format!("/locks/{lock}")).ok().await;
            assert_eq!(shown["holder"]["fencing_token"], json!(grant.u64("fencing_token")), "{lock}");
        }
        let refused = gateway.post("/locks").json(r#"{"keys":["d","b"]}"#).problem(423, "locked").await;
        refused.assert_says("\"b\"", "the one that is held");
        assert_eq!(gateway.get("/locks/d").ok().await.str("state"), "free");
        let again = gateway.post("/locks").json(&wanted).ok().await;
        assert_eq!(again.u64("fencing_token"), grant.u64("fencing_token"));
        for wait in ["0s", "20s"] {
            let other = format!(r#"{{"keys":["d"],"lease_id":"{FIRST}","wait":"{wait}"}}"#);
            gateway.post("/locks").json(&other).problem(409, "lease_in_use").await;
        }
        let extended = gateway.put("/locks?ttl=1m").lease(FIRST).ok().await;
        assert_eq!((&extended["keys"], extended.u64("fencing_token")), (&json!(["a", "b", "c"]), grant.u64("fencing_token")));
        assert!(50_000 < gateway.get("/locks/c").ok().await["holder"]["expires_in_ms"].as_u64().unwrap());
        let released = gateway.delete("/locks").lease(FIRST).ok().await;
        assert_eq!((&released["keys"], &released["released"]), (&json!(["a", "b", "c"]), &json!(true)));
        assert_eq!(gateway.get("/locks").ok().await["locks"], json!([]));
        assert_eq!(gateway.delete("/locks").lease(FIRST).ok().await["released"], json!(false));
        gateway.put("/locks").lease(FIRST).problem(410, "lease_expired").await.assert_says("No locks are held together", "nothing");
    })
    .await;
}

#[tokio::test]
async fn a_set_is_released_as_far_as_nodes_can_be_reached() {
    let mut servers = [(); 3].map(|()| RedisServer::start());
    let gateway = TestRouter::redis(&servers).await;
    gateway.post("/locks").json(&format!(r#"{{"keys":["a","b"],"lease_id":"{FIRST}"}}"#)).ok().await;
    eventually_async("it is on all nodes", async || servers.iter().all(|server| server.run(&["EXISTS", "redlockd:lock:a"])).then_some(())).await;
    servers[1..].iter_mut().for_each(RedisServer::kill);
    // What was on its way to those that are gone is lost, and what comes after that is not sent.
    assert_eq!(gateway.put("/locks").lease(FIRST).send().await.status, 503);
    let answer = gateway.delete("/locks").lease(FIRST).send().await;
    answer.assert_says("goes on in the background", "a release");
    assert_eq!(answer.status, 503);
    assert!(!servers[0].run::<bool>(&["EXISTS", "redlockd:lock:a"]));
}

#[tokio::test]
async fn a_set_that_lost_a_lock_is_not_extended() {
    on_both(async |gateway: TestRouter| {
        let grant = gateway.post("/locks").json(r#"{"keys":["a","b"]}"#).ok().await;
        gateway.delete("/locks/b?force=true&reason=test").ok().await;
        gateway.put("/locks").lease(grant.str("lease_id")).problem(410, "lease_expired").await;
        gateway.post("/locks/b").ok().await;
        gateway.put("/locks").lease(grant.str("lease_id")).problem(409, "not_holder").await;
        gateway.delete("/locks").lease(grant.str("lease_id")).ok().await;
        assert_eq!(gateway.get("/locks/a").ok().await.str("state"), "free");
        assert_eq!(gateway.get("/locks/b").ok().await.str("state"), "held");
    })
    .await;
}

#[tokio::test]
async fn who_waits_for_several_gets_them_when_the_last_is_free() {
    on_both(async |gateway: TestRouter| {
        let [a, b] = [gateway.post("/locks/a").ok().await, gateway.post("/locks/b").ok().await];
        let set = async { gateway.post("/locks").json(r#"{"keys":["a","b"],"wait":"20s"}"#).ok().await };
        let others = async {
            for (lock, held) in [("b", &b), ("a", &a)] {
                gateway.delete(&format!("/locks/{lock}")).lease(held.str("lease_id")).ok().await;
            }
        };
        let (set, ()) = tokio::join!(set, others);
        assert!(b.u64("fencing_token") < set.u64("fencing_token"));
        let one = async { gateway.post("/locks/b?wait=20s").ok().await };
        let release = async { gateway.delete("/locks").lease(set.str("lease_id")).ok().await };
        tokio::join!(one, release);
    })
    .await;
}

#[tokio::test]
async fn who_waited_for_several_in_vain_is_told_which_one_was_held() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/b").ok().await;
    // Somebody who wants that one only has looked at it last.
    let one = async { gateway.post("/locks/b?wait=200ms").problem(423, "locked").await };
    let several = async { gateway.post("/locks").json(r#"{"keys":["a","b"],"wait":"300ms"}"#).problem(423, "locked").await };
    let (_, several) = tokio::join!(one, several);
    several.assert_says("\"b\"", "the one that is held");
}

#[tokio::test]
async fn which_locks_are_wanted_is_said_clearly() {
    let gateway = TestRouter::embedded().await;
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let many = json!({ "keys": many }).to_string();
    for (body, says) in [
        ("{}", "1 to 16"),
        (r#"{"keys":[]}"#, "1 to 16"),
        (many.as_str(), "keys: 17 are given; 1 to 16"),
        (r#"{"keys":"a"}"#, "keys: it is \"a\", and must be an array of strings"),
        (r#"{"keys":["a",1]}"#, "keys: number 2 of them is 1"),
        (r#"{"keys":["a","a"]}"#, "\"a\" is given twice"),
        (r#"{"keys":["a//b"]}"#, "\"a//b\""),
        (r#"{"keys":["a"],"keys":["b"]}"#, "given twice"),
        (r#"{"keys":["a"],"mode":"shared"}"#, "\"mode\" is not an option"),
    ] {
        gateway.post("/locks").json(body).problem(400, "invalid_request").await.assert_says(says, body);
    }
    let in_query = gateway.post("/locks?keys=c").json(r#"{"keys":["a"]}"#).problem(400, "invalid_request").await;
    in_query.assert_says("keys: it is an array of strings, and goes into the body", "keys in the query");
    gateway.delete("/locks?force=true&reason=x").problem(400, "invalid_request").await;
}

#[tokio::test]
async fn the_longest_names_of_a_set_fit_into_a_body_however_they_are_written() {
    let gateway = TestRouter::embedded().await;
    let escaped = |n: usize| format!("\"{}\"", format!("\\u00{:02x}", 0x61 + n).repeat(512));
    let keys: Vec<String> = (0..16).map(escaped).collect();
    gateway.post("/locks").json(&format!("{{\"keys\":[{}]}}", keys.join(","))).ok().await;
}

#[tokio::test]
async fn whoever_finds_a_full_semaphore_waits_however_many_slots_it_has() {
    let gateway = TestRouter::embedded().await;
    for _ in 0..256 {
        gateway.post("/semaphores/s?limit=256").ok().await;
    }
    gateway.post("/semaphores/s?limit=256").problem(423, "locked").await.assert_says("Every slot is taken", "256 of 256");
    let release = async { gateway.delete("/semaphores/s?force=true&reason=test").ok().await };
    let (next, _) = tokio::join!(async { gateway.post("/semaphores/s?limit=256&wait=20s").ok().await }, release);
    assert!(next.u64("waited_ms") < 5_000, "{}", next.text);
}

#[tokio::test]
async fn a_set_in_its_delay_is_held_and_had_after_it() {
    on_both(async |gateway: TestRouter| {
        let body = |wait: &str, keys: &str| format!(r#"{{"keys":{keys},"ttl":"100ms","lock_delay":"600ms","lease_id":"{FIRST}","wait":"{wait}"}}"#);
        let first = gateway.post("/locks").json(&body("0s", r#"["a","b"]"#)).ok().await;
        // Until then it is repeated.
        let over = async || Some(gateway.post("/locks").json(&body("0s", r#"["a","b"]"#)).send().await).filter(|answer| answer.status == 423);
        eventually_async("it is over", over).await.assert_says("\"a\" is held", "its own delay");
        gateway.put("/locks").lease(FIRST).problem(410, "lease_expired").await;
        gateway.post("/locks").json(&body("0s", r#"["a","c"]"#)).problem(409, "lease_in_use").await;
        let next = gateway.post("/locks").json(&body("20s", r#"["a","b"]"#)).ok().await;
        assert!(first.u64("fencing_token") < next.u64("fencing_token"));
    })
    .await;
}
