//! Bad input: each answer says which value is wrong, what was given and what is allowed, and nothing has changed.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::Method;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use crate::support::{Asking, TestRouter};

const MINE: &str = "a-lease-id-of-mine";

/// Each must be a problem whose sentence holds the words beside it. No lock may be held before or after.
async fn assert_refused(gateway: &TestRouter, status: u16, code: &str, table: Vec<(Asking<'_>, &str)>) {
    for (asking, words) in table {
        let shown = format!("{asking:?}");
        asking.problem(status, code).await.assert_says(words, &shown);
        assert_eq!(gateway.get("/locks").ok().await["locks"], json!([]), "{shown} left a lock");
    }
}

#[tokio::test]
async fn bad_options_of_an_acquire_are_named() {
    let gateway = TestRouter::embedded().await;
    let query = |query: &str| gateway.post(&format!("/locks/a?{query}"));
    let long = |name: &str, length| query(&format!("{name}={}", "x".repeat(length)));
    let table = vec![
        (query("ttl=99ms"), "ttl: 99ms is not allowed; a ttl is 100ms to 5m"),
        (query("ttl=0s"), "ttl: 0s is not allowed; a ttl is 100ms to 5m"),
        (query("ttl=300001ms"), "ttl: 5m 1ms is not allowed; a ttl is 100ms to 5m"),
        (query("ttl=1m30s"), "ttl: \"1m30s\" is not a duration"),
        (query("ttl=1.5s"), "ttl: \"1.5s\" is not a duration"),
        (query("ttl=200500us"), "ttl: \"200500us\" is not a duration"),
        (query("ttl=s"), "ttl: \"s\" is not a duration"),
        (query("ttl=soon"), "ttl: \"soon\" is not a duration; write a whole number and a unit, such as 500ms, 30s or 5m"),
        (query("ttl=30"), "ttl: \"30\" is not a duration"),
        (query("ttl=-30s"), "ttl: \"-30s\" is not a duration"),
        (query("ttl="), "ttl: \"\" is not a duration"),
        (query("ttl"), "ttl: \"\" is not a duration"),
        (query("ttl=99999999999999999999s"), "ttl: \"99999999999999999999s\" is far too long"),
        (query("owner="), "owner: an owner has 1 to 128 bytes, this one has 0"),
        (long("owner", 129), "owner: an owner has 1 to 128 bytes, this one has 129"),
        (query("owner=a%0Ab"), "owner: an owner must not hold control characters; U+000A is one"),
        (query("lease_id="), "lease_id: a lease id has 16 to 64 characters, this one has 0"),
        (long("lease_id", 15), "lease_id: a lease id has 16 to 64 characters, this one has 15"),
        (long("lease_id", 65), "lease_id: a lease id has 16 to 64 characters, this one has 65"),
        (query("lease_id=0123456789abcde+fgh"), "lease_id: a lease id is made of A-Z a-z 0-9 - _ only; character 16 is something else"),
        (query("lease_id=0123456789abcde%C3%B6fgh"), "lease_id: a lease id is made of A-Z a-z 0-9 - _ only; character 16"),
        (query("").header("Idempotency-Key", "short"), "lease_id: a lease id has 16 to 64 characters, this one has 5"),
        (query("nosuch=1"), "\"nosuch\" is not an option here; allowed: ttl"),
        (query("TTL=30s"), "\"TTL\" is not an option here; allowed: ttl"),
        (query("=30s"), "\"\" is not an option here; allowed: ttl"),
        (query("owner=%zz"), "query: a % must be followed by two hexadecimal digits"),
        (query("owner=a%2"), "query: a % must be followed by two hexadecimal digits"),
        (query("owner=%ff"), "query: the percent-encoded bytes are not UTF-8"),
        (query("%ff=a"), "query: the percent-encoded bytes are not UTF-8"),
    ];
    assert_refused(&gateway, 400, "invalid_request", table).await;
}

#[tokio::test]
async fn an_option_that_is_given_twice_is_named() {
    let gateway = TestRouter::embedded().await;
    let query = |query: &str| gateway.post(&format!("/locks/a?{query}"));
    let with_lease = || query(&format!("lease_id={MINE}"));
    let table = vec![
        (query("ttl=30s&ttl=30s"), "ttl is given twice; give it once, in the query, the body or a header"),
        (query("ttl=30s").json(r#"{"ttl":"30s"}"#), "ttl is given twice"),
        (query("").json(r#"{"ttl":"30s","ttl":"30s"}"#), "ttl is given twice"),
        (query("owner=a&owner=b"), "owner is given twice"),
        (query("owner=a").json(r#"{"owner":"b"}"#), "owner is given twice"),
        (with_lease().json(&json!({ "lease_id": MINE }).to_string()), "lease_id is given twice"),
        (with_lease().header("Idempotency-Key", MINE), "lease_id is given twice"),
        (query("").header("Idempotency-Key", MINE).json(&json!({ "lease_id": MINE }).to_string()), "lease_id is given twice"),
        (query("").header("Idempotency-Key", MINE).header("Idempotency-Key", MINE), "idempotency-key is given twice; give it once"),
    ];
    assert_refused(&gateway, 400, "invalid_request", table).await;
}

#[tokio::test]
async fn a_wait_is_checked_wherever_it_is_said() {
    let gateway = TestRouter::embedded().await;
    let post = || gateway.post("/locks/a");
    let table = vec![
        (gateway.post("/locks/a?wait=61s"), "wait: 61s is more than 1m, the longest that this gateway lets a request wait."),
        (gateway.post("/locks/a?wait=2m"), "wait: 2m is more than 1m"),
        (gateway.post("/locks/a?wait=10"), "wait: \"10\" is not a duration"),
        (gateway.post("/locks/a?wait=-1s"), "wait: \"-1s\" is not a duration"),
        (gateway.post("/locks/a?wait="), "wait: \"\" is not a duration"),
        (gateway.post("/locks/a?wait=1s&wait=1s"), "wait is given twice"),
        (post().json(r#"{"wait":10}"#), "wait: 10 must be a string in the body"),
        (gateway.post("/locks/a?wait=10s").header("Prefer", "wait=10"), "wait is given twice"),
        (post().header("Prefer", "wait=61"), "wait: 61s is more than 1m"),
        (post().header("Prefer", "wait"), "the header prefer: wait=\"\" is not allowed; write whole seconds"),
        (post().header("Prefer", "respond-async, Wait = soon"), "the header prefer: wait=\"soon\" is not allowed"),
        (post().header("Prefer", "respond-async").header("Prefer", "wait=99999999999"), "the header prefer: wait=\"99999999999\" is not allowed"),
        (post().header("Prefer", "wait=x, x=größe"), "the header prefer: wait=\"x\" is not allowed"),
    ];
    assert_refused(&gateway, 400, "invalid_request", table).await;
}

#[tokio::test]
async fn other_preferences_are_none_of_our_business() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/a").header("Prefer", "return=minimal, await=1, größe").ok().await;
}

#[tokio::test]
async fn a_body_that_is_no_object_of_strings_is_refused() {
    let gateway = TestRouter::embedded().await;
    let json = |text: &str| gateway.post("/locks/a").json(text);
    let not_utf8 = gateway.post("/locks/a").header("Content-Type", "application/json").body(&b"{\"owner\":\"\xff\"}"[..]);
    let table = vec![
        (json("ttl=30s"), "body: it is not JSON, see line 1 column"),
        (json("{\n"), "body: it is not JSON, see line 2 column"),
        (json("{} {}"), "body: it is not JSON, see line 1 column 4"),
        (not_utf8, "body: it is not JSON"),
        (json("[]"), "body: it must be a JSON object, such as {\"ttl\":\"30s\"}"),
        (json("null"), "body: it must be a JSON object"),
        (json("\"30s\""), "body: it must be a JSON object"),
        (json(r#"{"ttl":30}"#), "ttl: 30 must be a string in the body, such as \"30s\""),
        (json(r#"{"ttl":null}"#), "ttl: null must be a string"),
        (json(r#"{"owner":["a"]}"#), "owner: it must be a string in the body"),
        (json(r#"{"nosuch":1}"#), "\"nosuch\" is not an option here"),
        (json(r#"{"lease_id":{}}"#), "lease_id: it must be a string in the body"),
        (json(r#"{"ttl":"99ms"}"#), "ttl: 99ms is not allowed; a ttl is 100ms to 5m"),
        (json(r#"{"owner":""}"#), "owner: an owner has 1 to 128 bytes, this one has 0"),
        (json(r#"{"lease_id":"short"}"#), "lease_id: a lease id has 16 to 64 characters, this one has 5"),
        (json(r#"{"nosuch":"1"}"#), "\"nosuch\" is not an option here; allowed: ttl"),
    ];
    assert_refused(&gateway, 400, "invalid_request", table).await;
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let gateway = TestRouter::embedded().await;
    let body = || gateway.post("/locks/a").body(r#"{"ttl":"30s"}"#);
    let words = "A body must be JSON: send Content-Type: application/json";
    let table = vec![
        (body(), words),
        (body().header("Content-Type", "text/plain"), words),
        (body().header("Content-Type", "application/x-www-form-urlencoded"), words),
        (body().header("Content-Type", "application/jsonp"), words),
        (body().header("Content-Type", "größe"), words),
    ];
    assert_refused(&gateway, 415, "unsupported_media_type", table).await;
}

#[tokio::test]
async fn a_body_above_64_kib_is_refused() {
    let gateway = TestRouter::embedded().await;
    let body = format!("{{}}{}", " ".repeat(64 * 1024 - 1));
    let lease = |method| gateway.ask(method, "/locks/a").lease(MINE);
    let words = "The body is larger than 65536 bytes";
    let table = vec![
        (gateway.post("/locks/a").json(&body), words),
        (lease(Method::PUT).json(&body), words),
        (lease(Method::DELETE).json(&body), words),
        (gateway.get("/locks").json(&body), words),
    ];
    assert_refused(&gateway, 413, "body_too_large", table).await;
    gateway.post("/locks/a").json(&body[..64 * 1024]).ok().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let gateway = TestRouter::embedded().await;
    let stuck = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let answer = gateway.post("/locks/a").body(stuck).problem(408, "body_timeout").await;
    assert!(answer.str("detail").starts_with("The body was not complete after 10 s"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_no_key_is_refused_by_every_method() {
    let gateway = TestRouter::embedded().await;
    let too_long = "x".repeat(513);
    for (path, words) in [
        ("", "key: the key is empty; a key is 1 to 512 bytes"),
        (&*too_long, "key: the key has 513 bytes; a key is 1 to 512 bytes"),
        ("%C3%B6".repeat(257).as_str(), "key: the key has 514 bytes"),
        (".", "key: the key has the segment \".\"; segments between slashes must not be empty, \".\" or \"..\""),
        ("..", "key: the key has the segment \"..\""),
        ("a/../b", "key: the key has the segment \"..\""),
        ("a/%2E%2e", "key: the key has the segment \"..\""),
        ("/", "key: the key has the segment \"\""),
        ("/a", "key: the key has the segment \"\""),
        ("a//b", "key: the key has the segment \"\""),
        ("a%2F%2Fb", "key: the key has the segment \"\""),
        ("a/", "key: the key has the segment \"\""),
        ("a%2F", "key: the key has the segment \"\""),
        ("a%00b", "key: the key holds the control character U+0000; control characters are not allowed"),
        ("a%0Ab", "key: the key holds the control character U+000A"),
        ("a%7F", "key: the key holds the control character U+007F"),
        ("a%C2%85b", "key: the key holds the control character U+0085"),
        ("a%", "key: a % must be followed by two hexadecimal digits; a % itself is written %25"),
        ("a%zz", "key: a % must be followed by two hexadecimal digits"),
        ("a%2", "key: a % must be followed by two hexadecimal digits"),
        ("%ff", "key: the percent-encoded bytes are not UTF-8"),
        ("a%C3", "key: the percent-encoded bytes are not UTF-8"),
        ("redlockd:fence:a", "key: the key begins with \"redlockd:\", which is kept for the gateway's own records"),
        ("redlockd%3Alock", "key: the key begins with \"redlockd:\""),
    ] {
        let ask = |method| gateway.ask(method, &format!("/locks/{path}")).lease(MINE);
        let table = [Method::POST, Method::PUT, Method::DELETE, Method::GET].map(|method| (ask(method), words));
        assert_refused(&gateway, 400, "invalid_request", table.into()).await;
    }
}

#[tokio::test]
async fn bad_options_of_a_listing_are_named() {
    let gateway = TestRouter::embedded().await;
    let query = |query: &str| gateway.get(&format!("/locks?{query}"));
    let cursor = "cursor: it is not one that this service gave out; pass next_cursor of the page before, or none for the first";
    let table = vec![
        (query("limit=0"), "limit: \"0\" is not allowed; a limit is an integer from 1 to 1000"),
        (query("limit=1001"), "limit: \"1001\" is not allowed"),
        (query("limit=-1"), "limit: \"-1\" is not allowed"),
        (query("limit=x"), "limit: \"x\" is not allowed"),
        (query("limit="), "limit: \"\" is not allowed"),
        (query("limit=1.5"), "limit: \"1.5\" is not allowed"),
        (query("limit=1&limit=1"), "limit is given twice"),
        (query("cursor="), cursor),
        (query("cursor=x"), cursor),
        (query("cursor=0.0"), cursor),
        (query("cursor=1.0."), cursor),
        (query("cursor=0.1."), cursor),
        (query("cursor=0.18446744073709551615."), cursor),
        (query("prefix=%ff"), "query: the percent-encoded bytes are not UTF-8"),
        (query("lease_id=a-lease-id-of-mine"), "\"lease_id\" is not an option here; allowed: prefix, limit, cursor"),
    ];
    assert_refused(&gateway, 400, "invalid_request", table).await;
}

#[tokio::test]
async fn what_takes_few_options_or_none_refuses_the_others() {
    let gateway = TestRouter::embedded().await;
    let words = "\"ttl\" is not an option here; allowed: wait";
    let table = vec![
        (gateway.get("/locks/a?ttl=30s"), words),
        (gateway.get("/nodes?ttl=30s"), "\"ttl\" is not an option here; allowed: nothing"),
        (gateway.get("/locks/a").json(r#"{"ttl":"30s"}"#), words),
    ];
    assert_refused(&gateway, 400, "invalid_request", table).await;
}

#[tokio::test]
async fn bad_options_of_a_holder_are_named_and_its_lease_stays_as_it_is() {
    let gateway = TestRouter::embedded().await;
    let token = gateway.post(&format!("/locks/a?ttl=1m&lease_id={MINE}")).ok().await.u64("fencing_token");
    let put = |query: &str| gateway.put(&format!("/locks/a?{query}"));
    let delete = |query: &str| gateway.delete(&format!("/locks/a?{query}"));
    let with_token = |token: &str| delete("").lease(MINE).header("Fencing-Token", token);
    let mine = format!("lease_id={MINE}");
    let missing = "lease_id is missing; send the lease id that the acquire answered, in the header Lease-Id";
    let no_token = |given: &str| format!("fencing_token: {given:?} is not a fencing token; a token is an integer from 1 to 9007199254740991");
    for (asking, words) in [
        (put(""), missing),
        (delete(""), missing),
        (put(&mine).lease(MINE), "lease_id is given twice"),
        (delete(&mine).lease(MINE), "lease_id is given twice"),
        (delete("").lease(MINE).lease(MINE), "the header lease-id is given twice"),
        (put("").lease("short"), "lease_id: a lease id has 16 to 64 characters, this one has 5"),
        (delete("").lease("short"), "lease_id: a lease id has 16 to 64 characters, this one has 5"),
        (put("ttl=99ms").lease(MINE), "ttl: 99ms is not allowed; a ttl is 100ms to 5m"),
        (put("ttl=6m").lease(MINE), "ttl: 6m is not allowed; a ttl is 100ms to 5m"),
        (put("ttl=soon").lease(MINE), "ttl: \"soon\" is not a duration"),
        (put("ttl=5m&ttl=5m").lease(MINE), "ttl is given twice"),
        (put("owner=b").lease(MINE), "\"owner\" is not an option here; allowed: ttl, lease_id"),
        (put("wait=1s").lease(MINE), "\"wait\" is not an option here; allowed: ttl, lease_id"),
        (delete("ttl=5m").lease(MINE), "\"ttl\" is not an option here; allowed: lease_id"),
        (with_token("0"), &no_token("0")),
        (with_token("-1"), &no_token("-1")),
        (with_token("x"), &no_token("x")),
        (with_token("1.0"), &no_token("1.0")),
        (with_token(""), &no_token("")),
        (with_token("9007199254740992"), &no_token("9007199254740992")),
        (with_token("1").header("Fencing-Token", "1"), "the header fencing-token is given twice"),
        (delete("fencing_token=1").lease(MINE).header("Fencing-Token", "1"), "fencing_token is given twice"),
        (delete("force=true"), "reason: force=true needs one, of 1 to 256 bytes"),
        (delete("force=true&reason="), "reason: force=true needs one"),
        (delete("force=true&reason=a%0Ab"), "reason: force=true needs one"),
        (delete(&format!("force=true&reason={}", "x".repeat(257))), "reason: force=true needs one"),
        (delete("force=yes&reason=x"), "force: \"yes\" is not allowed; write force=true"),
        (delete("force=true&reason=x").lease(MINE), "force: it is for locks whose lease you don't have"),
        (delete("reason=x").lease(MINE), "reason: it goes with force=true only"),
    ] {
        let shown = format!("{asking:?}");
        asking.problem(400, "invalid_request").await.assert_says(words, &shown);
        let holder = &gateway.get("/locks/a").ok().await["holder"];
        assert_eq!(holder["fencing_token"], token, "{shown}");
        assert!(holder["expires_in_ms"].as_u64().unwrap() <= 60_000, "{shown}: {holder}");
    }
}
