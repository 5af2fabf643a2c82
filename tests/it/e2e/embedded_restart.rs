//! The embedded node remembers what it acknowledged, whatever happens to the process.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{PATIENT, machine_to_itself, token_of_holder};
use crate::support::{Gateway, eventually, redlockd};

/// Leases and releases that clients were told of.
#[derive(Default)]
struct Acknowledged {
    held: Vec<(String, u64)>,
    released: Vec<(String, u64)>,
}

/// Takes locks until the gateway is gone; gives back every other one.
fn take_and_give(gateway: &Gateway, prefix: &str, acknowledged: &Mutex<Acknowledged>) {
    let mut client = gateway.client();
    // Bounded, so that it ends even if nobody kills the gateway.
    let until = Instant::now() + Duration::from_secs(30);
    for n in (0..).take_while(|_| Instant::now() < until) {
        let lock = format!("{prefix}/{n}");
        let Ok(granted) = client.ask("POST", &format!("/locks/{lock}?ttl=5m"), &[]) else { return };
        // A disk that is busy for longer than a call may take is no answer, but no lie either.
        if granted.status != 200 {
            continue;
        }
        let entry = (lock, granted.number("fencing_token"));
        if n % 2 == 0 {
            acknowledged.lock().unwrap().held.push(entry);
            continue;
        }
        let lease = granted.text("lease_id");
        let Ok(released) = client.ask("DELETE", &format!("/locks/{}", entry.0), &[("Lease-Id", &lease)]) else { return };
        if released.status == 200 {
            acknowledged.lock().unwrap().released.push(entry);
        }
    }
}

/// Kills the gateway in the middle of the work of several clients.
fn kill_under_load(gateway: &Gateway, round: usize) -> Acknowledged {
    const CLIENTS: usize = 8;
    let acknowledged = Mutex::default();
    std::thread::scope(|scope| {
        let seen = &acknowledged;
        for client in 0..CLIENTS {
            scope.spawn(move || take_and_give(gateway, &format!("{round}/{client}"), seen));
        }
        eventually("many locks are acknowledged", || (100 < seen.lock().unwrap().released.len()).then_some(()));
        gateway.kill();
    });
    acknowledged.into_inner().unwrap()
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let _machine = machine_to_itself();
    let mut gateway = Gateway::start(PATIENT);
    let (mut held, mut released) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let acknowledged = kill_under_load(&gateway, round);
        held.extend(acknowledged.held);
        released.extend(acknowledged.released);
        gateway.restart();
        let mut client = gateway.client();
        for (lock, token) in &held {
            let holder = client.ask("GET", &format!("/locks/{lock}"), &[]).unwrap().ok().json()["holder"].clone();
            assert_eq!(holder["fencing_token"].as_u64(), Some(*token), "round {round}, {lock}");
        }
        let greatest = held.iter().chain(&released).map(|(_, token)| *token).max().unwrap();
        for (lock, _) in &released[released.len() - 10..] {
            assert_eq!(token_of_holder(&gateway, lock), None);
            assert!(greatest < gateway.post(&format!("/locks/{lock}")).ok().number("fencing_token"));
        }
    }
    println!("{} leases and {} releases outlived 5 kills", held.len(), released.len());
}

#[test]
fn two_gateways_never_share_a_data_directory() {
    let gateway = Gateway::start(&["--data-dir=shared"]);
    let second = redlockd(gateway.directory()).args(["--listen=127.0.0.1:0", "--data-dir=shared"]).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success());
    let sentence = said.lines().last().unwrap();
    assert!(sentence.starts_with("redlockd: ") && sentence.contains("shared") && sentence.contains("in use"), "{said}");
    gateway.post("/locks/still-served").ok();
}
