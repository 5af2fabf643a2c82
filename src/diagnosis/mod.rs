//! What is weak or unsafe about the nodes: the same rules for `redlockd doctor`, `GET /nodes` and the metrics.

mod rules;

use std::fmt;
use std::time::Duration;

use crate::node::NodeName;
use crate::redlock::NodeView;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The promises hold, but less is left that may fail.
    Warning,
    /// A promise may not hold, or no lock can be had.
    Unsafe,
}

impl Severity {
    /// The word for it in JSON and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Unsafe => "unsafe",
        }
    }
}

/// Something that an operator should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub severity: Severity,
    /// For programs: stable.
    pub code: &'static str,
    /// None if it is about all of them.
    pub node: Option<NodeName>,
    pub problem: String,
    /// What it means for the locks.
    pub why: &'static str,
    pub advice: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "{node}: ")?;
        }
        write!(f, "{}. {} {}", self.problem, self.why, self.advice)
    }
}

/// What of the configuration the rules need.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// W: how far the nodes' clocks may be apart.
    pub window: Duration,
    pub node_timeout: Duration,
    /// `bootstrap` is set although a gateway has used the nodes.
    pub bootstrap_left_on: bool,
    /// Whether a node may vote at once after a restart if its disk has everything.
    pub trusts_persistence: bool,
    /// The host of every node in its order; none for the embedded node.
    pub hosts: Vec<String>,
}

impl Diagnosis {
    /// The worst first.
    pub fn of(&self, nodes: &[NodeView]) -> Vec<Finding> {
        let mut findings = rules::of_all(self, nodes);
        findings.extend(nodes.iter().flat_map(|node| rules::of_one(self, node)));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }
}
