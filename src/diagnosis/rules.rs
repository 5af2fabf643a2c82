//! The rules, one function each. A finding says what is, why it matters for safety, and what to do.

use std::net::IpAddr;
use std::time::Duration;

use super::{Diagnosis, Finding, Severity};
use crate::lease::Quorum;
use crate::node::{NodeState, Persistence};
use crate::redlock::NodeView;

/// `SET … GET` and `KEEPTTL`, which the voting script uses, came with it.
const OLDEST_REDIS: (u64, u64) = (6, 2);
/// Close enough to its limit that the node will soon refuse to write, and then does not vote.
const NEARLY_FULL_PERCENT: u64 = 80;

/// What is to be said about the nodes together.
pub fn of_all(diagnosis: &Diagnosis, nodes: &[NodeView]) -> Vec<Finding> {
    [no_majority(nodes), one_node(diagnosis, nodes), even(nodes), one_host(diagnosis), twins(nodes), bootstrap_left_on(diagnosis)]
        .into_iter()
        .flatten()
        .collect()
}

/// What is to be said about one of them.
pub fn of_one(diagnosis: &Diagnosis, node: &NodeView) -> Vec<Finding> {
    let rules = [state, too_old, has_evicted, nearly_full, has_replicas];
    let of_settings = [forgets(diagnosis, node), clock(diagnosis, node), slow(diagnosis, node)];
    rules.into_iter().map(|rule| rule(node)).chain(of_settings).flatten().collect()
}

fn finding(severity: Severity, code: &'static str, problem: impl Into<String>, why: &'static str, advice: &'static str) -> Finding {
    Finding { severity, code, node: None, problem: problem.into(), why, advice }
}

fn about(node: &NodeView, finding: Finding) -> Option<Finding> {
    Some(Finding { node: Some(node.name.clone()), ..finding })
}

fn no_majority(nodes: &[NodeView]) -> Option<Finding> {
    let quorum = Quorum::of(nodes.len());
    let voting = nodes.iter().filter(|node| node.status.state == NodeState::Up).count();
    (voting < quorum.required()).then(|| {
        let problem = format!("{voting} of {} nodes vote and {} are required", nodes.len(), quorum.required());
        let advice = "See what is said about each; nodes that never granted a lock need no quarantine if the gateway is started with bootstrap.";
        finding(Severity::Unsafe, "no_quorum", problem, "Nobody can get a lock.", advice)
    })
}

fn one_node(diagnosis: &Diagnosis, nodes: &[NodeView]) -> Option<Finding> {
    let (problem, why) = match (nodes.len(), diagnosis.hosts.is_empty()) {
        (1, true) => ("locks are kept on one embedded node", "They survive a restart, but not the loss of this machine."),
        (1, false) => ("there is one node", "While it is down, nobody can get a lock."),
        _ => return None,
    };
    Some(finding(Severity::Warning, "one_node", problem, why, "Use three or five independent Redis or Valkey servers."))
}

fn even(nodes: &[NodeView]) -> Option<Finding> {
    (1 < nodes.len() && nodes.len().is_multiple_of(2)).then(|| {
        let problem = format!("{} is an even number of nodes", nodes.len());
        finding(Severity::Warning, "even_nodes", problem, "It survives no more failures than one node less.", "Use three or five nodes.")
    })
}

/// The machine that most nodes share, if with it a majority goes.
fn one_host(diagnosis: &Diagnosis) -> Option<Finding> {
    let on = |host: &String| diagnosis.hosts.iter().filter(|other| is_same_host(other, host)).count();
    let host = diagnosis.hosts.iter().max_by_key(|host| on(host))?;
    let (together, nodes) = (on(host), diagnosis.hosts.len());
    (1 < together && Quorum::of(nodes).required() <= together).then(|| {
        let problem = format!("{together} of {nodes} nodes are on {host}");
        finding(Severity::Warning, "one_host", problem, "They fail together, and the majority with them.", "Put each on a machine of its own.")
    })
}

