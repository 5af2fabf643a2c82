//! What ties a request to the lines of the log about it and to the trace of its client.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry::ContextGuard;
use rand::RngExt;
use tracing::field::{Empty, display};
use tracing::{info_span, span};

use crate::telemetry::trace;

/// The client's own name for the request, or ours.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a client's name may be, in visible ASCII characters. Another is replaced by ours.
const MAX_REQUEST_ID: usize = 128;

/// A request as the log and the traces know it, until this is dropped. Nothing where neither is wanted.
pub struct Correlation {
    trace: trace::Span,
    log: tracing::Span,
    request_id: Option<HeaderValue>,
}

impl Correlation {
    pub fn of(request: &Request, method: &'static str, route: &'static str) -> Self {
        let trace = trace::Span::of_request(method, route, request.headers());
        let log = info_span!("request", request_id = Empty, trace_id = Empty);
        if log.is_disabled() && trace.trace_id().is_none() {
            return Self { trace, log, request_id: None };
        }
        let request_id = request_id(request.headers());
        log.record("request_id", request_id.to_str().unwrap_or_default());
        if let Some(id) = trace.trace_id().or_else(|| trace::trace_of(request.headers())) {
            log.record("trace_id", display(id));
        }
        Self { trace, log, request_id: Some(request_id) }
    }

    /// Until the guards are dropped, what is done on this thread is done for this request.
    pub fn enter(&self) -> (Option<ContextGuard>, span::Entered<'_>) {
        (self.trace.enter(), self.log.enter())
    }

    /// The request is answered: what the client is told of it.
    pub fn answered(&self, status: StatusCode, headers: &mut HeaderMap) {
        self.trace.answered(status);
        self.trace.announce(headers);
        if let Some(id) = &self.request_id {
            headers.insert(REQUEST_ID, id.clone());
        }
    }
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_name = |id: &&HeaderValue| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.get(REQUEST_ID).filter(is_name).cloned().unwrap_or_else(|| {
        let id = format!("{:032x}", rand::rng().random::<u128>());
        HeaderValue::try_from(id).expect("hexadecimal digits may stand in a header")
    })
}
