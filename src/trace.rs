//! Traces: what was under way, from when to when, and for what.
//!
//! Where nobody wants them a span costs a look at a variable. A span never says which lock it is about.

use std::fmt::Display;
use std::sync::OnceLock;

use opentelemetry::context::FutureExt;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt, TraceId, Tracer};
use opentelemetry::{Context, ContextGuard, KeyValue, Value};
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
pub fn start(tracer: SdkTracer) {
    // Only tests start twice in one process; the first one wins.
    let _ = TRACER.set(tracer);
}

pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// The trace that `context` is part of.
pub fn id_of(context: &Context) -> Option<TraceId> {
    Some(context.span().span_context().trace_id()).filter(|id| *id != TraceId::INVALID)
}

/// `future` as part of what is being done here, when it is to go on in a task of its own.
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    future.with_current_context().instrument(tracing::Span::current())
}

impl Span {
    /// What is done for a client, and part of its trace if `client` is of one.
    pub fn of_request(name: impl FnOnce() -> String, client: &Context) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let span = tracer.span_builder(name()).with_kind(SpanKind::Server).start_with_context(tracer, client);
        Self(Some(client.with_span(span)))
    }

    /// Until the guard is dropped, what is done on this thread is done for this.
    pub fn enter(&self) -> Option<ContextGuard> {
        self.0.clone().map(Context::attach)
    }

    /// For whoever is told of it.
    pub fn context(&self) -> Option<&Context> {
        self.0.as_ref()
    }

    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// It did not do what it was for.
    pub fn fail(&self) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(""));
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
    /// What is being done on this thread. Nothing where it is not kept: then its calls aren't either.
    pub fn current() -> Self {
        if !is_on() {
            return Self::default();
        }
        Self(Some(Context::current()).filter(|context| context.span().span_context().is_sampled()))
    }

    /// A call to `node` for this. `command` is its name.
    pub fn call(&self, node: &impl Display, command: &'static str) -> Span {
        let (Some(tracer), Some(cause)) = (TRACER.get(), &self.0) else { return Span(None) };
        let node = KeyValue::new("redlockd.node", node.to_string());
        let span = tracer.span_builder(command).with_kind(SpanKind::Client).with_attributes([node]).start_with_context(tracer, cause);
        Span(Some(cause.with_span(span)))
    }
}
