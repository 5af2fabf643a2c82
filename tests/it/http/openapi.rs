//! The document that describes all of this, and the page that shows it.

use axum::http::Method;
use serde_json::Value;

use crate::support::TestRouter;

const COMMITTED: &str = include_str!("../../../openapi/openapi.json");

fn document() -> Value {
    serde_json::from_str(COMMITTED).unwrap()
}

#[test]
fn the_committed_document_is_the_generated_one() {
    let generated = redlockd::http::openapi().to_pretty_json().unwrap() + "\n";
    assert!(generated == COMMITTED, "openapi/openapi.json is old; make it anew: cargo run -- openapi > openapi/openapi.json");
}

#[tokio::test]
async fn the_served_document_is_the_committed_one() {
    let gateway = TestRouter::embedded().await;
    assert_eq!(gateway.get("/openapi.json").ok().await.json, document());
}

#[tokio::test]
async fn every_operation_of_the_document_answers_as_it_says() {
    let gateway = TestRouter::embedded().await;
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = gateway.ask(method, &path.replace("{key}", "orders/42")).send().await;
            let promised = &operation["responses"][answer.status.to_string()];
            let content = answer.header("Content-Type").unwrap().split(';').next().unwrap();
            assert!(promised["content"][content].is_object(), "{path}: {} {content}: {}", answer.status, answer.text);
        }
    }
}

#[test]
fn what_there_may_be_too_many_of_is_in_the_document() {
    for path in ["/locks/{key}", "/locks", "/semaphores/{key}"] {
        let described = document()["paths"][path]["post"]["responses"]["429"]["description"].to_string();
        assert!(["too_many_waiters", "too_many_holders", "rate_limited"].iter().all(|code| described.contains(code)), "{path}: {described}");
    }
}

/// What the elements of a page fetch.
fn sources(html: &str) -> Vec<&str> {
    let after = |attribute| html.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap());
    after("src=\"").chain(after("href=\"")).collect()
}

#[tokio::test]
async fn the_documentation_asks_no_other_host() {
    let gateway = TestRouter::embedded().await;
    assert_eq!(gateway.get("/docs").send().await.header("Location"), Some("/docs/"));
    let page = gateway.get("/docs/").ok().await;
    assert_eq!(page.header("Content-Type"), Some("text/html"));
    assert!(sources(&page.text).len() >= 5, "{}", page.text);
    for source in sources(&page.text) {
        assert!(!source.contains("//"), "{source} is elsewhere");
        gateway.get(&format!("/docs/{}", source.trim_start_matches("./"))).ok().await;
    }
    let initializer = gateway.get("/docs/swagger-initializer.js").ok().await.text;
    assert!(initializer.contains("\"/openapi.json\"") && !initializer.contains("http"), "{initializer}");
    assert!(initializer.contains(r#""validatorUrl": "none""#), "the validator is on another host: {initializer}");
}
