//! Logs, on standard error, and traces, to a collector.

mod otlp;

use std::io::IsTerminal;

pub use otlp::{Traces, TracesError};

use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSettings};

/// Told by OpenTelemetry for every batch; [`Traces`] tells once, and why.
const FAILED_EXPORT: &str = "BatchSpanProcessor.ExportError";

/// Starts to log.
pub fn init(settings: LogSettings) {
    // Only tests start twice in one process; the first one wins.
    let _ = subscriber(settings, std::io::stderr, std::io::stderr().is_terminal()).try_init();
}

/// Logs into `writer`. Libraries are heard from `warn` on only: at finer levels they may print what they send. JSON has the
/// span in which something was logged; for people at a terminal that is no more than noise, and nobody pays for it.
pub fn subscriber<W>(settings: LogSettings, writer: W, ansi: bool) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("redlockd", settings.level);
    let layer = fmt::layer().with_writer(writer).with_target(false).with_ansi(ansi);
    let (layer, with_spans) = match settings.format {
        LogFormat::Text => (layer.boxed(), false),
        LogFormat::Json => (layer.json().flatten_event(true).with_span_list(false).boxed(), true),
    };
    // The filter alone would be asked about every library's finest events, since it names no level.
    let shown = filter_fn(move |metadata| (with_spans || metadata.is_event()) && metadata.name() != FAILED_EXPORT);
    let filter = filter.and(shown.with_max_level_hint(LevelFilter::TRACE));
    tracing_subscriber::registry().with(layer.with_filter(filter))
}
