//! Answers where no handler is asked, or none can answer.

use std::any::Any;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tracing::error;

use super::{PROBLEM_JSON, Problem};

pub async fn no_such_route(uri: Uri) -> Problem {
    not_found(&uri, "locks are at /locks/{key}, semaphores at /semaphores/{key}, the documentation is at /docs")
}

pub async fn no_such_operation(uri: Uri) -> Problem {
    not_found(&uri, "this address has /metrics, /livez and /readyz only")
}

fn not_found(uri: &Uri, advice: &str) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(StatusCode::NOT_FOUND, "not_found", "Not found", format!("There is nothing at {path:?}; {advice}."))
}

pub async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!("{} is not possible here; the header Allow says what is.", request.method());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed", detail)
}

/// What whoever connects beyond the bound of `max` is told, before the connection is closed.
pub fn too_many_connections(max: usize) -> Response {
    let detail = format!("This gateway has {max} connections, as many as max_connections allows. Close those that idle, or ask another gateway.");
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", "Too many connections", detail);
    problem.retry_after(Duration::from_secs(1)).into_response()
}

/// A bug of ours: told to the log, not to the client.
pub fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = text.unwrap_or("no text"), "a handler panicked");
    Problem::internal("The gateway met a bug of its own; its log has the details. What was begun is being undone.").into_response()
}

/// Gives answers of the framework (a missing file of the documentation, say) the same form as ours.
pub fn only_problems(response: Response) -> Response {
    let status = response.status();
    let is_problem = |headers: &HeaderMap| headers.get(CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    if !(status.is_client_error() || status.is_server_error()) || is_problem(response.headers()) {
        return response;
    }
    let (code, title) = match status {
        StatusCode::NOT_FOUND => ("not_found", "Not found"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "Method not allowed"),
        status if status.is_client_error() => ("invalid_request", "Invalid request"),
        _ => ("internal", "Internal error"),
    };
    let mut problem = Problem::new(status, code, title, status.canonical_reason().unwrap_or("The request failed.")).into_response();
    if let Some(allow) = response.headers().get(ALLOW) {
        problem.headers_mut().insert(ALLOW, allow.clone());
    }
    problem
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use axum::http::HeaderValue;
    use axum::http::header::CACHE_CONTROL;

    use super::*;

    async fn assert_is_problem(response: Response, status: StatusCode, code: &str) -> serde_json::Value {
        assert_eq!((response.status(), &response.headers()[CONTENT_TYPE]), (status, &HeaderValue::from_static(PROBLEM_JSON)));
        let body: serde_json::Value = serde_json::from_slice(&to_bytes(response.into_body(), usize::MAX).await.unwrap()).unwrap();
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.as_u16().into()));
        body
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_keeps_its_text_to_the_log() {
        let body = assert_is_problem(panicked(Box::new("the secret of it")), StatusCode::INTERNAL_SERVER_ERROR, "internal").await;
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn answers_of_the_framework_become_problems() {
        let plain = |status: StatusCode| (status, [(ALLOW, "GET")], "plain text").into_response();
        for (status, code) in [
            (StatusCode::NOT_FOUND, "not_found"),
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            (StatusCode::BAD_REQUEST, "invalid_request"),
            (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        ] {
            let response = only_problems(plain(status));
            assert_eq!(response.headers()[ALLOW], "GET");
            assert_is_problem(response, status, code).await;
        }
        assert!(!only_problems(plain(StatusCode::OK)).headers().contains_key(CACHE_CONTROL));
    }
}
