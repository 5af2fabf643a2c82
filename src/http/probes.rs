//! Liveness, readiness and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Admin, Anywhere};
use super::problem::{AnyProblem, Problem, ProblemBody, TooOften};
use super::state::AppState;

#[derive(Serialize, ToSchema)]
pub struct AliveBody {
    alive: bool,
}

#[derive(Serialize, ToSchema)]
pub struct ReadyBody {
    ready: bool,
    /// `one embedded node`, or `redis nodes`.
    #[schema(example = "redis nodes")]
    runs_on: &'static str,
    #[schema(example = 5)]
    voting: usize,
    #[schema(example = 3)]
    required: usize,
    #[schema(example = 5)]
    nodes: usize,
}

/// Whether a path is asked for by what watches the gateway, and answered however busy it is: a kubelet would restart one
/// that does not, and a scraper wants to know why.
pub fn is_watching(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

/// Is the process alive
///
/// Asks no node: a gateway without a quorum is no better for being restarted.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, description = "It is.", body = AliveBody)))]
pub async fn livez() -> Json<AliveBody> {
    Json(AliveBody { alive: true })
}

/// Is the service ready
///
/// Whether a majority of the nodes votes, callers can be let in, and the gateway is not shutting down.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses(
        (status = 200, description = "A majority votes.", body = ReadyBody),
        (status = 503, description = "`no_quorum`, `draining` or `no_keys`.", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub async fn readyz(State(state): State<AppState>) -> Result<Json<ReadyBody>, Problem> {
    let cluster = state.redlock.cluster();
    let (voting, required, nodes) = (cluster.voting(), cluster.quorum().required(), cluster.quorum().nodes());
    if state.draining.is_on() {
        return Err(Problem::draining());
    }
    if !state.guard.can_know_anybody() {
        return Err(Problem::no_keys());
    }
    if voting < required {
        return Err(Problem::not_ready(voting, required, nodes));
    }
    Ok(Json(ReadyBody { ready: true, runs_on: state.runs_on.as_str(), voting, required, nodes }))
}

/// Metrics for Prometheus
///
/// In its text format. No lock, owner or lease is ever a label.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses((status = 200, description = "All series.", body = String, content_type = "text/plain"), AnyProblem, TooOften))]
pub async fn metrics(state: State<AppState>, _: Anywhere<Admin>) -> Result<Response, Problem> {
    open_metrics(state).await
}

/// The same for whoever asks.
pub async fn open_metrics(State(state): State<AppState>) -> Result<Response, Problem> {
    let cluster = state.redlock.cluster();
    state.metrics.show_quorum(cluster.voting(), cluster.quorum());
    cluster.held().show();
    let findings = state.diagnosis.of(&cluster.nodes());
    state.metrics.show_findings(findings.iter().map(|finding| (finding.severity.as_str(), finding.code)));
    let text = state.metrics.render().map_err(|_| Problem::internal("The metrics could not be written."))?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
