//! The scripts on a real Redis and the state machine in Rust are one behaviour, written twice: random sequences of
//! batches, handshakes and clock steps must be answered alike, and leave the same behind.
//!
//! `TEST_SEQUENCES` says how many (10 000), `TEST_SEED` which; a failure prints the seed that repeats it alone.

mod commands;
mod handshake;
mod twins;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::{Chance, agreement, number_from};
use redlockd::node::{Agreement, Command, Marker};
use twins::{Difference, Twins};

const SEQUENCES: u64 = 10_000;
/// What a run of that many can't do without, or it would show nothing.
const ANSWERS: [&str; 19] = [
    "accepted",
    "mine",
    "busy",
    "taken",
    "other_limit",
    "stale",
    "ahead",
    "extended",
    "gone",
    "held_by_other",
    "freed",
    "not_held",
    "newer",
    "free",
    "held",
    "cancelled",
    "quarantined",
    "epoch",
    "clock_back",
];
/// One server each; the machine that this was written on has two cores.
const SERVERS: u64 = 2;
const STEPS: u64 = 10;
/// Where every sequence begins. In 2027, and not on a whole millisecond.
const BEGIN_US: u64 = 1_800_000_000_123_456;

#[test]
fn lua_and_rust_answer_alike() {
    let (seed, sequences) = (number_from("TEST_SEED").unwrap_or_else(now_us), number_from("TEST_SEQUENCES").unwrap_or(SEQUENCES));
    println!("lua conformance: {sequences} sequences, TEST_SEED={seed}");
    let answered = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SERVERS).map(|worker| scope.spawn(move || compare(seed, (worker..sequences).step_by(SERVERS as usize)))).collect();
        let mut answered = BTreeMap::<&str, u64>::new();
        for worker in workers {
            // A worker's panic is the test's, with its words.
            let of_worker = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            of_worker.into_iter().for_each(|(answer, times)| *answered.entry(answer).or_default() += times);
        }
        answered
    });
    let commands: u64 = answered.values().sum();
    println!("lua conformance: {sequences} sequences, {commands} commands, 0 differences, seed {seed}");
    println!("lua answers: {answered:?}");
    let unheard: Vec<_> = ANSWERS.iter().filter(|answer| !answered.contains_key(*answer)).collect();
    assert!(unheard.is_empty() || sequences < SEQUENCES, "nothing was ever answered with {unheard:?}");
}

/// How often what was answered, by both sides alike.
fn compare(seed: u64, sequences: impl Iterator<Item = u64>) -> BTreeMap<&'static str, u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut twins = Twins::new(&gateways(), BEGIN_US);
        for sequence in sequences {
            let seed = seed.wrapping_add(sequence);
            let mut story = Vec::new();
            if let Err(difference) = tell(&mut twins, &mut Chance::new(seed), &mut story).await {
                panic!("{difference}\nafter\n{}\nTEST_SEED={seed} TEST_SEQUENCES=1 repeats it", retell(&story));
            }
        }
        twins.answered
    })
}

/// The first one does most of the work; the others come by with another name, other settings or a newer list of nodes.
fn gateways() -> [(&'static str, Agreement); 5] {
    let ours = Agreement {
        generation: 1,
        max_ttl: Duration::from_millis(commands::MAX_TTL_MS),
        window: Duration::from_millis(500),
        members: agreement().members,
    };
    let raised = Agreement { generation: 2, window: Duration::from_millis(400), ..ours };
    let longer = Agreement { max_ttl: Duration::from_millis(7_070), ..ours };
    [("n1", ours), ("n2", ours), ("n1", longer), ("n1", raised), ("n3", Agreement { generation: 3, ..longer })]
}

/// What was done in a sequence, kept to be told if it ends badly.
enum Step {
    Begin {
        certified: bool,
    },
    Clock(u64),
    Probe {
        gateway: usize,
        fresh: bool,
    },
    /// Somebody flushed the server.
    Flush,
    LoseMarker,
    /// The server came back with the data that it had.
    Restart,
    Send {
        gateway: usize,
        batch: Vec<Command>,
    },
}

/// One sequence, from nothing.
async fn tell(twins: &mut Twins, chance: &mut Chance, story: &mut Vec<Step>) -> Result<(), Difference> {
    take(twins, Step::Begin { certified: !chance.one_in(8) }, story).await?;
    for _ in 0..STEPS {
        let gateway = if chance.one_in(32) { chance.below(twins.gateways() as u64) as usize } else { 0 };
        let agreement = twins.agreement(gateway);
        let now_us = commands::next_time(chance, &twins.state, &agreement, twins.clock.now_us());
        take(twins, Step::Clock(now_us), story).await?;
        let step = match chance.below(128) {
            0..=1 => Step::Probe { gateway, fresh: chance.one_in(2) },
            2 => Step::Flush,
            3 => Step::LoseMarker,
            4 => Step::Restart,
            _ => Step::Send { gateway, batch: commands::batch(chance, &twins.state, &agreement, now_us) },
        };
        take(twins, step, story).await?;
    }
    twins.compare_memory()
}

async fn take(twins: &mut Twins, step: Step, story: &mut Vec<Step>) -> Result<(), Difference> {
    story.push(step);
    match &story[story.len() - 1] {
        Step::Begin { certified } => twins.begin(BEGIN_US, *certified).await,
        Step::Clock(now_us) => twins.set_clock(*now_us),
        Step::Probe { gateway, fresh } => twins.probe(*gateway, *fresh).await?,
        Step::Flush => twins.flush(),
        Step::LoseMarker => twins.change_marker(|_| None),
        Step::Restart => twins.change_marker(|marker| Some(Marker { run_id: "0123abcd".into(), ..marker })),
        Step::Send { gateway, batch } => twins.apply(*gateway, batch).await?,
    }
    Ok(())
}

fn retell(story: &[Step]) -> String {
    let told = story.iter().map(|step| match step {
        Step::Begin { certified } => format!("begin, certified: {certified}"),
        Step::Clock(now_us) => format!("the clock shows begin {:+} us", *now_us as i64 - BEGIN_US as i64),
        Step::Probe { gateway, fresh } => format!("gateway {gateway} probes, fresh: {fresh}"),
        Step::Flush => "everything is lost".into(),
        Step::LoseMarker => "the marker is lost".into(),
        Step::Restart => "the server restarts".into(),
        Step::Send { gateway, batch } => {
            let commands = batch.iter().map(|command| format!("\n    {}", commands::told(command)));
            format!("gateway {gateway} sends{}", commands.collect::<String>())
        }
    });
    told.collect::<Vec<_>>().join("\n")
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}
