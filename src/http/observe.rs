//! Counts and times every request. Never its path or query, which may name locks and lease ids.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use tracing::debug;

use super::problem::only_problems;
use super::state::AppState;

pub async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let method = method_label(request.method());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("other", |path| route_label(path.as_str()));
    let begun = Instant::now();
    let _in_flight = InFlight::enter(&state);
    let response = only_problems(next.run(request).await);
    let status = response.status();
    let elapsed = begun.elapsed();
    state.metrics.http_requests.with_label_values(&[route, method, status.as_str()]).inc();
    state.metrics.http_seconds.with_label_values(&[route, method]).observe(elapsed.as_secs_f64());
    debug!(method, route, status = status.as_u16(), elapsed_us = elapsed.as_micros() as u64, "request");
    response
}

/// Counts down even when the client goes away and this future is dropped.
struct InFlight<'a>(&'a AppState);

impl<'a> InFlight<'a> {
    fn enter(state: &'a AppState) -> Self {
        state.metrics.http_in_flight.inc();
        Self(state)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.http_in_flight.dec();
    }
}

/// A few routes only, so that nobody can fill the memory with labels.
fn route_label(path: &str) -> &'static str {
    match path {
        "/locks/{*key}" | "/locks/" => "/locks/{key}",
        "/locks" => "/locks",
        "/nodes" => "/nodes",
        "/livez" => "/livez",
        "/readyz" => "/readyz",
        "/metrics" => "/metrics",
        "/openapi.json" => "/openapi.json",
        path if path.starts_with("/docs") => "/docs",
        _ => "other",
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        _ => "other",
    }
}
