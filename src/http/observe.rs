//! Counts, times and traces every request, refuses those that are too many, and sends clients elsewhere while the gateway drains.
//!
//! Never its path or query, which may name locks and lease ids.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::debug;

use super::correlation::Correlation;
use super::probes::is_watching;
use super::problem::{Problem, only_problems};
use super::state::{AppState, Draining};
use crate::metrics::Metrics;

/// A layer of its own rather than a middleware function, which would allocate and copy every request twice more.
#[derive(Clone)]
pub struct ObserveLayer {
    metrics: Arc<Metrics>,
    draining: Draining,
    max_requests: usize,
    is_audited: bool,
}

impl ObserveLayer {
    pub fn new(state: &AppState) -> Self {
        Self {
            metrics: Arc::clone(&state.metrics),
            draining: state.draining.clone(),
            max_requests: state.settings.max_requests,
            is_audited: state.audit.is_on(),
        }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub struct Observe<S> {
    inner: S,
    layer: ObserveLayer,
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

    fn call(&mut self, mut request: Request) -> Self::Future {
        let method = method_label(request.method());
        let route = request.extensions().get::<MatchedPath>().map_or("other", |path| route_label(path.as_str()));
        let ObserveLayer { metrics, draining, max_requests, is_audited } = &self.layer;
        let is_bounded = !is_watching(route);
        let in_flight = InFlight::enter(Arc::clone(metrics), is_bounded);
        let is_let_in = !is_bounded || metrics.http_in_flight.get() <= *max_requests as i64;
        let correlation = Correlation::of(&mut request, method, route, *is_audited);
        let answer = is_let_in.then(|| self.inner.call(request));
        Observed { answer, max_requests: *max_requests, method, route, begun: Instant::now(), correlation, in_flight, draining: draining.clone() }
    }
}

pin_project! {
    /// A request under way.
    pub struct Observed<F> {
        // None if there are more than `max_requests`.
        #[pin]
        answer: Option<F>,
        max_requests: usize,
        method: &'static str,
        route: &'static str,
        begun: Instant,
        correlation: Correlation,
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
        let _guards = this.correlation.enter();
        let mut response = match this.answer.as_pin_mut() {
            Some(answer) => only_problems(ready!(answer.poll(context))?.into_response()),
            None => {
                this.in_flight.metrics.limit_hit("requests");
                Problem::overloaded(*this.max_requests).into_response()
            }
        };
        if this.draining.is_on() {
            // The connection will be closed, perhaps while a request is on its way: the next one is to go elsewhere.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let (route, method, status) = (*this.route, *this.method, response.status());
        this.correlation.answered(status, response.headers_mut());
        let elapsed = this.begun.elapsed();
        let metrics = &this.in_flight.metrics;
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => metrics.limit_hit("body"),
            StatusCode::REQUEST_TIMEOUT => metrics.limit_hit("body_time"),
            _ => {}
        }
        metrics.http_requests.with_label_values(&[route, method, status.as_str()]).inc();
        metrics.http_seconds.with_label_values(&[route, method]).observe(elapsed.as_secs_f64());
        debug!(method, route, status = status.as_u16(), elapsed_us = elapsed.as_micros() as u64, "request");
        Poll::Ready(Ok(response))
    }
}

/// Counts down even when the client goes away and the future is dropped.
struct InFlight {
    metrics: Arc<Metrics>,
    is_counted: bool,
}

impl InFlight {
    fn enter(metrics: Arc<Metrics>, is_counted: bool) -> Self {
        metrics.http_in_flight.add(is_counted.into());
        Self { metrics, is_counted }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.http_in_flight.sub(self.is_counted.into());
    }
}

/// A few routes only, so that nobody can fill the memory with labels.
fn route_label(path: &str) -> &'static str {
    match path {
        "/locks/{*key}" | "/locks/" => "/locks/{key}",
        "/locks" => "/locks",
        "/semaphores/{*key}" | "/semaphores/" => "/semaphores/{key}",
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
