//! Whatever goes wrong is said in `application/problem+json`.

use axum::http::Method;

use crate::support::TestRouter;

const MINE: &str = "a-lease-id-of-mine";

#[tokio::test]
async fn a_path_that_leads_nowhere_is_not_found() {
    let gateway = TestRouter::embedded().await;
    for path in ["/", "/lock/a", "/locksmith", "/livez/", "/nodes/n1", "/docs/nothing-here.js", "/docs/../nodes"] {
        gateway.get(path).problem(404, "not_found").await;
    }
}

#[tokio::test]
async fn what_is_not_found_is_named_without_its_query() {
    let gateway = TestRouter::embedded().await;
    let answer = gateway.put(&format!("/lock/a?lease_id={MINE}")).problem(404, "not_found").await;
    assert_eq!(
        answer.str("detail"),
        "There is nothing at \"/lock/a\"; locks are at /locks/{key}, semaphores at /semaphores/{key}, the documentation is at /docs."
    );
}

#[tokio::test]
async fn a_method_that_is_not_possible_is_told_which_are() {
    let gateway = TestRouter::embedded().await;
    for (method, path, allow) in [
        (Method::PATCH, "/locks/a", "DELETE GET HEAD POST PUT"),
        (Method::OPTIONS, "/locks/a", "DELETE GET HEAD POST PUT"),
        (Method::PATCH, "/locks/", "DELETE GET HEAD POST PUT"),
        (Method::PATCH, "/locks", "DELETE GET HEAD POST PUT"),
        (Method::PATCH, "/semaphores/a", "DELETE GET HEAD POST PUT"),
        (Method::DELETE, "/nodes", "GET HEAD"),
        (Method::POST, "/livez", "GET HEAD"),
        (Method::TRACE, "/readyz", "GET HEAD"),
        (Method::PUT, "/metrics", "GET HEAD"),
        (Method::POST, "/openapi.json", "GET HEAD"),
        (Method::POST, "/docs/", "GET HEAD"),
    ] {
        let words = format!("{method} is not possible here; the header Allow says what is");
        let answer = gateway.ask(method, path).problem(405, "method_not_allowed").await;
        answer.assert_says(&words, path);
        let mut allowed: Vec<_> = answer.header("Allow").unwrap().split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(" "), allow, "{path}");
    }
}

#[tokio::test]
async fn problems_are_not_stored_on_the_way() {
    let gateway = TestRouter::embedded().await;
    for path in ["/nowhere", "/docs/nowhere", "/locks/.."] {
        assert_eq!(gateway.get(path).send().await.header("Cache-Control"), Some("no-store"));
    }
}

#[tokio::test]
async fn headers_beyond_ascii_are_the_clients_mistake() {
    let gateway = TestRouter::embedded().await;
    let refused = [
        gateway.post("/locks/a").header("Idempotency-Key", "größe-0123456789"),
        gateway.put("/locks/a").lease("größe-0123456789"),
        gateway.delete("/locks/a").lease("größe-0123456789"),
        gateway.delete("/locks/a").lease(MINE).header("Fencing-Token", b"\xff"),
    ];
    for asking in refused {
        let shown = format!("{asking:?}");
        asking.problem(400, "invalid_request").await.assert_says("must be printable ASCII", &shown);
    }
}

#[tokio::test]
async fn headers_that_nobody_asked_for_are_ignored_whatever_they_hold() {
    let gateway = TestRouter::embedded().await;
    gateway.post("/locks/a").header("User-Agent", "größe").header("X-Request-Id", b"\xff\xfe").ok().await;
}
