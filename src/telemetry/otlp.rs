//! Sends spans to a collector by OTLP over HTTP, as the variables of OpenTelemetry say.

use std::env;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tokio::task::JoinError;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::http_client::{self, HttpUrl, SendError, UrlError};
use crate::trace;

/// Traces that are being sent.
pub struct Traces(SdkTracerProvider);

/// Why traces can't be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("{name}: {error}")]
    Endpoint { name: &'static str, error: UrlError },
    #[error("{name}: spans are sent as http/protobuf, and as nothing else")]
    Protocol { name: &'static str },
    #[error("cannot send traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The first that is set counts.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
/// How long a collector may take for a batch, which is what OTLP recommends.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of the process may wait for the last batch.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);

impl Traces {
    /// Starts to send, if the environment names a collector. What goes over the network is done on `runtime`.
    pub fn from_environment(runtime: &Handle) -> Result<Option<Self>, TracesError> {
        let is_off = set("OTEL_SDK_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none");
        let Some((name, endpoint)) = first(ENDPOINTS).filter(|_| !is_off) else { return Ok(None) };
        endpoint.parse::<HttpUrl>().map_err(|error| TracesError::Endpoint { name, error })?;
        if let Some((name, _)) = first(PROTOCOLS).filter(|(_, protocol)| protocol != "http/protobuf") {
            return Err(TracesError::Protocol { name });
        }
        let exporter =
            SpanExporter::builder().with_http().with_http_client(Client { runtime: runtime.clone(), is_failing: AtomicBool::new(false) }).build()?;
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build();
        trace::start(provider.tracer(env!("CARGO_PKG_NAME")));
        info!("a trace of every request goes to the collector that {name} names");
        Ok(Some(Self(provider)))
    }

    /// Sends what is left. Blocks.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_TIMEOUT) {
            warn!("the last traces are lost: {error}");
        }
    }
}

fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let is_named = set("OTEL_SERVICE_NAME").is_some() || set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    let builder = Resource::builder().with_attribute(version);
    if is_named { builder.build() } else { builder.with_service_name(env!("CARGO_PKG_NAME")).build() }
}

fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

fn first(names: [&'static str; 2]) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| set(name).map(|text| (name, text)))
}

/// Takes batches from the exporter, whose thread is not one of the runtime.
#[derive(Debug)]
struct Client {
    runtime: Handle,
    is_failing: AtomicBool,
}

/// Why a collector did not take a batch.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("no answer within {}", humantime::format_duration(EXPORT_TIMEOUT))]
    TooLate(#[from] Elapsed),
    #[error("the task that sends was ended")]
    Ended(#[from] JoinError),
}

impl Client {
    /// Tells the log once when traces begin to be lost, and once when they don't any more.
    fn notice(&self, problem: Option<&dyn Display>) {
        match (problem, self.is_failing.swap(problem.is_some(), Ordering::Relaxed)) {
            (Some(problem), false) => warn!("the collector of traces does not take them: {problem}"),
            (None, true) => info!("the collector takes traces again"),
            _ => {}
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = self.runtime.spawn(async { timeout(EXPORT_TIMEOUT, http_client::send(request)).await });
        let answer = async { Ok::<_, NotTaken>(sending.await???) }.await;
        match &answer {
            Ok(response) if response.status().is_success() => self.notice(None),
            Ok(response) => self.notice(Some(&format_args!("it answers {}", response.status()))),
            Err(problem) => self.notice(Some(problem)),
        }
        Ok(answer?)
    }
}
