//! What can name a lock, and which names are one.

use crate::support::TestRouter;

#[tokio::test]
async fn a_key_comes_back_as_it_was_meant() {
    let gateway = TestRouter::embedded().await;
    let longest = "x".repeat(512);
    for (path, key) in [
        ("orders/42", "orders/42"),
        ("orders%2F43", "orders/43"),
        ("gr%C3%B6%C3%9Fe", "größe"),
        ("日本/ロック", "日本/ロック"),
        ("100%25", "100%"),
        ("a%2525", "a%25"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("a%3Fb%23c", "a?b#c"),
        ("...", "..."),
        ("a:b;c=d@e!$&'()*,~", "a:b;c=d@e!$&'()*,~"),
        ("%22quoted%22%5C", "\"quoted\"\\"),
        (&*longest, &*longest),
    ] {
        let grant = gateway.post(&format!("/locks/{path}")).ok().await;
        assert_eq!(grant.str("key"), key);
        let released = gateway.delete(&format!("/locks/{path}")).lease(grant.str("lease_id")).ok().await;
        assert_eq!((released.str("key"), &released["released"]), (key, &true.into()));
    }
}

#[tokio::test]
async fn an_encoded_slash_is_a_slash() {
    let gateway = TestRouter::embedded().await;
    let grant = gateway.post("/locks/orders/42").ok().await;
    gateway.post("/locks/orders%2F42").problem(423, "locked").await;
    gateway.put("/locks/orders%2f42").lease(grant.str("lease_id")).ok().await;
}

#[tokio::test]
async fn encoding_more_than_is_needed_names_the_same_lock() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/abc").ok().await;
    gateway.post("/locks/%61b%63").problem(423, "locked").await;
}

#[tokio::test]
async fn case_and_prefix_tell_locks_apart() {
    let gateway = TestRouter::embedded().await;
    for path in ["/locks/a", "/locks/A", "/locks/a/b", "/locks/a%25", "/locks/a%2525", "/locks/a%20", "/locks/locks/a"] {
        gateway.post(path).ok().await;
    }
}