fn is_same_host(one: &str, other: &str) -> bool {
    let is_here = |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    one == other || is_here(one) && is_here(other)
}

fn twins(nodes: &[NodeView]) -> Option<Finding> {
    let run_id = |node: &NodeView| node.status.facts.as_ref().map(|facts| facts.run_id.clone()).filter(|id| !id.is_empty());
    let (one, other) = nodes.iter().enumerate().find_map(|(index, node)| {
        let id = run_id(node)?;
        nodes[..index].iter().find(|earlier| run_id(earlier).as_ref() == Some(&id)).map(|earlier| (earlier, node))
    })?;
    let problem = format!("{} and {} are one server", one.name, other.name);
    Some(finding(
        Severity::Unsafe,
        "same_server",
        problem,
        "One server would vote twice, and a majority would not be one.",
        "Give every server one entry.",
    ))
}

fn bootstrap_left_on(diagnosis: &Diagnosis) -> Option<Finding> {
    diagnosis.bootstrap_left_on.then(|| {
        let why = "A gateway that starts just after all of them have forgotten would not quarantine them, and locks could be granted twice.";
        finding(Severity::Warning, "bootstrap_left_on", "bootstrap is set although the nodes are in use", why, "Leave it out from the next start on.")
    })
}

fn state(node: &NodeView) -> Option<Finding> {
    let reason = || node.status.reason.clone().unwrap_or_else(|| "no reason is known".to_owned());
    let found = match &node.status.state {
        NodeState::Up => return None,
        NodeState::Down => finding(
            Severity::Warning,
            "down",
            format!("it can't be reached: {}", reason()),
            "It votes on nothing; one failure less can be survived.",
            "Start it, or see what is between it and the gateway.",
        ),
        NodeState::Quarantined { left } => finding(
            Severity::Warning,
            "quarantined",
            format!(
                "{}, and it does not vote for another {} s",
                node.status.reason.as_deref().unwrap_or("it may have forgotten locks"),
                left.as_secs() + 1
            ),
            "Until then one failure less can be survived.",
            "Wait. See trust_persistence for nodes that write every change to disk.",
        ),
        NodeState::Refused => finding(
            Severity::Unsafe,
            "refused",
            format!("the gateway does not use it: {}", reason()),
            "With its vote locks could be granted twice, so it has none.",
            "Mend that; it votes again by itself.",
        ),
    };
    about(node, found)
}

fn too_old(node: &NodeView) -> Option<Finding> {
    let version = node.status.facts.as_ref()?.version.strip_prefix("Redis ")?.to_owned();
    let mut numbers = version.split('.').map_while(|part| part.parse::<u64>().ok());
    let is_old = (numbers.next()?, numbers.next()?) < OLDEST_REDIS;
    let why = "The voting script needs 6.2, so every vote of this node fails.";
    is_old
        .then(|| finding(Severity::Unsafe, "too_old", format!("it is Redis {version}"), why, "Use Redis 6.2 or later, or Valkey."))
        .and_then(|found| about(node, found))
}

fn has_evicted(node: &NodeView) -> Option<Finding> {
    let evicted = node.status.facts.as_ref()?.evicted;
    let found = finding(
        Severity::Warning,
        "has_evicted",
        format!("it has evicted {evicted} keys since it was started"),
        "Locks may have been among them, so it was quarantined, and will be whenever it evicts more.",
        "Keep its maxmemory-policy at noeviction.",
    );
    (0 < evicted).then_some(found).and_then(|found| about(node, found))
}

fn nearly_full(node: &NodeView) -> Option<Finding> {
    let percent = node.status.facts.as_ref()?.memory_percent?;
    let found = finding(
        Severity::Warning,
        "nearly_full",
        format!("{percent} % of its maxmemory is in use"),
        "A node that is out of memory can't write, and does not vote.",
        "Give it more memory, or keep other data elsewhere.",
    );
    (NEARLY_FULL_PERCENT <= percent).then_some(found).and_then(|found| about(node, found))
}

