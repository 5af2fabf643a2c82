//! The nodes, as this gateway sees them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::options::NoOptions;
use super::problem::{AnyProblem, BodyProblem, Problem};
use super::state::AppState;
use crate::node::NodeState;
use crate::redlock::NodeView;

#[derive(Serialize, ToSchema)]
pub struct NodesBody {
    /// `one embedded node`, or `redis nodes`.
    #[schema(example = "redis nodes")]
    runs_on: &'static str,
    /// How many nodes vote now.
    #[schema(example = 5)]
    voting: usize,
    /// How many have to agree.
    #[schema(example = 3)]
    required: usize,
    nodes: Vec<NodeBody>,
}

#[derive(Serialize, ToSchema)]
pub struct NodeBody {
    #[schema(example = "n1")]
    name: String,
    /// `up`, `quarantined`, `refused` or `down`.
    #[schema(example = "up")]
    state: &'static str,
    /// Time until a quarantined node votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_in_ms: Option<u64>,
    /// Why it is down or refused, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Round trip of the last probe.
    #[schema(example = 120)]
    latency_us: Option<u64>,
    /// How far its clock is ahead of the median of all nodes.
    #[schema(example = 0.3)]
    clock_offset_ms: Option<f64>,
    #[schema(example = "Redis 7.0.15")]
    version: Option<String>,
    /// What is weak about it.
    warnings: Vec<String>,
}

impl From<NodeView> for NodeBody {
    fn from(node: NodeView) -> Self {
        let ready_in_ms = match node.status.state {
            NodeState::Quarantined { left } => Some(left.as_millis() as u64),
            _ => None,
        };
        Self {
            name: node.name.to_string(),
            state: node.status.state.as_str(),
            ready_in_ms,
            reason: node.status.reason,
            latency_us: node.status.round_trip.map(|time| time.as_micros() as u64),
            clock_offset_ms: node.clock_offset_us.map(|us| us as f64 / 1000.0),
            version: node.status.version,
            warnings: node.status.warnings,
        }
    }
}

/// Show the nodes
///
/// Whether each is reachable, certified or quarantined, and what is weak about it.
#[utoipa::path(get, path = "/nodes", tag = "operations", responses((status = 200, description = "All nodes.", body = NodesBody), AnyProblem, BodyProblem))]
pub async fn nodes(State(state): State<AppState>, _: NoOptions) -> Result<Json<NodesBody>, Problem> {
    let cluster = state.redlock.cluster();
    let nodes = cluster.nodes().into_iter().map(NodeBody::from).collect();
    Ok(Json(NodesBody { runs_on: state.runs_on.as_str(), voting: cluster.voting(), required: cluster.quorum().required(), nodes }))
}
