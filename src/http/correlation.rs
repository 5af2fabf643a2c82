//! What ties a request to the lines of the log about it and to the trace of its client.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::{Context, ContextGuard};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use rand::RngExt;
use tracing::{Level, error_span, span, span_enabled};

use crate::trace;

/// The client's own name for the request, or ours.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a client's name may be, in visible ASCII characters. Another is replaced by ours.
const MAX_REQUEST_ID: usize = 128;

/// A request as the log and the traces know it, until this is dropped.
pub struct Correlation(Option<Marks>);

struct Marks {
    trace: trace::Span,
    log: tracing::Span,
    request_id: RequestId,
}

/// What a request is called, for its handler.
#[derive(Clone)]
pub struct RequestId(HeaderValue);

impl Correlation {
    /// Nothing where neither the log nor traces nor an audit have a place for it. Otherwise the request gets its [`RequestId`].
    pub fn of(request: &mut Request, method: &'static str, route: &'static str, is_audited: bool) -> Self {
        // Even a log of errors only is to say what they are about.
        if !span_enabled!(Level::ERROR) && !trace::is_on() && !is_audited {
            return Self(None);
        }
        let client = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(request.headers()));
        let trace = trace::Span::of_request(|| format!("{method} {route}"), &client);
        trace.set("http.request.method", method);
        trace.set("http.route", route);
        let trace_id = trace::id_of(trace.context().unwrap_or(&client));
        let request_id = request_id(request.headers());
        let log = error_span!("request", request_id = request_id.as_str(), trace_id = trace_id.map(display));
        request.extensions_mut().insert(request_id.clone());
        Self(Some(Marks { trace, log, request_id }))
    }

    /// Until the guards are dropped, what is done on this thread is done for this request.
    pub fn enter(&self) -> Option<(Option<ContextGuard>, span::Entered<'_>)> {
        self.0.as_ref().map(|marks| (marks.trace.enter(), marks.log.enter()))
    }

    /// The request is answered: what the client is told of it.
    pub fn answered(&self, status: StatusCode, headers: &mut HeaderMap) {
        let Some(Marks { trace, request_id, .. }) = &self.0 else { return };
        headers.insert(REQUEST_ID, request_id.0.clone());
        trace.set("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            trace.fail();
        }
        if let Some(context) = trace.context() {
            TraceContextPropagator::new().inject_context(context, &mut HeaderInjector(headers));
            // What the client said itself, or nothing.
            headers.remove("tracestate");
        }
    }
}

impl RequestId {
    pub fn as_str(&self) -> Option<&str> {
        self.0.to_str().ok()
    }
}

fn request_id(headers: &HeaderMap) -> RequestId {
    let is_name = |id: &&HeaderValue| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    RequestId(headers.get(REQUEST_ID).filter(is_name).cloned().unwrap_or_else(|| {
        let id = format!("{:032x}", rand::rng().random::<u128>());
        HeaderValue::try_from(id).expect("hexadecimal digits may stand in a header")
    }))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use tracing::error;

    use super::*;
    use crate::config::{LogFormat, LogSettings};
    use crate::telemetry::subscriber;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of an error in a request that its client named.
    fn logged(format: LogFormat) -> String {
        let log = Log::default();
        let writer = log.clone();
        let settings = LogSettings { level: Level::ERROR, format };
        tracing::subscriber::with_default(subscriber(settings, move || writer.clone(), false), || {
            let mut request = Request::builder().header(REQUEST_ID, "ours-7").body(Body::empty()).unwrap();
            let correlation = Correlation::of(&mut request, "GET", "/locks", false);
            let _guards = correlation.enter();
            error!("it broke");
        });
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn even_a_log_of_errors_only_says_what_they_are_about_if_it_is_json() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!((&line["message"], &line["span"]["request_id"]), (&"it broke".into(), &"ours-7".into()));
        let text = logged(LogFormat::Text);
        assert!(text.contains("it broke") && !text.contains("ours-7"), "{text}");
    }
}
