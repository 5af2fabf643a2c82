//! The handshake with a Redis server: is it fit to vote, may it have forgotten, and since when.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::batch::{HIGH_WATER, MARKER};
use super::connection::{Greeter, connect_fault};
use super::info;
use crate::node::{Agreement, Epoch, Fault, HandshakeRefusal, Marker, NodeFacts};

pub const SCRIPT: &str = include_str!("scripts/handshake.lua");

/// What a server was certified as.
#[derive(Clone, Debug)]
pub struct Certified {
    pub epoch: Epoch,
    pub quarantine_left: Duration,
    pub round_trip: Duration,
    pub facts: NodeFacts,
}

/// Checks the server, then runs the handshake script. Refuses with a sentence that says what to do.
pub async fn certify(redis: &mut MultiplexedConnection, greeter: &Greeter, fresh: bool) -> Result<Certified, Fault> {
    if !greeter.clock.is_settled() {
        return Err(Fault::NotSent("too few nodes were heard to tell whether this one's clock is right".into()));
    }
    let facts = info::facts(redis, greeter.trusts_persistence).await?;
    if let Some(sentence) = facts.unfit() {
        return Err(Fault::Refused(sentence));
    }
    let durable = durability(greeter, &facts);
    let sent = Instant::now();
    let (verdict, marker, now_us) = call(redis, greeter, durable, fresh).await.map_err(|error| connect_fault(&error))?;
    let round_trip = sent.elapsed();
    greeter.clock.sample(greeter.index, now_us, sent);
    if verdict == "CLOCK_OFF" && greeter.agreement.window / 2 < round_trip {
        return Err(Fault::Lost("it answered too slowly to tell whether its clock is right".into()));
    }
    let marker =
        verdict_of(&verdict, &marker, now_us, greeter.clock.reference_us()).map_err(|refusal| Fault::Refused(refusal.advice(&greeter.agreement)))?;
    greeter.last.note(&facts.run_id, durable);
    let quarantine_left = Duration::from_millis(marker.ready_at_ms.saturating_sub(now_us / 1000));
    Ok(Certified { epoch: Epoch::from(&marker), quarantine_left, round_trip, facts })
}

/// Whether all that this server ever answered is on its disk; none if that can't be told now, or is not to be believed.
fn durability(greeter: &Greeter, facts: &NodeFacts) -> Option<bool> {
    let is_doubtful = facts.followed.is_some() || 0 < facts.evicted || greeter.last.knows_better(&facts.run_id);
    if greeter.trusts_persistence && !is_doubtful { facts.persistence.is_durable() } else { None }
}

async fn call(redis: &mut MultiplexedConnection, greeter: &Greeter, durable: Option<bool>, fresh: bool) -> redis::RedisResult<(String, String, u64)> {
    let Agreement { generation, max_ttl, window, members } = greeter.agreement;
    let mut call = redis::cmd("EVAL");
    call.arg(SCRIPT).arg(2).arg(MARKER).arg(HIGH_WATER);
    call.arg(generation).arg(greeter.address.name().as_str());
    for duration in [max_ttl, window, Agreement::STEP_BACK, greeter.agreement.quarantine()] {
        call.arg(duration.as_millis() as u64);
    }
    let durable = match durable {
        Some(true) => "1",
        Some(false) => "0",
        None => "?",
    };
    call.arg(greeter.clock.reference_us()).arg(durable).arg(u8::from(fresh)).arg(members.to_string());
    call.query_async(redis).await
}

fn verdict_of(verdict: &str, marker: &str, now_us: u64, reference_us: u64) -> Result<Marker, HandshakeRefusal> {
    let refusal: fn(Marker) -> HandshakeRefusal = match verdict {
        "OK" => return marker.parse().map_err(|_| HandshakeRefusal::Corrupt),
        "CLOCK_OFF" => return Err(HandshakeRefusal::ClockOff { ahead_us: now_us as i64 - reference_us as i64 }),
        "NEWER_GENERATION" => HandshakeRefusal::NewerGeneration,
        "OTHER_NODE" => HandshakeRefusal::OtherNode,
        "OTHER_SETTINGS" => HandshakeRefusal::OtherSettings,
        _ => return Err(HandshakeRefusal::Corrupt),
    };
    Err(marker.parse().map_or(HandshakeRefusal::Corrupt, refusal))
}
