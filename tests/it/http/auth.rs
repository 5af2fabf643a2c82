//! Who may do what: callers, actions and prefixes.

use axum::http::Method;
use redlockd::auth::{Digest, entry};
use redlockd::lease::OwnerLabel;

use crate::support::{RouterAnswer, TestRouter};

/// Everybody on the roster, by name, which is the token as well.
const ROSTER: [(&str, &[&str]); 6] = [
    ("worker", &["*:orders/"]),
    ("reader", &["inspect,list:orders/"]),
    ("acquirer", &["acquire:orders/", "release:"]),
    ("somebody", &["*:"]),
    ("operator", &["admin"]),
    ("forcer", &["force:orders/"]),
];

async fn gateway() -> TestRouter {
    let entries = ROSTER.iter().map(|(name, allow)| {
        let allow: Vec<String> = allow.iter().map(|grant| (*grant).to_owned()).collect();
        entry(&OwnerLabel::new(name).unwrap(), &Digest::of(name), &allow)
    });
    TestRouter::with_tokens(&entries.collect::<String>()).await
}

async fn ask(gateway: &TestRouter, caller: &str, method: Method, path: &str) -> RouterAnswer {
    let asking = gateway.ask(method, path);
    if caller.is_empty() { asking.send().await } else { asking.header("Authorization", format!("Bearer {caller}")).send().await }
}

const OWN_LEASE: &str = "?lease_id=0123456789abcdef";

/// What is asked, and by whom it may be.
#[rustfmt::skip]
const TABLE: [(Method, &str, &[&str]); 25] = [
    (Method::POST, "/locks/orders/1", &["worker", "acquirer", "somebody"]),
    (Method::POST, "/locks/orders", &["somebody"]),
    (Method::POST, "/locks/other/1", &["somebody"]),
    (Method::PUT, "/locks/orders/1", &["worker", "somebody"]),
    (Method::PUT, "/locks/other/1", &["somebody"]),
    (Method::DELETE, "/locks/orders/1", &["worker", "acquirer", "somebody"]),
    (Method::DELETE, "/locks/other/1", &["acquirer", "somebody"]),
    (Method::DELETE, "/locks/orders/1?force=true&reason=test", &["forcer"]),
    (Method::DELETE, "/locks/other/1?force=true&reason=test", &[]),
    (Method::GET, "/locks/orders/1", &["worker", "reader", "somebody"]),
    (Method::GET, "/locks/other/1", &["somebody"]),
    (Method::HEAD, "/locks/other/1", &["somebody"]),
    (Method::GET, "/locks?prefix=orders/", &["worker", "reader", "somebody"]),
    (Method::GET, "/locks?prefix=orders/4", &["worker", "reader", "somebody"]),
    (Method::GET, "/locks?prefix=orders", &["somebody"]),
    (Method::GET, "/locks", &["somebody"]),
    (Method::POST, "/semaphores/orders/1?limit=9", &["worker", "acquirer", "somebody"]),
    (Method::POST, "/semaphores/other/1?limit=9", &["somebody"]),
    (Method::PUT, "/semaphores/other/1", &["somebody"]),
    (Method::DELETE, "/semaphores/other/1", &["acquirer", "somebody"]),
    (Method::GET, "/semaphores/orders/1", &["worker", "reader", "somebody"]),
    (Method::GET, "/semaphores/other/1", &["somebody"]),
    (Method::GET, "/nodes", &["operator"]),
    (Method::GET, "/metrics", &["operator"]),
    (Method::GET, "/readyz", &["", "stranger", "worker", "reader", "acquirer", "somebody", "operator", "forcer"]),
];

#[tokio::test]
async fn everybody_may_do_what_is_granted_and_nothing_else() {
    let gateway = gateway().await;
    let everybody = ["", "stranger"].into_iter().chain(ROSTER.map(|(name, _)| name));
    for (caller, (method, path, allowed)) in everybody.flat_map(|caller| TABLE.iter().map(move |row| (caller, row))) {
        let is_about_a_lease = [Method::PUT, Method::DELETE].contains(method) && !path.contains('?');
        let target = format!("{path}{}", if is_about_a_lease { OWN_LEASE } else { "" });
        let answer = ask(&gateway, caller, method.clone(), &target).await;
        let expected = match caller {
            _ if allowed.contains(&caller) => None,
            "" | "stranger" => Some((401, "unauthorized")),
            _ => Some((403, "forbidden")),
        };
        let refused = Some(answer.status).filter(|status| [401, 403].contains(status));
        assert_eq!(refused, expected.map(|(status, _)| status), "{caller} {method} {path}: {}", answer.text);
        if let (Some((status, code)), true) = (expected, *method != Method::HEAD) {
            answer.assert_problem(status, code);
        }
        assert_eq!(answer.header("WWW-Authenticate").is_some(), refused == Some(401), "{caller} {method} {path}");
    }
    let counted = ask(&gateway, "operator", Method::GET, "/metrics").await.text;
    // 24 rows want a credential.
    assert!(counted.contains("redlockd_auth_refusals_total{reason=\"nothing_shown\"} 24\n"), "{counted}");
    assert!(counted.contains("redlockd_auth_refusals_total{reason=\"stranger\"} 24\n"), "{counted}");
}

