//! `redlockd doctor`: what a gateway would make of the nodes, found without touching them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{machine_to_itself, redis_servers};
use crate::support::{Gateway, RedisServer, redlockd};

/// Exit code and JSON.
fn doctor(nodes: &[String], arguments: &[&str]) -> (i32, Value) {
    let directory = tempfile::tempdir().unwrap();
    let nodes = nodes.iter().enumerate().map(|(index, url)| format!("--node=n{}={url}", index + 1));
    let output = redlockd(directory.path()).args(["doctor", "--json", "--node-timeout=5s"]).args(nodes).args(arguments).output().unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), document)
}

fn urls(servers: &[RedisServer]) -> Vec<String> {
    servers.iter().map(RedisServer::url).collect()
}

/// The codes of the findings, with the nodes that they are about.
fn codes(document: &Value) -> BTreeSet<String> {
    let findings = document["findings"].as_array().unwrap().iter();
    findings.map(|found| format!("{} {}", found["code"].as_str().unwrap(), found["node"].as_str().unwrap_or("all"))).collect()
}

fn set<const N: usize>(codes: [&str; N]) -> BTreeSet<String> {
    codes.map(str::to_owned).into()
}

#[test]
fn servers_that_nobody_used_are_looked_at_and_left_as_they_are() {
    let servers = redis_servers::<3>();
    let (code, document) = doctor(&urls(&servers), &[]);
    // Until they have been quarantined, nobody can get a lock.
    assert_eq!(code, 2, "{document}");
    let of_each = |code: &str| (1..=3).map(|node| format!("{code} n{node}")).collect::<BTreeSet<_>>();
    assert_eq!(codes(&document), &of_each("quarantined") | &set(["one_host all", "no_quorum all"]));
    assert!(document["nodes"][0]["version"].is_string() && document["nodes"][0]["run_id"].is_string(), "{document}");
    servers.iter().for_each(|server| assert_eq!(server.run::<Vec<String>>(&["KEYS", "*"]), [""; 0]));

    let (_, bootstrapped) = doctor(&urls(&servers), &["--bootstrap"]);
    assert_eq!(codes(&bootstrapped), set(["one_host all"]));
    let (_, trusted) = doctor(&urls(&servers), &["--bootstrap", "--trust-persistence"]);
    assert_eq!(codes(&trusted), &of_each("not_durable") | &set(["one_host all"]));
}

#[test]
fn what_is_unsafe_has_an_exit_code_of_its_own() {
    let evicting = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let twice = RedisServer::start();
    let nodes = [evicting.url(), twice.url(), format!("redis://localhost:{}", twice.port())];
    let (code, document) = doctor(&nodes, &["--bootstrap"]);
    assert_eq!(code, 2, "{document}");
    let found = codes(&document);
    assert!(found.is_superset(&set(["refused n1", "same_server all"])), "{found:?}");
}

#[test]
fn settings_that_differ_between_gateways_are_found_and_so_is_a_node_that_is_away() {
    let _machine = machine_to_itself();
    let mut servers = redis_servers::<3>();
    let _gateway = Gateway::on(&servers, &["--max-ttl=1m", "--node-timeout=5s"]);
    servers[2].kill();
    let (code, document) = doctor(&urls(&servers), &["--max-ttl=2m"]);
    assert_eq!(code, 2);
    assert!(codes(&document).is_superset(&set(["refused n1", "refused n2", "down n3", "no_quorum all"])), "{document}");
    // One that trusts disks would decide for one that does not.
    let (_, trusting) = doctor(&urls(&servers), &["--max-ttl=1m", "--trust-persistence"]);
    assert!(codes(&trusting).is_superset(&set(["refused n1", "refused n2"])), "{trusting}");
    let reason = document["nodes"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("max_ttl 1m") && reason.contains("2m"), "{reason}");
}

#[test]
fn a_gateway_finds_the_same_and_counts_it() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<2>();
    let gateway = Gateway::on(&servers, &["--node-timeout=5s"]);
    let (_, document) = doctor(&urls(&servers), &[]);
    // A test's gateway was told to bootstrap, and goes on saying so.
    let of_gateway = codes(&gateway.get("/nodes").ok().json());
    assert_eq!(of_gateway, &codes(&document) | &set(["bootstrap_left_on all"]));
    assert_eq!(codes(&doctor(&urls(&servers), &["--bootstrap"]).1), of_gateway);
    assert!(of_gateway.contains("even_nodes all"));
    let count = "redlockd_findings{code=\"one_host\",severity=\"warning\"} 1";
    assert!(gateway.get("/metrics").ok().body.contains(count), "{count}");
}

