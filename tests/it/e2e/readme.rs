//! The README does what it says.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use serde_json::Value;

use super::machine_to_itself;
use crate::support::Gateway;

const README: &str = include_str!("../../../README.md");
/// Where the README's gateway listens.
const ADDRESS: &str = "127.0.0.1:8080";

/// The fenced blocks of one language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    README.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

fn shell(script: &str) -> String {
    let Output { status, stdout, stderr } = Command::new("sh").args(["-c", script]).output().unwrap();
    assert!(status.success(), "{script}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// The names in a document, with those of the objects in it, in order.
fn names(document: &Value) -> Vec<String> {
    let fields = document.as_object().unwrap().iter();
    fields.flat_map(|(name, value)| std::iter::once(name.clone()).chain(if value.is_object() { names(value) } else { Vec::new() })).collect()
}

#[test]
fn the_walk_with_curl_goes_as_printed() {
    let _machine = machine_to_itself();
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    let mut real = BTreeMap::from([(ADDRESS.to_owned(), gateway.address().to_string())]);
    let mut commands = 0;
    for block in blocks("console") {
        for step in block.split("$ ").skip(1) {
            let (command, printed) = step.split_once('\n').unwrap();
            let command = real.iter().fold(command.to_owned(), |command, (theirs, ours)| command.replace(theirs, ours));
            let answer = shell(&command);
            commands += 1;
            let (ours, theirs): (Value, Value) = (serde_json::from_str(&answer).unwrap(), serde_json::from_str(printed).unwrap());
            assert_eq!(names(&ours), names(&theirs), "{command}");
            for name in ["state", "status", "code", "title", "detail", "released", "owner", "ttl_ms", "votes"] {
                assert_eq!(ours[name], theirs[name], "{name} after {command}");
            }
            if let (Some(theirs), Some(ours)) = (theirs["lease_id"].as_str(), ours["lease_id"].as_str()) {
                real.insert(theirs.to_owned(), ours.to_owned());
            }
            if let (Some(theirs), Some(ours)) = (theirs["fencing_token"].as_u64(), ours["fencing_token"].as_u64()) {
                real.insert(theirs.to_string(), ours.to_string());
            }
        }
    }
    assert!(6 <= commands, "{commands} commands");
}

#[test]
fn the_shell_script_takes_the_lock_and_gives_it_back() {
    let _machine = machine_to_itself();
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    let script = blocks("sh").into_iter().find(|block| block.contains("nightly-report")).unwrap();
    let script = script.replace(ADDRESS, &gateway.address().to_string());
    for _ in 0..2 {
        assert_eq!(shell(&script), "the lock is ours\n");
        assert_eq!(gateway.get("/locks/nightly-report").ok().json()["state"], "free");
    }
    gateway.post("/locks/nightly-report").ok();
    assert_eq!(shell(&script), "");
    assert_eq!(gateway.get("/locks/nightly-report").ok().json()["state"], "held");
}

#[test]
fn a_command_runs_under_a_lock_as_printed() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_redlockd"));
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    let block = blocks("sh").into_iter().find(|block| block.contains("redlockd exec")).unwrap();
    let (path, server) = (program.parent().unwrap().display(), gateway.address());
    let said = shell(&format!("PATH={path}:$PATH; export REDLOCKD_SERVER=http://{server}; {block}"));
    let token = said.strip_prefix("backing up with token ").unwrap().trim_end();
    assert!(token.parse::<u64>().is_ok(), "{said}");
    assert_eq!(gateway.get("/locks/nightly-backup").ok().json()["state"], "free");
}

#[test]
fn a_connection_holds_a_lock_as_printed() {
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    let directory = tempfile::tempdir().unwrap();
    let block = blocks("sh").into_iter().find(|block| block.contains("text/event-stream")).unwrap();
    let script = format!("cd {}; {}", directory.path().display(), block.replace(ADDRESS, &gateway.address().to_string()));
    assert_eq!(shell(&script), "the lock is ours while curl runs\n");
    let is_free = || (gateway.get("/locks/nightly-import").ok().json()["state"] == "free").then_some(());
    crate::support::eventually("it is free again", is_free);
}

#[test]
fn a_lock_is_watched_as_printed() {
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    gateway.post("/locks/orders/42").ok();
    let block = blocks("sh").into_iter().find(|block| block.contains("sed -n")).unwrap();
    // It goes on until somebody ends it.
    let script = block.replace(ADDRESS, &gateway.address().to_string()).replace("curl ", "timeout 2 curl ");
    assert_eq!(shell(&script), "state\n");
}

#[test]
fn a_token_is_made_and_used_as_printed() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_redlockd"));
    let directory = tempfile::tempdir().unwrap();
    let block = blocks("sh").into_iter().find(|block| block.contains("token new")).unwrap();
    let (make, rest) = block.split_once('\n').unwrap();
    let (serve, ask) = rest.split_once('\n').unwrap();
    let here = format!("set -e; PATH={}:$PATH; cd {}; ", program.parent().unwrap().display(), directory.path().display());
    let token = shell(&format!("{here}{make}; printf %s \"$token\""));
    let file = directory.path().join("tokens.toml");
    assert_eq!(serve, "redlockd --tokens-file tokens.toml &");
    let gateway = Gateway::start(&["--node-timeout=5s", "--tokens-file", file.to_str().unwrap()]);
    let answer: Value = serde_json::from_str(&shell(&format!("token={token}; {}", ask.replace(ADDRESS, &gateway.address().to_string())))).unwrap();
    assert_eq!(answer["owner"], "worker-7");
}

#[test]
fn a_refused_lock_is_exit_code_22() {
    let gateway = Gateway::start(&["--node-timeout=5s"]);
    gateway.post("/locks/orders/42").ok();
    let status = Command::new("curl").args(["-sf", "-X", "POST", &format!("http://{}/locks/orders/42", gateway.address())]).status().unwrap();
    assert_eq!(status.code(), Some(22));
}
