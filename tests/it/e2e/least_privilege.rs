//! The Redis user that the README describes: enough for everything, and for nothing else.

use redis::RedisResult;

use super::machine_to_itself;
use crate::support::{Gateway, RedisServer, eventually};

const README: &str = include_str!("../../../README.md");
const USER: &str = "redlockd";
const PASSWORD: &str = "a-long-password";

/// The rules of the user in the README, as words.
fn rules() -> Vec<&'static str> {
    let line = README.lines().find(|line| line.starts_with("user redlockd ")).expect("the README has the line of an ACL file");
    line.split_whitespace().skip(2).collect()
}

/// A server that knows nobody else.
fn server_with(rules: &[&str]) -> RedisServer {
    let server = RedisServer::start();
    server.run::<()>(&[&["ACL", "SETUSER", USER], rules].concat());
    server
}

fn gateway_on(server: &RedisServer, more: &[&str]) -> Gateway {
    let node = format!("n1=redis://{USER}:{PASSWORD}@127.0.0.1:{}", server.port());
    Gateway::start_in(&[("REDLOCKD_NODES", &node)], &[&["--node-timeout=5s", "--bootstrap"], more].concat())
}

/// Whether a gateway can do all that gateways do.
fn does_everything(gateway: &Gateway) -> bool {
    let node = &gateway.nodes()[0];
    if node["state"] != "up" {
        return false;
    }
    let grant = gateway.post("/locks/least?lease_id=chosen-by-the-client");
    let steps = [
        gateway.post("/locks/least?lease_id=chosen-by-the-client"),
        gateway.put("/locks/least?ttl=1m", "chosen-by-the-client"),
        gateway.get("/locks/least"),
        gateway.get("/locks?prefix=l"),
        gateway.delete("/locks/least", "chosen-by-the-client"),
    ];
    grant.status == 200 && steps.iter().all(|answer| answer.status == 200)
}

/// What the log says where the user may not do what telling other gateways of releases takes.
fn says_nothing_to_others(gateway: &Gateway) -> bool {
    gateway.log().contains("can't be told of releases through this node") && gateway.log().contains("may not run")
}

#[test]
fn the_user_of_the_readme_is_enough() {
    let _machine = machine_to_itself();
    let server = server_with(&rules());
    let gateway = gateway_on(&server, &[]);
    assert!(eventually("all is well", || does_everything(&gateway).then_some(true)), "{:?}", gateway.nodes());
    // It takes both commands to be told.
    let told = another_is_told(&server, &gateway);
    assert!(told && !says_nothing_to_others(&gateway), "{}", gateway.log());
}

/// Whether somebody who waits behind a second gateway gets the lock when it is released through the first.
fn another_is_told(server: &RedisServer, gateway: &Gateway) -> bool {
    let other = gateway_on(server, &[]);
    let held = gateway.post("/locks/held").ok();
    let mut client = other.client();
    let waiting = std::thread::spawn(move || client.ask("POST", "/locks/held?wait=1m", &[]).unwrap());
    eventually("the first hears that the second waits", || (0.0 < gateway.metric("redlockd_words_heard_total")).then_some(()));
    gateway.delete("/locks/held", &held.text("lease_id")).ok();
    waiting.join().unwrap().ok();
    0.0 < other.metric("redlockd_words_heard_total")
}

#[test]
fn what_is_to_be_trusted_has_to_be_read() {
    let with_config = &[&rules()[..], &["+config|get"]].concat();
    for (rules, persistence) in [(&rules(), "unknown"), (with_config, "every_change")] {
        let server = server_with(rules);
        durable(&server);
        let gateway = gateway_on(&server, &["--trust-persistence"]);
        assert_eq!(gateway.nodes()[0]["persistence"], persistence, "{rules:?}");
    }
}

#[test]
fn nothing_of_it_can_be_left_out() {
    let _machine = machine_to_itself();
    let rules = rules();
    for command in rules.iter().filter(|rule| rule.starts_with('+')) {
        let others: Vec<_> = rules.iter().copied().filter(|rule| rule != command).collect();
        let server = server_with(&others);
        let gateway = gateway_on(&server, &[]);
        if ["+publish", "+subscribe"].contains(command) {
            // Locks can be had without them, which a gateway may go on to be used for.
            eventually("all is well", || does_everything(&gateway).then_some(()));
            gateway.post("/locks/held").ok();
            assert_eq!(gateway.post("/locks/held?wait=1ms").status, 423);
            eventually(&format!("{command} is missed"), || says_nothing_to_others(&gateway).then_some(()));
        } else {
            assert!(!does_everything(&gateway), "{command} is not needed");
        }
    }
}

#[test]
fn it_can_do_nothing_else() {
    let server = server_with(&rules());
    server.run::<()>(&["SET", "another:key", "of another program"]);
    let client = redis::Client::open(format!("redis://{USER}:{PASSWORD}@127.0.0.1:{}", server.port())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut run = |command: &[&str]| -> RedisResult<redis::Value> { redis::cmd(command[0]).arg(&command[1..]).query(&mut connection) };
    for command in [
        &["GET", "another:key"][..],
        &["SET", "another:key", "x"],
        &["DEL", "another:key"],
        &["EVAL", "return redis.call('GET', KEYS[1])", "1", "another:key"],
        &["EVAL", "return redis.call('FLUSHALL')", "0"],
        &["KEYS", "*"],
        &["FLUSHALL"],
        &["FLUSHDB"],
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
        &["CONFIG", "GET", "requirepass"],
        &["SHUTDOWN", "NOSAVE"],
        &["REPLICAOF", "127.0.0.1", "1"],
        &["ACL", "LIST"],
        &["SCRIPT", "FLUSH"],
        &["SUBSCRIBE", "another"],
        &["MONITOR"],
    ] {
        let refused = run(command).unwrap_err().to_string();
        // Versions differ in the words for a command and for a key, and in a script.
        let forbidden = ["NOPERM", "no permissions", "No permissions", "can't run this command", "can't access at least one"];
        assert!(forbidden.iter().any(|words| refused.contains(words)), "{command:?}: {refused}");
    }
    assert_eq!(server.run::<String>(&["GET", "another:key"]), "of another program");
}

fn durable(server: &RedisServer) {
    for (name, value) in [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")] {
        server.run::<()>(&["CONFIG", "SET", name, value]);
    }
    // While it begins its log nobody can tell, whatever the rights.
    eventually("its log is begun", || {
        let info: String = server.run(&["INFO", "persistence"]);
        (info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")).then_some(())
    });
}
