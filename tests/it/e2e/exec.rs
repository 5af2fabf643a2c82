//! `redlockd exec`: a command never outlives its lock.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use super::{PATIENT, machine_to_itself, redis_servers};
use crate::support::{Gateway, Proxy, eventually, redlockd};

/// Writes down when it last did something, and does not end when it is told to.
const STUBBORN: &str = "trap '' TERM; while :; do date +%s%N >> work; sleep 0.005; done";

fn exec(directory: &Path, gateways: &[&Gateway], arguments: &[&str], script: &str) -> Command {
    let mut command = redlockd(directory);
    let servers: Vec<_> = gateways.iter().map(|gateway| format!("http://{}", gateway.address())).collect();
    command.args(["exec", "--key", "some/job", "--server", &servers.join(",")]).args(arguments).args(["--", "sh", "-c", script]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn code_of(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Starts the stubborn command, and returns when it works.
fn start_stubborn(directory: &Path, gateways: &[&Gateway], ttl: &str) -> Child {
    let running = exec(directory, gateways, &["--ttl", ttl], STUBBORN).spawn().unwrap();
    eventually("the command works", || last_work(directory));
    running
}

/// When the command last did something, in nanoseconds since 1970.
fn last_work(directory: &Path) -> Option<u128> {
    let text = std::fs::read_to_string(directory.join("work")).ok()?;
    // The last line may be half written.
    text.rsplit_once('\n')?.0.lines().last()?.parse().ok()
}

fn now() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

/// Waits for the lock through `other`, and for the end of `running`: the command must have worked before that grant only.
fn is_gone_before_the_next_grant(directory: &Path, running: Child, other: &Gateway) {
    eventually("another gets the lock", || (other.post("/locks/some/job?ttl=1m&wait=30s").status == 200).then_some(()));
    let granted = now();
    let output = running.wait_with_output().unwrap();
    assert_eq!(code_of(&output), 120, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the lock is lost"), "{output:?}");
    let last = last_work(directory).unwrap();
    assert!(last < granted, "it still worked {} ms after the next grant", (last - granted) / 1_000_000);
}

#[test]
fn the_command_runs_under_the_lock_and_its_code_is_passed_on() {
    let (gateway, directory) = (Gateway::start(PATIENT), scratch());
    let script = format!("echo $REDLOCKD_KEY $REDLOCKD_FENCING_TOKEN; curl -s http://{}/locks/some/job; exit 7", gateway.address());
    let output = exec(directory.path(), &[&gateway], &["--owner", "a job"], &script).output().unwrap();
    assert_eq!(code_of(&output), 7);
    let said = String::from_utf8(output.stdout).unwrap();
    let (environment, seen) = said.split_once('\n').unwrap();
    let seen: serde_json::Value = serde_json::from_str(seen).unwrap();
    assert_eq!(environment, format!("some/job {}", seen["holder"]["fencing_token"]));
    assert_eq!((&seen["state"], &seen["holder"]["owner"]), (&"held".into(), &"a job".into()));
    assert_eq!(gateway.get("/locks/some/job").ok().json()["state"], "free");
}

#[test]
fn each_way_not_to_run_has_its_code_and_nothing_is_held_after_it() {
    let (gateway, directory) = (Gateway::start(PATIENT), scratch());
    let code = |arguments: &[&str], script: &str| code_of(&exec(directory.path(), &[&gateway], arguments, script).output().unwrap());
    let held = gateway.post("/locks/some/job").ok();
    assert_eq!([code(&[], "true"), code(&["--wait", "50ms"], "true")], [121, 121]);
    gateway.delete("/locks/some/job", &held.text("lease_id")).ok();
    assert_eq!(code(&["--ttl", "10s", "--grace", "6s"], "true"), 125);
    assert_eq!([code(&["--ttl", "1ms"], "true"), code(&["--server", "http://a/b"], "true"), code(&["--token-file", "none"], "true")], [125; 3]);
    assert_eq!(code(&[], "kill -9 $$"), 128 + 9);
    let run = |program: &str| {
        let mut command = redlockd(directory.path());
        command.args(["exec", "--key", "some/job", "--server", &format!("http://{}", gateway.address()), "--", program]);
        code_of(&command.output().unwrap())
    };
    assert_eq!([run("/etc/hostname"), run("no-such-program")], [126, 127]);
    assert_eq!(gateway.get("/locks/some/job").ok().json()["state"], "free");
    let nobody = redlockd(directory.path()).args(["exec", "--key", "a", "--server", "http://127.0.0.1:1", "--", "true"]).output().unwrap();
    assert_eq!(code_of(&nobody), 122);
}

#[test]
fn it_waits_for_its_turn_and_passes_signals_on() {
    let (gateway, directory) = (Gateway::start(PATIENT), scratch());
    let held = gateway.post("/locks/some/job").ok();
    let script = "trap 'echo heard; exit 3' USR1; touch runs; while :; do sleep 0.01; done";
    let running = exec(directory.path(), &[&gateway], &["--wait", "1m"], script).spawn().unwrap();
    eventually("it waits", || (gateway.metric("redlockd_waiters") == 1.0).then_some(()));
    gateway.delete("/locks/some/job", &held.text("lease_id")).ok();
    eventually("the command runs", || directory.path().join("runs").exists().then_some(()));
    signal(&running, "USR1");
    let output = running.wait_with_output().unwrap();
    assert_eq!((code_of(&output), output.stdout.as_slice()), (3, &b"heard\n"[..]));
    // One that still waits just goes away.
    let held = gateway.post("/locks/some/job").ok();
    let waiting = exec(directory.path(), &[&gateway], &["--wait", "1m"], "true").spawn().unwrap();
    eventually("it waits", || (gateway.metric("redlockd_waiters") == 1.0).then_some(()));
    signal(&waiting, "TERM");
    assert_eq!(code_of(&waiting.wait_with_output().unwrap()), 128 + 15);
    eventually("it has left the line", || (gateway.metric("redlockd_waiters") == 0.0).then_some(()));
    gateway.delete("/locks/some/job", &held.text("lease_id")).ok();
}

#[test]
fn a_lease_is_renewed_for_as_long_as_the_command_runs_also_through_another_gateway() {
    let servers = redis_servers::<3>();
    let gateways = [(); 2].map(|()| Gateway::on(&servers, &["--default-ttl=5m"]));
    let directory = scratch();
    let script = "touch runs; while [ ! -e stop ]; do sleep 0.01; done";
    let running = exec(directory.path(), &[&gateways[0], &gateways[1]], &["--ttl", "1s"], script).spawn().unwrap();
    eventually("the command runs", || directory.path().join("runs").exists().then_some(()));
    gateways[0].kill();
    // Four times, a third of the ttl apart: so it lasts longer than its ttl.
    let four = "redlockd_operations_total{operation=\"extend\",outcome=\"extended\"} 4\n";
    eventually("it was extended four times", || gateways[1].get("/metrics").body.contains(four).then_some(()));
    std::fs::write(directory.path().join("stop"), "").unwrap();
    assert_eq!(code_of(&running.wait_with_output().unwrap()), 0);
    assert_eq!(gateways[1].get("/locks/some/job").ok().json()["state"], "free");
}

#[test]
fn a_command_that_ignores_term_is_gone_before_the_next_grant_whatever_fails() {
    let _machine = machine_to_itself();
    let servers = redis_servers::<3>();
    let other = Gateway::on(&servers, PATIENT);
    let proxies: Vec<Proxy> = servers.iter().map(Proxy::before).collect();
    let urls: Vec<String> = proxies.iter().map(Proxy::url).collect();
    let mut gateway = Gateway::on_urls(urls.iter().map(String::as_str), &["--default-ttl=5m"]).without_bootstrap();
    type Fail<'a> = &'a dyn Fn(&Gateway);
    let failures: [(&str, Fail, Fail); 3] = [
        ("a partition", &|_| proxies.iter().for_each(|proxy| proxy.cut(true, true)), &|_| proxies.iter().for_each(|proxy| proxy.cut(false, false))),
        ("a paused gateway", &Gateway::pause, &Gateway::resume),
        ("a gateway that is killed", &Gateway::kill, &|_| ()),
    ];
    for (name, fail, mend) in failures {
        println!("{name}");
        let directory = scratch();
        eventually("the gateway works", || (gateway.post("/locks/another?ttl=100ms").status == 200).then_some(()));
        let running = start_stubborn(directory.path(), &[&gateway], "2s");
        fail(&gateway);
        is_gone_before_the_next_grant(directory.path(), running, &other);
        mend(&gateway);
        other.ask("DELETE", "/locks/some/job?force=true&reason=the+next+round", &[]).ok();
    }
    gateway.restart();
    // Somebody takes it by force: it has lost it there and then.
    let directory = scratch();
    eventually("the gateway works", || (gateway.post("/locks/another?ttl=100ms").status == 200).then_some(()));
    let running = start_stubborn(directory.path(), &[&gateway], "2s");
    let begun = now();
    other.ask("DELETE", "/locks/some/job?force=true&reason=a+test", &[]).ok();
    let output = running.wait_with_output().unwrap();
    assert_eq!(code_of(&output), 120);
    assert!(last_work(directory.path()).unwrap() - begun < Duration::from_secs(2).as_nanos());
}

fn signal(running: &Child, signal: &str) {
    let sent = Command::new("kill").args(["-s", signal, &running.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn commands_that_share_a_lock_run_beside_each_other() {
    let (gateway, directory) = (Gateway::start(PATIENT), scratch());
    let inner = |arguments: &str| {
        let server = gateway.address();
        format!("{} exec --key some/job --server http://{server} {arguments} -- echo beside", env!("CARGO_BIN_EXE_redlockd"))
    };
    let shared = exec(directory.path(), &[&gateway], &["--shared"], &inner("--shared")).output().unwrap();
    assert_eq!((code_of(&shared), shared.stdout), (0, b"beside\n".to_vec()));
    let alone = exec(directory.path(), &[&gateway], &["--shared"], &inner("")).output().unwrap();
    assert_eq!(code_of(&alone), 121, "{alone:?}");
}

#[test]
fn what_runs_at_one_time_on_several_machines_runs_once() {
    let (gateway, directory) = (Gateway::start(PATIENT), scratch());
    let nightly = |ttl| exec(directory.path(), &[&gateway], &["--ttl", ttl, "--min-hold", "30s"], "echo done").output().unwrap();
    assert_eq!(code_of(&nightly("30s")), 0);
    // This one's clock is late, and the first has long been through.
    let late = nightly("30s");
    assert_eq!((code_of(&late), late.stdout), (121, Vec::new()));
    let too_short = nightly("10s");
    assert_eq!(code_of(&too_short), 125);
    assert!(String::from_utf8_lossy(&too_short.stderr).contains("--min-hold: 30s is more than the ttl"), "{too_short:?}");
}
