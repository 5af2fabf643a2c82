//! Tokens of a running gateway: made, replaced and withdrawn while clients use it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::{Ends, Gateway, HttpAnswer, eventually, redlockd};

/// A new token on the roster `file`.
fn new_token(file: &Path, name: &str, allow: &str) -> String {
    let mut command = redlockd(file.parent().unwrap());
    let output = command.args(["token", "new", "--name", name, "--allow", allow, "--file"]).arg(file).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn post(gateway: &Gateway, token: &str, target: &str) -> HttpAnswer {
    gateway.ask("POST", target, &[("Authorization", &format!("Bearer {token}"))])
}

/// Takes `lines` out of a roster, in one step.
fn rewrite(file: &Path, change: impl FnOnce(String) -> String) {
    let beside = file.with_extension("other");
    std::fs::write(&beside, change(std::fs::read_to_string(file).unwrap())).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[test]
fn a_token_is_replaced_under_load_without_a_request_that_fails() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens.toml");
    let old = new_token(&file, "worker", "*:");
    let first_entry = std::fs::read_to_string(&file).unwrap();
    let gateway = Gateway::start(&["--node-timeout=5s", "--log-level=debug", "--tokens-file", file.to_str().unwrap()]);
    let (is_over, uses_new, asked) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    let new = std::sync::OnceLock::new();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (gateway, old, new, is_over, uses_new, asked) = (&gateway, &old, &new, &is_over, &uses_new, &asked);
            scope.spawn(move || {
                for n in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let token = if uses_new.load(Ordering::Relaxed) { new.get().unwrap() } else { old };
                    post(gateway, token, &format!("/locks/rotated/{client}/{n}")).ok();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _end = Ends(&is_over);
        let some_more = || {
            let so_far = asked.load(Ordering::Relaxed);
            eventually("requests are answered", || (so_far + 50 < asked.load(Ordering::Relaxed)).then_some(()));
        };
        some_more();
        let token = new.get_or_init(|| new_token(&file, "worker", "*:"));
        eventually("the new token is in force", || (post(&gateway, token, "/locks/new").status == 200).then_some(()));
        uses_new.store(true, Ordering::Relaxed);
        some_more();
        rewrite(&file, |roster| roster.replace(&first_entry, ""));
        eventually("the old token is withdrawn", || (post(&gateway, &old, "/locks/old?ttl=100ms").status == 401).then_some(()));
        some_more();
    });
    let log = gateway.log();
    assert!(!log.contains(&old) && !log.contains(new.get().unwrap()), "{log}");
}

#[test]
fn a_roster_that_became_unreadable_changes_nothing_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens.toml");
    let token = new_token(&file, "worker", "*:");
    let gateway = Gateway::start(&["--node-timeout=5s", "--tokens-file", file.to_str().unwrap()]);
    rewrite(&file, |roster| format!("{roster}\nsha256 = \"{token}\"\n"));
    eventually("it says so", || gateway.log().contains("the roster stays as it is").then_some(()));
    post(&gateway, &token, "/locks/still").ok();
    std::fs::remove_file(&file).unwrap();
    eventually("it says so again", || gateway.log().contains("No such file").then_some(()));
    post(&gateway, &token, "/locks/still-there").ok();
    assert!(!gateway.log().contains(&token), "{}", gateway.log());
}

#[test]
fn a_release_by_force_is_in_the_log_with_who_and_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens.toml");
    let (holder, operator) = (new_token(&file, "worker-7", "*:"), new_token(&file, "olga", "force:"));
    let gateway = Gateway::start(&["--log-format=json", "--tokens-file", file.to_str().unwrap()]);
    let grant = post(&gateway, &holder, "/locks/a").ok();
    let forced = gateway.ask("DELETE", "/locks/a?force=true&reason=it+hangs", &[("Authorization", &format!("Bearer {operator}"))]);
    assert_eq!(forced.ok().json()["released"], true);
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("was released by force")).unwrap();
    let fields: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&fields["who"], &fields["key"], &fields["reason"], &fields["owner"]),
        (&"olga".into(), &"a".into(), &"it hangs".into(), &"worker-7".into())
    );
    assert_eq!(fields["fencing_token"], grant.json()["fencing_token"]);
}

#[test]
fn metrics_have_an_address_of_their_own_without_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens.toml");
    let token = new_token(&file, "worker", "*:");
    let gateway = Gateway::start(&["--metrics-listen=127.0.0.1:0", "--tokens-file", file.to_str().unwrap()]);
    post(&gateway, &token, "/locks/a").ok();
    let mut operations = gateway.operations();
    let metrics = operations.ask("GET", "/metrics", &[]).unwrap();
    assert!(metrics.status == 200 && metrics.body.contains("outcome=\"granted\"} 1\n"));
    assert_eq!(operations.ask("GET", "/readyz", &[]).unwrap().status, 200);
    for path in ["/locks/a", "/locks", "/nodes", "/docs"] {
        assert_eq!(operations.ask("GET", path, &[]).unwrap().problem(), (404, "not_found".into()), "{path}");
    }
}

#[test]
fn a_token_is_printed_alone_and_a_roster_that_is_no_roster_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| redlockd(directory.path()).args(["token", "new"]).args(arguments).output().unwrap();
    let made = run(&["--name", "ci", "--allow", "acquire:ci/", "--allow", "admin"]);
    let (token, entry) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    assert!(token.starts_with("rlk_") && token.len() == 4 + 64 + 1, "{token}");
    let gateway = Gateway::start_in(&[("REDLOCKD_TOKENS", &entry)], &[]);
    post(&gateway, token.trim(), "/locks/ci/1").ok();
    std::fs::write(directory.path().join("no-roster"), "not = \"one\"").unwrap();
    let refused = run(&["--name", "ci", "--allow", "*:", "--file", "no-roster"]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
    assert_eq!(std::fs::read_to_string(directory.path().join("no-roster")).unwrap(), "not = \"one\"");
    for wrong in [["--name", "", "--allow", "*:"], ["--name", "ci", "--allow", "acquire"]] {
        assert_eq!(run(&wrong).status.code(), Some(2));
    }
}

#[test]
fn the_log_names_those_who_are_not_let_in_but_not_each_time() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // of abc
    let roster = format!("[[token]]\nname = \"olga\"\nsha256 = \"{digest}\"\nallow = [\"*:\"]\n");
    let gateway = Gateway::start(&["--node-timeout=5s", "--tokens", &roster]);
    let begun = std::time::Instant::now();
    assert!((0..200).all(|_| post(&gateway, "hidden", "/locks/a").status == 401));
    let (told, most) = (gateway.log().matches("was not let in").count(), begun.elapsed().as_secs() as usize + 1);
    assert!(1 <= told && told <= most, "{told} lines in {most} s");
    assert!(gateway.log().contains("from=127.0.0.1 reason=\"stranger\"") && !gateway.log().contains("hidden"), "{}", gateway.log());
}
