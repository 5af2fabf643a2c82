//! Gateways as processes on real servers, under a load, while things go wrong: level 4 of the evidence.
//!
//! `TEST_FAULTS_SECONDS` says for how long (an hour is 3600), `TEST_SEED` what happens when:
//!
//! ```sh
//! TEST_FAULTS_SECONDS=3600 cargo test --release faults::promises -- --nocapture
//! ```

mod injector;
mod site;

use std::time::Duration;

use injector::{FORGETFUL, Fault, Injector};
use site::Site;

use crate::history::{Counts, History};
use crate::load::Load;
use crate::support::{machine_to_itself, number_from};

const SECONDS: u64 = 60;
const CLIENTS: usize = 24;

/// The settings of a run: short leases, so that it sees many.
pub struct Settings {
    pub nodes: usize,
    pub max_ttl: Duration,
    pub shortest_ttl: Duration,
    pub window: Duration,
    pub clock_jump_margin: Duration,
}

const WINDOW: Duration = Duration::from_millis(100);

/// No jumping clocks, and leases as short as they come.
const SHORT_LEASES: Settings = Settings {
    nodes: 3,
    max_ttl: Duration::from_millis(1000),
    shortest_ttl: Duration::from_millis(150),
    window: WINDOW,
    clock_jump_margin: Duration::ZERO,
};

/// A minority of clocks jumps, which the margin (4W + B + g) covers, and which makes short leases impossible.
const JUMPING_CLOCKS: Settings = Settings {
    nodes: 5,
    max_ttl: Duration::from_millis(4000),
    shortest_ttl: Duration::from_millis(3200),
    window: WINDOW,
    clock_jump_margin: Duration::from_millis(750),
};

fn run(settings: &Settings, faults: &[Fault], seconds: u64, seed: u64, quarantine: bool) -> History {
    let mut site = Site::open(settings, 2, quarantine);
    let load = Load {
        clients: CLIENTS,
        locks: 8,
        duration: Duration::from_secs(seconds),
        ttl_ms: settings.shortest_ttl.as_millis() as u64..settings.max_ttl.as_millis() as u64 + 1,
        seed,
    };
    let gateways = site.gateway_addresses();
    let (mut history, injected) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| load.run(&gateways));
        let injector = Injector::new(&mut site, faults, seed);
        let injected = injector.run(load.duration);
        (clients.join().unwrap(), injected)
    });
    // Servers that nothing happened to need no quarantine: then nothing is held beyond its ttl. The rest is for the machine.
    let quarantine = if faults == [Fault::GatewayDies] { Duration::ZERO } else { settings.max_ttl + 6 * settings.window };
    site.works_again(load.locks, quarantine + settings.max_ttl + Duration::from_secs(if quarantine.is_zero() { 2 } else { 8 }));
    history.add_faults(injected);
    history
}

/// Prints how much it was and the first violations; tells how many there were.
fn report(name: &str, histories: &[History], seconds: u64) -> usize {
    let mut counts = Counts::default();
    histories.iter().for_each(|history| counts += history.counts());
    // Not of all together: each run had servers of its own.
    let violations: Vec<_> = histories.iter().flat_map(History::violations).collect();
    println!("{name}: {seconds} s, {counts}, {} violations", violations.len());
    violations.iter().take(3).for_each(|violation| println!("{violation}"));
    violations.len()
}

#[test]
fn promises_hold_whatever_fails() {
    let _machine = machine_to_itself();
    let seconds = number_from("TEST_FAULTS_SECONDS").unwrap_or(SECONDS);
    let seed = number_from("TEST_SEED").unwrap_or(1);
    let histories = [
        run(&SHORT_LEASES, Fault::WITH_RIGHT_CLOCKS, seconds / 2, seed, true),
        run(&JUMPING_CLOCKS, Fault::ALL, seconds - seconds / 2, seed + 1, true),
    ];
    assert_eq!(report("faults", &histories, seconds), 0, "seed {seed}");
    assert!(histories.iter().all(|history| seconds < history.counts().grants as u64), "too few grants to mean anything");
}

/// The same run, with servers that vote at once after they have forgotten: it has to find something, or it could find nothing.
#[test]
fn without_the_quarantine_the_same_run_breaks_them() {
    let _machine = machine_to_itself();
    let histories = [run(&SHORT_LEASES, FORGETFUL, 15, 1, false)];
    assert!(0 < report("faults without quarantine", &histories, 15));
}

/// Gateways that die under load leave nothing held for good, and no token is used again.
#[test]
fn gateways_may_die_at_any_moment() {
    let _machine = machine_to_itself();
    let kills = number_from("TEST_KILLS").unwrap_or(10);
    let mut histories: Vec<History> = Vec::new();
    let mut seconds = 0;
    while (histories.iter().map(|history| history.counts().faults).sum::<usize>() as u64) < kills {
        histories.push(run(&SHORT_LEASES, &[Fault::GatewayDies], 5, seconds, true));
        seconds += 5;
    }
    assert_eq!(report("gateways that die", &histories, seconds), 0);
}
