//! `GET /locks`.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{RedisServer, RouterAnswer, TestRouter, eventually_async};

fn keys(page: &RouterAnswer) -> Vec<&str> {
    page["locks"].as_array().unwrap().iter().map(|lock| lock["key"].as_str().unwrap()).collect()
}

/// Follows the cursor to the end: how often each lock was listed, and on how many pages.
async fn walk(gateway: &TestRouter, query: &str) -> (BTreeMap<String, usize>, usize) {
    walk_from(gateway, query, String::new()).await
}

async fn walk_from(gateway: &TestRouter, query: &str, mut cursor: String) -> (BTreeMap<String, usize>, usize) {
    let (mut seen, mut pages) = (BTreeMap::new(), 0);
    loop {
        let page = gateway.get(&format!("/locks?{query}{cursor}")).ok().await;
        pages += 1;
        for key in keys(&page) {
            *seen.entry(key.to_owned()).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => return (seen, pages),
        }
    }
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn once_each<'a>(keys: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, usize> {
    keys.into_iter().map(|key| (key.to_owned(), 1)).collect()
}

/// 25 locks under `orders/` and one elsewhere.
async fn with_many_locks(gateway: &TestRouter) -> Vec<String> {
    let names: Vec<String> = (0..25).map(|n| format!("orders/größe {n}")).collect();
    for name in &names {
        gateway.post(&format!("/locks/{}", encoded(name))).ok().await;
    }
    gateway.post("/locks/elsewhere").ok().await;
    names
}

#[tokio::test]
async fn a_held_lock_is_listed_with_its_holder() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/orders/42?owner=worker-7").ok().await;
    let page = gateway.get("/locks").ok().await;
    let left_ms = &page["locks"][0]["expires_in_ms"];
    let lock = json!({ "key": "orders/42", "owner": "worker-7", "fencing_token": grant["fencing_token"], "expires_in_ms": left_ms });
    assert_eq!(page.json, json!({ "locks": [lock], "next_cursor": null }));
    assert!((1..=30_000).contains(&left_ms.as_u64().unwrap()));
}

#[tokio::test]
async fn what_names_holders_is_not_stored_on_the_way() {
    let gateway = TestRouter::embedded().await;
    assert_eq!(gateway.get("/locks").ok().await.header("Cache-Control"), Some("no-store"));
}

#[tokio::test]
async fn a_released_lock_is_not_listed() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/a").ok().await;
    gateway.delete("/locks/a").lease(grant.str("lease_id")).ok().await;
    assert_eq!(gateway.get("/locks").ok().await.json, json!({ "locks": [], "next_cursor": null }));
}

#[tokio::test]
async fn a_prefix_is_taken_literally() {
    let gateway = TestRouter::embedded().await;
    for path in ["/locks/a", "/locks/ab", "/locks/b", "/locks/a*", "/locks/a%5Bb%5D"] {
        gateway.post(path).ok().await;
    }
    for (prefix, listed) in [("a", &["a", "a*", "a[b]", "ab"][..]), ("ab", &["ab"]), ("a*", &["a*"]), ("a[", &["a[b]"]), ("?", &[]), ("A", &[])] {
        assert_eq!(keys(&gateway.get(&format!("/locks?prefix={}", encoded(prefix))).ok().await), listed, "{prefix}");
    }
}

#[tokio::test]
async fn page_by_page_every_lock_is_listed_once() {
    let gateway = TestRouter::embedded().await;
    let names = with_many_locks(&gateway).await;
    let (seen, pages) = walk(&gateway, "prefix=orders%2F&limit=4").await;
    assert_eq!(seen, once_each(names.iter().map(String::as_str)));
    assert!(5 <= pages, "{pages} pages");
}

#[tokio::test]
async fn page_by_page_every_lock_of_three_redis_nodes_is_listed_once() {
    let servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    let names = with_many_locks(&gateway).await;
    let (seen, pages) = walk(&gateway, "prefix=orders%2F&limit=4").await;
    assert_eq!(seen, once_each(names.iter().map(String::as_str)));
    assert!(3 <= pages, "{pages} pages");
}

#[tokio::test]
async fn a_lock_that_only_two_of_three_nodes_know_is_listed_once() {
    let servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    for (server, name) in servers.iter().zip(["not-on-1", "not-on-2", "not-on-3"]) {
        gateway.post(&format!("/locks/{name}")).ok().await;
        // The grant does not wait for the third node, which may still be writing.
        let deleted = async || (server.run::<u64>(&["DEL", &format!("redlockd:lock:{name}")]) == 1).then_some(());
        eventually_async("the node has the lock", deleted).await;
    }
    assert_eq!(walk(&gateway, "").await.0, once_each(["not-on-1", "not-on-2", "not-on-3"]));
}

#[tokio::test]
async fn a_lock_on_a_minority_is_not_listed() {
    let servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    servers[0].run::<()>(&["SET", "redlockd:lock:stray", "somebody"]);
    assert_eq!(walk(&gateway, "").await.0, once_each([]));
}

#[tokio::test]
async fn one_node_down_hides_no_lock() {
    let mut servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    gateway.post("/locks/a").ok().await;
    servers[2].kill();
    assert_eq!(walk(&gateway, "").await.0, once_each(["a"]));
}

#[tokio::test]
async fn a_node_that_only_fails_to_be_scanned_hides_no_lock() {
    let servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    gateway.post("/locks/a").ok().await;
    // As if the first node's scan had timed out: it is skipped, but still says that it holds the lock.
    assert_eq!(walk_from(&gateway, "", "&cursor=1.0.".into()).await.0, once_each(["a"]));
}

#[tokio::test]
async fn a_page_after_which_too_few_nodes_are_left_is_no_end() {
    let servers = [RedisServer::start(), RedisServer::start(), RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    gateway.post("/locks/a").ok().await;
    // As if two nodes had been skipped: one is not enough to be sure that no lock is missing.
    gateway.get("/locks?cursor=2.0.").problem(503, "no_quorum").await;
}

#[tokio::test]
async fn a_cursor_that_a_node_can_not_read_is_the_clients_mistake() {
    let servers = [RedisServer::start()];
    let gateway = TestRouter::redis(&servers).await;
    for _ in 0..4 {
        gateway.get("/locks?cursor=0.0.x").problem(400, "invalid_request").await;
    }
    gateway.post("/locks/a").ok().await;
}
