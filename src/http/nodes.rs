//! The nodes, as this gateway sees them.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Admin, Anywhere};
use super::options::NoOptions;
use super::problem::{AnyProblem, BodyProblem, Problem, TooOften};
use super::state::AppState;
use crate::diagnosis::Finding;
use crate::node::{NodeFacts, NodeState};
use crate::redlock::NodeView;

#[derive(Serialize, ToSchema)]
pub struct NodesBody {
    /// `one embedded node`, or `redis nodes`.
    #[schema(example = "redis nodes")]
    runs_on: &'static str,
    /// Whom the gateway lets in: `anybody`, those with `certificates` of the authority that it trusts, or those with `tokens`
    /// or names that it knows.
    #[schema(example = "tokens")]
    lets_in: &'static str,
    /// How many nodes vote now.
    #[schema(example = 5)]
    voting: usize,
    /// How many have to agree.
    #[schema(example = 3)]
    required: usize,
    nodes: Vec<NodeBody>,
    /// What is weak or unsafe, the worst first: the same as `redlockd doctor` finds.
    findings: Vec<FindingBody>,
}

#[derive(Serialize, ToSchema)]
pub struct FindingBody {
    /// `warning`: the promises hold, but less is left that may fail; `unsafe`: a promise may not hold, or no lock can be had.
    #[schema(example = "warning")]
    severity: &'static str,
    /// For programs: stable.
    #[schema(example = "one_host")]
    code: &'static str,
    /// The node that it is about; missing if it is about all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[schema(example = "2 of 3 nodes are on 10.0.0.7")]
    problem: String,
    /// What it means for the locks.
    #[schema(example = "They fail together, so they are no more than one node.")]
    why: &'static str,
    /// What to do.
    #[schema(example = "Put each on a machine of its own.")]
    advice: &'static str,
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
    /// `master` or `slave`.
    #[schema(example = "master")]
    role: Option<String>,
    /// What is on its disk when a change is answered: `every_change`, `not_every_change` or `unknown`.
    #[schema(example = "every_change")]
    persistence: Option<&'static str>,
    /// Its maxmemory-policy.
    #[schema(example = "noeviction")]
    eviction: Option<String>,
    /// Which start of the server this is.
    run_id: Option<String>,
}

impl From<&Finding> for FindingBody {
    fn from(finding: &Finding) -> Self {
        let Finding { severity, code, node, problem, why, advice } = finding;
        Self { severity: severity.as_str(), code, node: node.as_ref().map(ToString::to_string), problem: problem.clone(), why, advice }
    }
}

impl From<&NodeView> for NodeBody {
    fn from(node: &NodeView) -> Self {
        let ready_in_ms = match node.status.state {
            NodeState::Quarantined { left } => Some(left.as_millis() as u64),
            _ => None,
        };
        let facts = node.status.facts.as_ref();
        let word = |of: fn(&NodeFacts) -> &String| facts.map(of).filter(|word| !word.is_empty()).cloned();
        Self {
            name: node.name.to_string(),
            state: node.status.state.as_str(),
            ready_in_ms,
            reason: node.status.reason.clone(),
            latency_us: node.status.round_trip.map(|time| time.as_micros() as u64),
            clock_offset_ms: node.clock_offset_us.map(|us| us as f64 / 1000.0),
            version: word(|facts| &facts.version),
            role: word(|facts| &facts.role),
            persistence: facts.map(|facts| facts.persistence.as_str()),
            eviction: word(|facts| &facts.eviction),
            run_id: word(|facts| &facts.run_id),
        }
    }
}

/// Show the nodes
///
/// Whether each is reachable, certified or quarantined, and what is weak about it.
#[utoipa::path(get, path = "/nodes", tag = "operations", responses((status = 200, description = "All nodes.", body = NodesBody), AnyProblem, TooOften, BodyProblem))]
pub async fn nodes(State(state): State<AppState>, _: Anywhere<Admin>, _: NoOptions) -> Result<Json<NodesBody>, Problem> {
    let cluster = state.redlock.cluster();
    let views = cluster.nodes();
    let findings = state.diagnosis.of(&views).iter().map(FindingBody::from).collect();
    let nodes = views.iter().map(NodeBody::from).collect();
    Ok(Json(NodesBody {
        runs_on: state.runs_on.as_str(),
        lets_in: state.guard.lets_in(),
        voting: cluster.voting(),
        required: cluster.quorum().required(),
        nodes,
        findings,
    }))
}