/// Only where its persistence is to count: a node that is quarantined after every restart may forget.
fn forgets(diagnosis: &Diagnosis, node: &NodeView) -> Option<Finding> {
    if !diagnosis.trusts_persistence {
        return None;
    }
    let (code, problem, advice) = match node.status.facts.as_ref()?.persistence {
        Persistence::EveryChange => return None,
        Persistence::Some => (
            "not_durable",
            "not every change is on disk before it is answered",
            "If that is too long, set appendonly yes, appendfsync always and no-appendfsync-on-rewrite no.",
        ),
        Persistence::Unknown => {
            ("persistence_unknown", "how it writes to disk can't be read", "Allow its user config|get, or wait until the AOF is rewritten.")
        }
    };
    let why = "So it forgets when it dies, and is quarantined for max_ttl after every restart, although trust_persistence is set.";
    about(node, finding(Severity::Warning, code, problem, why, advice))
}

fn has_replicas(node: &NodeView) -> Option<Finding> {
    let replicas = node.status.facts.as_ref()?.replicas;
    let found = finding(
        Severity::Warning,
        "has_replicas",
        format!("it has {replicas} replicas"),
        "Promoting one at this address would lose locks that had not reached it.",
        "Let nothing fail over to a replica; the quorum takes care of a node that is gone.",
    );
    (0 < replicas).then_some(found).and_then(|found| about(node, found))
}

/// Half of the window is still safe, and time to mend it before the node is refused.
fn clock(diagnosis: &Diagnosis, node: &NodeView) -> Option<Finding> {
    let off = Duration::from_micros(node.clock_offset_us?.unsigned_abs());
    let found = finding(
        Severity::Warning,
        "clock_off",
        format!("its clock is {} ms off the median of the nodes, and {} ms are allowed", off.as_millis(), diagnosis.window.as_millis()),
        "Beyond that it is refused.",
        "Mend its time synchronisation.",
    );
    (diagnosis.window / 2 < off && off <= diagnosis.window).then_some(found).and_then(|found| about(node, found))
}