#[tokio::test]
async fn a_credential_is_one_bearer_token() {
    let gateway = gateway().await;
    let with = |values: &[&str]| values.iter().fold(gateway.post("/locks/a"), |asking, value| asking.header("Authorization", value));
    for right in ["Bearer somebody", "bearer somebody", "BEARER  somebody "] {
        assert!([200, 423].contains(&with(&[right]).send().await.status), "{right}");
    }
    for wrong in ["Bearer", "Bearer ", "Bearer: somebody", "Basic somebody", "somebody", "Bearer somebody x", "Bearer Somebody", "Bearer \u{e9}"] {
        with(&[wrong]).problem(401, "unauthorized").await;
    }
    with(&["Bearer somebody", "Bearer somebody"]).problem(401, "unauthorized").await;
    gateway.post("/locks/a?token=somebody").problem(401, "unauthorized").await;
}

#[tokio::test]
async fn the_owner_is_the_caller_unless_it_says_otherwise() {
    let gateway = gateway().await;
    assert_eq!(ask(&gateway, "worker", Method::POST, "/locks/orders/1").await.str("owner"), "worker");
    assert_eq!(ask(&gateway, "worker", Method::POST, "/locks/orders/2?owner=me").await.str("owner"), "me");
    let held = ask(&gateway, "somebody", Method::POST, "/locks/orders/1").await;
    held.assert_problem(423, "locked");
    assert_eq!(held["holder"]["owner"], "worker");
}

#[tokio::test]
async fn a_list_shows_what_its_reader_may_see() {
    let gateway = gateway().await;
    for lock in ["orders/1", "orders/2", "other/1"] {
        assert_eq!(ask(&gateway, "somebody", Method::POST, &format!("/locks/{lock}")).await.status, 200);
    }
    for (caller, path, seen) in [("reader", "/locks?prefix=orders/", 2), ("somebody", "/locks", 3)] {
        let listed = ask(&gateway, caller, Method::GET, path).await;
        assert_eq!(listed["locks"].as_array().unwrap().len(), seen, "{caller}: {}", listed.text);
    }
    // Not even how many there are, or a cursor with a name in it.
    for query in ["", "?limit=1", "?prefix=other/", "?prefix=other/&limit=1", "?limit=1&cursor=0.0.other/0"] {
        let refused = ask(&gateway, "reader", Method::GET, &format!("/locks{query}")).await;
        refused.assert_problem(403, "forbidden");
        assert!(!refused.text.contains("other/1"), "{}", refused.text);
    }
}

#[tokio::test]
async fn several_locks_are_for_who_may_have_each_of_them() {
    let gateway = gateway().await;
    let set = |caller: &'static str, keys: &'static str| {
        let body = format!(r#"{{"keys":{keys},"lease_id":"a-lease-of-a-set"}}"#);
        gateway.post("/locks").header("Authorization", format!("Bearer {caller}")).json(&body)
    };
    set("worker", r#"["orders/1","other/1"]"#).problem(403, "forbidden").await.assert_says("\"other/1\"", "the one that is not granted");
    assert_eq!(ask(&gateway, "somebody", Method::GET, "/locks/orders/1").await["state"], "free");
    set("worker", r#"["orders/1","orders/2"]"#).ok().await;
    for (caller, method, status) in
        [("reader", Method::PUT, 403), ("", Method::PUT, 401), ("acquirer", Method::PUT, 403), ("worker", Method::PUT, 200)]
    {
        assert_eq!(ask(&gateway, caller, method.clone(), "/locks?lease_id=a-lease-of-a-set").await.status, status, "{caller} {method}");
    }
    assert_eq!(ask(&gateway, "reader", Method::DELETE, "/locks?lease_id=a-lease-of-a-set").await.status, 403);
    assert_eq!(ask(&gateway, "acquirer", Method::DELETE, "/locks?lease_id=a-lease-of-a-set").await.status, 200);
    // Of which nobody knows any more what it was of.
    for (caller, method, status) in
        [("reader", Method::DELETE, 403), ("acquirer", Method::DELETE, 200), ("acquirer", Method::PUT, 403), ("worker", Method::PUT, 410)]
    {
        assert_eq!(ask(&gateway, caller, method.clone(), "/locks?lease_id=a-lease-of-a-set").await.status, status, "{caller} {method}");
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let gateway = gateway().await;
    let lease = ask(&gateway, "somebody", Method::POST, "/locks/other/1").await.str("lease_id").to_owned();
    // The right lease id in the wrong hands.
    for (caller, method, status) in [("worker", Method::DELETE, 403), ("worker", Method::PUT, 403), ("", Method::DELETE, 401)] {
        assert_eq!(ask(&gateway, caller, method, &format!("/locks/other/1?lease_id={lease}")).await.status, status);
    }
    assert_eq!(ask(&gateway, "somebody", Method::GET, "/locks/other/1").await["state"], "held");
}
