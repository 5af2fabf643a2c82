//! Traces: a span for every request, and one for every call to a node that is made for it.
//!
//! Where nobody wants them a span costs a look at a variable. A span never says which lock it is about.

use std::fmt::Display;
use std::sync::OnceLock;

use hyper::{HeaderMap, StatusCode};
use opentelemetry::context::FutureExt;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, TraceId, Tracer};
use opentelemetry::{Context, ContextGuard, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use tracing::Instrument;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Something under way, which is over when this is dropped.
#[must_use]
pub struct Span(Option<Context>);

/// What calls to nodes are made for, however long they outlive it.
#[derive(Clone, Default)]
pub struct Cause(Option<Context>);

/// Traces from now on. Only the first tracer of a process is used.
pub fn trace_with(tracer: SdkTracer) {
    // Only tests start twice in one process; the first one wins.
    let _ = TRACER.set(tracer);
}

/// The trace that a client says its request is part of, in `traceparent`.
pub fn trace_of(headers: &HeaderMap) -> Option<TraceId> {
    id_of(&client(headers))
}

/// `future` as part of what is being done here, when it is to go on in a task of its own.
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    future.with_current_context().instrument(tracing::Span::current())
}

impl Span {
    /// A request. It becomes part of its client's trace, if that has one.
    pub fn of_request(method: &'static str, route: &'static str, headers: &HeaderMap) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let client = client(headers);
        let span = tracer
            .span_builder(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("http.request.method", method), KeyValue::new("http.route", route)])
            .start_with_context(tracer, &client);
        Self(Some(client.with_span(span)))
    }

    /// Until the guard is dropped, what is done on this thread is done for this.
    pub fn enter(&self) -> Option<ContextGuard> {
        self.0.clone().map(Context::attach)
    }

    pub fn trace_id(&self) -> Option<TraceId> {
        self.0.as_ref().and_then(id_of)
    }

    /// Says in the headers of an answer which span it is of.
    pub fn announce(&self, headers: &mut HeaderMap) {
        if let Some(context) = &self.0 {
            TraceContextPropagator::new().inject_context(context, &mut HeaderInjector(headers));
            // What the client said itself, or nothing.
            headers.remove("tracestate");
        }
    }

    /// How a request was answered.
    pub fn answered(&self, status: StatusCode) {
        self.set("http.response.status_code", i64::from(status.as_u16()));
        if let (Some(context), true) = (&self.0, status.is_server_error()) {
            context.span().set_status(Status::error(""));
        }
    }

    /// How a node voted, in a word.
    pub fn voted(&self, vote: &'static str) {
        self.set("redlockd.vote", vote);
    }

    fn set(&self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

impl Cause {
    /// What is being done on this thread.
    pub fn current() -> Self {
        TRACER.get().map_or_else(Self::default, |_| Self(Some(Context::current()).filter(Context::has_active_span)))
    }

    /// A call to a node for this. `command` is its name.
    pub fn call(&self, node: &impl Display, command: &'static str) -> Span {
        let (Some(tracer), Some(cause)) = (TRACER.get(), &self.0) else { return Span(None) };
        let node = KeyValue::new("redlockd.node", node.to_string());
        let span = tracer.span_builder(command).with_kind(SpanKind::Client).with_attributes([node]).start_with_context(tracer, cause);
        Span(Some(cause.with_span(span)))
    }
}

fn client(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers))
}

fn id_of(context: &Context) -> Option<TraceId> {
    Some(context.span().span_context().trace_id()).filter(|id| *id != TraceId::INVALID)
}
