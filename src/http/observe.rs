//! Counts and times every request, and sends clients elsewhere while the gateway drains.
//!
//! Never its path or query, which may name locks and lease ids.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::debug;

use super::problem::only_problems;
use super::state::Draining;
use crate::metrics::Metrics;

/// A layer of its own rather than a middleware function, which would allocate and copy every request twice more.
#[derive(Clone)]
pub struct ObserveLayer {
    metrics: Arc<Metrics>,
    draining: Draining,
}

impl ObserveLayer {
    pub fn new(metrics: Arc<Metrics>, draining: Draining) -> Self {
        Self { metrics, draining }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, metrics: Arc::clone(&self.metrics), draining: self.draining.clone() }
    }
}

#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    metrics: Arc<Metrics>,
    draining: Draining,
}

impl<S, R> Service<Request> for Observe<S>
where
    S: Service<Request, Response = R>,
    R: IntoResponse,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let method = method_label(request.method());
        let route = request.extensions().get::<MatchedPath>().map_or("other", |path| route_label(path.as_str()));
        let in_flight = InFlight::enter(Arc::clone(&self.metrics));
        Observed { answer: self.inner.call(request), method, route, begun: Instant::now(), in_flight, draining: self.draining.clone() }
    }
}

pin_project! {
    /// A request under way.
    pub struct Observed<F> {
        #[pin]
        answer: F,
        method: &'static str,
        route: &'static str,
        begun: Instant,
        in_flight: InFlight,
        draining: Draining,
    }
}

impl<F, R, E> Future for Observed<F>
where
    F: Future<Output = Result<R, E>>,
    R: IntoResponse,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = only_problems(ready!(this.answer.poll(context))?.into_response());
        if this.draining.is_on() {
            // The connection will be closed, perhaps while a request is on its way: the next one is to go elsewhere.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let (route, method, status) = (*this.route, *this.method, response.status());
        let elapsed = this.begun.elapsed();
        let metrics = &this.in_flight.0;
        metrics.http_requests.with_label_values(&[route, method, status.as_str()]).inc();
        metrics.http_seconds.with_label_values(&[route, method]).observe(elapsed.as_secs_f64());
        debug!(method, route, status = status.as_u16(), elapsed_us = elapsed.as_micros() as u64, "request");
        Poll::Ready(Ok(response))
    }
}

/// Counts down even when the client goes away and the future is dropped.
struct InFlight(Arc<Metrics>);

impl InFlight {
    fn enter(metrics: Arc<Metrics>) -> Self {
        metrics.http_in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.http_in_flight.dec();
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
