//! Logs, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSettings};

/// Starts to log. Libraries are heard from `warn` on only: at finer levels they may print what they send.
pub fn init(settings: LogSettings) {
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("redlockd", settings.level);
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(std::io::stderr().is_terminal());
    let layer = match settings.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // Only tests start twice in one process; the first one wins.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
