//! The handshake script alone, with greetings that no one gateway would send: other runs, clocks that are off to the
//! microsecond, servers of which it can't be told whether they write everything down.

use std::time::Duration;

use redlockd::node::{Agreement, HandshakeRefusal, Hello, Marker, Members, State};

use super::{BEGIN_US, now_us};
use crate::support::{Chance, RedisServer, TestClock, number_from};

const SCRIPT: &str = include_str!("../../../src/node/redis/scripts/handshake.lua");
const SEQUENCES: u64 = 2_000;
const STEPS: u64 = 12;

#[test]
fn lua_and_rust_shake_hands_alike() {
    let (seed, sequences) = (number_from("TEST_SEED").unwrap_or_else(now_us), number_from("TEST_SEQUENCES").unwrap_or(SEQUENCES));
    println!("lua handshakes: {sequences} sequences, TEST_SEED={seed}");
    let mut side = Side::new();
    for seed in (0..sequences).map(|sequence| seed.wrapping_add(sequence)) {
        let mut story = Vec::new();
        if let Err(difference) = tell(&mut side, &mut Chance::new(seed), &mut story) {
            panic!("{difference}\nafter\n{}\nTEST_SEED={seed} TEST_SEQUENCES=1 repeats it", story.join("\n"));
        }
    }
    println!("lua handshakes: {sequences} sequences, {} handshakes, 0 differences, seed {seed}", sequences * STEPS);
}

fn tell(side: &mut Side, chance: &mut Chance, story: &mut Vec<String>) -> Result<(), String> {
    side.run(redis::cmd("DEL").arg("redlockd:node").arg("redlockd:hw"));
    let mut state = State::default();
    for _ in 0..STEPS {
        let now_us = next_time(chance, &state, side.clock.now_us());
        side.clock.set(now_us);
        if let Some(marker) = state.marker().cloned().filter(|_| chance.one_in(4)) {
            // As after a restart with the data that was on disk.
            let restarted = Marker { run_id: "0123abcd".into(), ..marker };
            side.run(redis::cmd("SET").arg("redlockd:node").arg(restarted.to_string()));
            state.restore(Some(restarted), state.high_water_us());
        }
        let hello = hello(chance, &side.run_id, now_us);
        story.push(format!("at begin {:+} us: {hello:?}", now_us as i64 - BEGIN_US as i64));
        let expected = (verdict(&state.handshake(now_us, &hello)), state.marker().map(Marker::to_string), state.high_water_us());
        let actual = side.handshake(&hello);
        if expected != actual {
            return Err(format!("{expected:?} in Rust, {actual:?} in Lua"));
        }
    }
    Ok(())
}

fn hello(chance: &mut Chance, run_id: &str, now_us: u64) -> Hello {
    let agreement = Agreement {
        generation: chance.pick(&[1, 1, 1, 1, 2, 3]),
        max_ttl: Duration::from_millis(chance.pick(&[1_000, 1_000, 1_000, 1_000, 1_000, 5_050, 300_099])),
        window: Duration::from_millis(chance.pick(&[500, 500, 500, 500, 500, 400])),
        members: Members::of(chance.pick(&[&["n1", "n2"][..], &["n1", "n2"], &["n1", "n2"], &["n1"]]).iter().copied(), ""),
    };
    let window_us = agreement.window.as_micros() as u64;
    let off_us = chance.pick(&[0, 0, 0, 0, 1, window_us, window_us + 1]);
    let reference_us = if chance.one_in(2) { now_us + off_us } else { now_us - off_us };
    let (durable, fresh) = (chance.pick(&[Some(true), Some(true), Some(false), None]), chance.one_in(2));
    Hello { agreement, node: chance.pick(&["n1", "n1", "n1", "n1", "h:6379/0"]).into(), run_id: run_id.into(), reference_us, durable, fresh }
}

fn next_time(chance: &mut Chance, state: &State, now_us: u64) -> u64 {
    let backwards_us = state.high_water_us().max(BEGIN_US) - Agreement::STEP_BACK.as_micros() as u64;
    match chance.below(8) {
        0..=1 => now_us,
        2..=4 => now_us + chance.below(1_000_000),
        5 => now_us + chance.below(10_000_000),
        6 => backwards_us + chance.below(3) - 1,
        _ => now_us - chance.below(3_000_000),
    }
}

fn verdict(outcome: &Result<Marker, HandshakeRefusal>) -> String {
    let word = match outcome {
        Ok(_) => "OK",
        Err(HandshakeRefusal::ClockOff { .. }) => "CLOCK_OFF",
        Err(HandshakeRefusal::NewerGeneration(_)) => "NEWER_GENERATION",
        Err(HandshakeRefusal::OtherNode(_)) => "OTHER_NODE",
        Err(HandshakeRefusal::OtherSettings(_)) => "OTHER_SETTINGS",
        Err(HandshakeRefusal::Corrupt) => "CORRUPT",
    };
    word.to_owned()
}

/// The side that is Lua.
struct Side {
    clock: TestClock,
    raw: redis::Connection,
    run_id: String,
    _server: RedisServer,
}

impl Side {
    fn new() -> Self {
        let clock = TestClock::frozen_at(BEGIN_US);
        let server = RedisServer::start_with_clock(&clock);
        Self { clock, raw: server.connect(), run_id: server.run_id(), _server: server }
    }

    fn run(&mut self, command: &redis::Cmd) {
        command.exec(&mut self.raw).unwrap();
    }

    /// The verdict, and the marker and the high-water mark that it leaves.
    fn handshake(&mut self, hello: &Hello) -> (String, Option<String>, u64) {
        let mut call = redis::cmd("EVAL");
        call.arg(SCRIPT).arg(2).arg("redlockd:node").arg("redlockd:hw").arg(hello.agreement.generation).arg(&hello.node);
        for duration in [hello.agreement.max_ttl, hello.agreement.window, Agreement::STEP_BACK, hello.agreement.quarantine()] {
            call.arg(duration.as_millis() as u64);
        }
        let durable = hello.durable.map_or("?", |durable| if durable { "1" } else { "0" });
        call.arg(hello.reference_us).arg(durable).arg(u8::from(hello.fresh)).arg(hello.agreement.members.to_string());
        let (verdict, shown, _): (String, String, u64) = call.query(&mut self.raw).unwrap();
        let (marker, high_water_us): (Option<String>, Option<u64>) =
            redis::cmd("MGET").arg("redlockd:node").arg("redlockd:hw").query(&mut self.raw).unwrap();
        assert_eq!(shown, marker.clone().unwrap_or_default(), "the script shows the marker that there is");
        (verdict, marker, high_water_us.unwrap_or(0))
    }
}