fn slow(diagnosis: &Diagnosis, node: &NodeView) -> Option<Finding> {
    let round_trip = node.status.round_trip?;
    let found = finding(
        Severity::Warning,
        "slow",
        format!("it took {} ms to answer, and {} ms are allowed", round_trip.as_millis(), diagnosis.node_timeout.as_millis()),
        "Calls that take longer count as lost, and attempts are undone.",
        "Move it closer, find what keeps it busy, or raise node_timeout.",
    );
    (diagnosis.node_timeout / 2 < round_trip).then_some(found).and_then(|found| about(node, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{NodeFacts, NodeName, NodeStatus};

    fn node(name: &str) -> NodeView {
        let facts = NodeFacts {
            version: "Redis 7.0.15".into(),
            run_id: name.into(),
            mode: "standalone".into(),
            role: "master".into(),
            eviction: "noeviction".into(),
            persistence: Persistence::EveryChange,
            replicas: 0,
            evicted: 0,
            followed: None,
            memory_percent: Some(10),
        };
        let status = NodeStatus { state: NodeState::Up, reason: None, round_trip: Some(Duration::from_millis(1)), facts: Some(facts) };
        NodeView { name: NodeName::new(name).unwrap(), status, clock_offset_us: Some(-1000) }
    }

    fn three() -> Vec<NodeView> {
        ["a", "b", "c"].map(node).into()
    }

    fn diagnosis(hosts: &[&str]) -> Diagnosis {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        Diagnosis {
            window: Duration::from_millis(500),
            node_timeout: Duration::from_millis(100),
            bootstrap_left_on: false,
            trusts_persistence: true,
            hosts,
        }
    }

    const HOSTS: &[&str] = &["a", "b", "c"];

    /// Severity and code of what is found once `alter` has happened to the first of three good nodes.
    fn found(alter: impl FnOnce(&mut NodeView)) -> Vec<(Severity, &'static str, Option<String>)> {
        let mut nodes = three();
        alter(&mut nodes[0]);
        let findings = diagnosis(HOSTS).of(&nodes);
        findings.into_iter().map(|found| (found.severity, found.code, found.node.map(|node| node.to_string()))).collect()
    }

    fn facts(node: &mut NodeView) -> &mut NodeFacts {
        node.status.facts.as_mut().unwrap()
    }

    #[test]
    fn three_good_nodes_are_clean() {
        assert_eq!(found(|_| {}), []);
    }

    #[test]
    fn what_is_wrong_with_a_node_is_found_with_its_name() {
        use Severity::{Unsafe, Warning};
        let of_a = |severity, code| vec![(severity, code, Some("a".to_owned()))];
        assert_eq!(found(|node| node.status.state = NodeState::Down), of_a(Warning, "down"));
        assert_eq!(found(|node| node.status.state = NodeState::Quarantined { left: Duration::from_secs(3) }), of_a(Warning, "quarantined"));
        assert_eq!(found(|node| node.status.state = NodeState::Refused), of_a(Unsafe, "refused"));
        assert_eq!(found(|node| facts(node).version = "Redis 6.0.16".into()), of_a(Unsafe, "too_old"));
        assert_eq!(found(|node| facts(node).version = "Redis 6.2.0".into()), []);
        assert_eq!(found(|node| facts(node).version = "Valkey 9.1.2".into()), []);
        assert_eq!(found(|node| facts(node).evicted = 1), of_a(Warning, "has_evicted"));
        assert_eq!(found(|node| facts(node).memory_percent = Some(80)), of_a(Warning, "nearly_full"));
        assert_eq!(found(|node| facts(node).memory_percent = None), []);
        assert_eq!(found(|node| facts(node).persistence = Persistence::Some), of_a(Warning, "not_durable"));
        assert_eq!(found(|node| facts(node).persistence = Persistence::Unknown), of_a(Warning, "persistence_unknown"));
        assert_eq!(found(|node| facts(node).replicas = 1), of_a(Warning, "has_replicas"));
        assert_eq!(found(|node| node.clock_offset_us = Some(250_000)), []);
        assert_eq!(found(|node| node.clock_offset_us = Some(-250_001)), of_a(Warning, "clock_off"));
        assert_eq!(found(|node| node.status.round_trip = Some(Duration::from_millis(51))), of_a(Warning, "slow"));
    }

    #[test]
    fn what_is_wrong_with_all_of_them_comes_with_the_worst_first() {
        let codes = |diagnosis: &Diagnosis, nodes: &[NodeView]| diagnosis.of(nodes).into_iter().map(|found| found.code).collect::<Vec<_>>();
        assert_eq!(codes(&diagnosis(&["localhost", "127.0.0.1", "::1"]), &three()), ["one_host"]);
        assert_eq!(codes(&diagnosis(&["a", "localhost", "127.0.0.1"]), &three()), ["one_host"]);
        assert!(codes(&diagnosis(&["a", "a", "b", "c", "d"]), &three()).is_empty());
        assert_eq!(codes(&diagnosis(&["a"]), &three()[..1]), ["one_node"]);
        assert_eq!(codes(&diagnosis(&[]), &three()[..1]), ["one_node"]);
        assert_eq!(codes(&diagnosis(&["a", "b"]), &three()[..2]), ["even_nodes"]);
        assert_eq!(codes(&Diagnosis { bootstrap_left_on: true, ..diagnosis(HOSTS) }, &three()), ["bootstrap_left_on"]);
        let mut nodes = three();
        facts(&mut nodes[1]).run_id = "a".into();
        assert_eq!(codes(&diagnosis(HOSTS), &nodes), ["same_server"]);
        let mut nodes = three();
        nodes[..2].iter_mut().for_each(|node| node.status.state = NodeState::Down);
        assert_eq!(codes(&diagnosis(HOSTS), &nodes), ["no_quorum", "down", "down"]);
    }
}
