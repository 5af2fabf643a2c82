//! Examines the nodes of a configuration without changing anything on them: what a gateway would make of each, and why.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;

use crate::app::{self, AppError};
use crate::config::Config;
use crate::diagnosis::{Diagnosis, Finding, Severity};
use crate::http::{FindingBody, NodeBody};
use crate::lease::Quorum;
use crate::node::redis::OUT_OF_MEMORY;
use crate::node::{ClusterClock, EmbeddedNode, Fault, HandshakeRefusal, Hello, Marker, NodeState, NodeStatus, State, Survey};
use crate::redlock::NodeView;

/// What was found.
pub struct Report {
    nodes: Vec<NodeView>,
    findings: Vec<Finding>,
}

/// Looks at every node once.
pub async fn examine(config: &Config) -> Result<Report, AppError> {
    let (nodes, are_used) = if config.nodes.is_empty() { (vec![embedded(&config.data_dir)?], false) } else { look_at_all(config).await? };
    let diagnosis = app::diagnosis(config);
    let bootstrap_left_on = diagnosis.bootstrap_left_on && are_used;
    let findings = Diagnosis { bootstrap_left_on, ..diagnosis }.of(&nodes);
    Ok(Report { nodes, findings })
}

/// Not opened: a gateway may be running on it.
fn embedded(data_dir: &Path) -> Result<NodeView, AppError> {
    let path = EmbeddedNode::path(data_dir);
    if !path.exists() {
        return Err(AppError::NoData(path));
    }
    let status = NodeStatus { state: NodeState::Up, reason: None, round_trip: None, facts: Some(EmbeddedNode::facts()) };
    Ok(NodeView { name: EmbeddedNode::name(), status, clock_offset_us: None })
}

/// The nodes, and whether a gateway has ever used one of them.
async fn look_at_all(config: &Config) -> Result<(Vec<NodeView>, bool), AppError> {
    let clock = Arc::new(ClusterClock::new(Quorum::of(config.nodes.len())));
    let nodes = app::redis_nodes(config, &clock)?;
    let surveys = join_all(nodes.iter().map(|(_, node)| node.survey())).await;
    let are_used = surveys.iter().any(|survey| matches!(survey, Ok(survey) if survey.marker.is_some()));
    let fresh = config.bootstrap && surveys.iter().all(|survey| matches!(survey, Ok(survey) if survey.marker.is_none()));
    let named = nodes.iter().map(|(name, _)| name.clone());
    let views = named.zip(surveys).enumerate().map(|(index, (name, survey))| {
        let clock_offset_us = clock.offset_us(index);
        let status = match survey {
            Ok(survey) => {
                let reference_us = clock.estimate_us();
                let now_us = reference_us.saturating_add_signed(clock_offset_us.unwrap_or_default());
                // A gateway that does not trust disks does not ask, and so does none that has seen memory lost.
                let is_trusted = config.trust_persistence && survey.facts.evicted == 0 && survey.facts.followed.is_none();
                let durable = survey.facts.persistence.is_durable().filter(|_| is_trusted);
                let run_id = survey.facts.memory();
                foresee(survey, now_us, &Hello { agreement: config.agreement, node: name.to_string(), run_id, reference_us, durable, fresh })
            }
            Err(fault) => {
                let state = if matches!(fault, Fault::Refused(_)) { NodeState::Refused } else { NodeState::Down };
                NodeStatus { state, reason: Some(fault.to_string()), round_trip: None, facts: None }
            }
        };
        NodeView { name, status, clock_offset_us }
    });
    Ok((views.collect(), are_used))
}

/// What the handshake of a gateway would say: the same rules, on a copy of what the node remembers.
fn foresee(survey: Survey, now_us: u64, hello: &Hello) -> NodeStatus {
    let Survey { facts, marker, high_water_us, round_trip } = survey;
    let refused = |reason: String| (NodeState::Refused, Some(reason));
    let handshake = |marker: Option<Marker>| {
        let is_new = marker.is_none();
        let mut node = State::default();
        node.restore(marker, high_water_us);
        match node.handshake(now_us, hello) {
            Ok(marker) => match Duration::from_millis(marker.ready_at_ms.saturating_sub(now_us / 1000)) {
                Duration::ZERO => (NodeState::Up, None),
                left => (NodeState::Quarantined { left }, is_new.then(|| "no gateway has used it yet".to_owned())),
            },
            Err(refusal) => refused(refusal.advice(&hello.agreement)),
        }
    };
    let full = facts.memory_percent.is_some_and(|percent| 100 <= percent).then(|| OUT_OF_MEMORY.to_owned());
    let (state, reason) = match (facts.unfit().or(full), marker.map(|text| text.parse()).transpose()) {
        (Some(reason), _) => refused(reason),
        (None, Err(_)) => refused(HandshakeRefusal::Corrupt.advice(&hello.agreement)),
        (None, Ok(marker)) => handshake(marker),
    };
    NodeStatus { state, reason, round_trip: Some(round_trip), facts: Some(facts) }
}

impl Report {
    /// 0 if nothing was found, 1 for warnings, 2 if something is unsafe.
    pub fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.severity).max() {
            None => 0,
            Some(Severity::Warning) => 1,
            Some(Severity::Unsafe) => 2,
        }
    }

    pub fn to_json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Document {
            exit_code: u8,
            findings: Vec<FindingBody>,
            nodes: Vec<NodeBody>,
        }
        let findings = self.findings.iter().map(FindingBody::from).collect();
        serde_json::to_string_pretty(&Document { exit_code: self.exit_code(), findings, nodes: self.nodes.iter().map(NodeBody::from).collect() })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let NodeStatus { state, round_trip, facts, .. } = &node.status;
            write!(f, "{}: {}", node.name, state.as_str())?;
            if let Some(facts) = facts {
                write!(f, ", {}", facts.version)?;
            }
            if let Some(round_trip) = round_trip {
                write!(f, ", answers in {:.1} ms", round_trip.as_secs_f64() * 1e3)?;
            }
            if let Some(offset_us) = node.clock_offset_us {
                write!(f, ", clock {:+.1} ms", offset_us as f64 / 1e3)?;
            }
            writeln!(f)?;
        }
        for finding in &self.findings {
            writeln!(f, "\n{}: {finding}", finding.severity.as_str())?;
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        write!(f, "\n{} unsafe, {} warnings", count(Severity::Unsafe), count(Severity::Warning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_exit_code() {
        let finding = |severity| Finding { severity, code: "code", node: None, problem: String::new(), why: "", advice: "" };
        for (severities, code) in [(vec![], 0), (vec![Severity::Warning], 1), (vec![Severity::Warning, Severity::Unsafe, Severity::Warning], 2)] {
            let report = Report { nodes: Vec::new(), findings: severities.into_iter().map(finding).collect() };
            assert_eq!(report.exit_code(), code);
        }
    }
}