/// What is over: the doctor must see what the gateway sees, that they vote again.
#[test]
fn nodes_that_evicted_or_followed_once_are_not_quarantined_for_ever() {
    const SHORT: &[&str] = &["--max-ttl=1s", "--default-ttl=500ms", "--clock-window=50ms"];
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, SHORT);
    for (name, value) in [("maxmemory-policy", "volatile-ttl"), ("maxmemory", "1")] {
        servers[0].run::<()>(&["CONFIG", "SET", name, value]);
    }
    // It evicts what will expire, and has no room all the same.
    assert!(redis::cmd("SET").arg("another").arg("x").query::<()>(&mut servers[0].connect()).is_err());
    gateway.until_nodes_are("refused", 1);
    for (name, value) in [("maxmemory", "0"), ("maxmemory-policy", "noeviction")] {
        servers[0].run::<()>(&["CONFIG", "SET", name, value]);
    }
    // Nobody answers there, so it keeps what it has.
    servers[1].run::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    gateway.until_nodes_are("refused", 1);
    servers[1].run::<()>(&["REPLICAOF", "NO", "ONE"]);
    gateway.until_nodes_are("up", 3);
    let (_, document) = doctor(&urls(&servers), &[SHORT, &["--bootstrap"]].concat());
    let states: Vec<_> = document["nodes"].as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["up"; 3], "{document}");
}

#[test]
fn a_node_without_memory_is_no_node_that_is_down() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let gateway = Gateway::on(&servers, &["--node-timeout=5s"]);
    servers[..2].iter().for_each(|server| server.run::<()>(&["CONFIG", "SET", "maxmemory", "1mb"]));
    gateway.until_nodes_are("refused", 2);
    let (code, document) = doctor(&urls(&servers), &[]);
    let expected = set(["refused n1", "refused n2", "no_quorum all"]);
    for found in [&document, &gateway.get("/nodes").ok().json()] {
        assert!(codes(found).is_superset(&expected), "{found}");
        assert!(found["nodes"][0]["reason"].as_str().unwrap().contains("out of memory"), "{found}");
    }
    assert_eq!(code, 2);
}

#[test]
fn what_is_on_disk_is_told_whether_it_is_trusted_or_not() {
    let always = ["--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "no"];
    let servers = [RedisServer::start(), RedisServer::start_with(&["--appendonly", "yes"]), RedisServer::start_with(&always)];
    let (_, document) = doctor(&urls(&servers), &["--bootstrap"]);
    let told: Vec<_> = document["nodes"].as_array().unwrap().iter().map(|node| node["persistence"].as_str().unwrap()).collect();
    assert_eq!(told, ["not_every_change", "not_every_change", "every_change"]);
    // A gateway that does not trust disks looks no further than what everybody may see.
    let gateway = Gateway::on(&servers, &["--node-timeout=5s"]);
    assert_eq!(
        gateway.nodes().iter().map(|node| node["persistence"].as_str().unwrap()).collect::<Vec<_>>(),
        ["not_every_change", "unknown", "unknown"]
    );
}

#[test]
fn a_mistake_of_usage_is_not_taken_for_a_finding() {
    let directory = tempfile::tempdir().unwrap();
    let code = |arguments: &[&str]| redlockd(directory.path()).args(arguments).output().unwrap().status.code();
    assert_eq!([code(&["doctor", "--nope"]), code(&["exec", "--nope"]), code(&["bench", "--nope"])], [Some(3), Some(125), Some(2)]);
    assert_eq!(code(&["doctor", "--help"]), Some(0));
}

#[test]
fn what_is_not_there_is_not_examined() {
    let directory = tempfile::tempdir().unwrap();
    let output = redlockd(directory.path()).args(["doctor", "--data-dir=nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no nowhere/node.redb"), "{output:?}");
}

#[test]
fn without_nodes_it_speaks_of_the_embedded_one_and_disturbs_nobody() {
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    let data = format!("--data-dir={}/redlockd-data", gateway.directory().display());
    let (code, document) = doctor(&[], &[&data]);
    assert_eq!((code, codes(&document)), (1, set(["one_node all"])));
    assert_eq!(codes(&gateway.get("/nodes").ok().json()), set(["one_node all"]));
}
