//! The handshake with a Redis server: is it fit to vote, may it have forgotten, and since when.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::Instant;

use super::batch::{HIGH_WATER, MARKER};
use super::connection::{Greeter, connect_fault};
use crate::node::{Agreement, Epoch, Fault, HandshakeRefusal, Marker};

pub const SCRIPT: &str = include_str!("scripts/handshake.lua");

/// What a server was certified as.
#[derive(Clone, Debug)]
pub struct Certified {
    pub epoch: Epoch,
    pub quarantine_left: Duration,
    pub round_trip: Duration,
    pub version: String,
    pub warnings: Vec<String>,
}

/// Checks the server, then runs the handshake script. Refuses with a sentence that says what to do.
pub async fn certify(redis: &mut MultiplexedConnection, greeter: &Greeter, fresh: bool) -> Result<Certified, Fault> {
    if !greeter.clock.is_settled() {
        return Err(Fault::NotSent("too few nodes were heard to tell whether this one's clock is right".into()));
    }
    let info: String = redis::cmd("INFO").query_async(redis).await.map_err(|error| connect_fault(&error))?;
    let info = Info::parse(&info);
    if let Some(sentence) = info.unfit() {
        return Err(Fault::Refused(sentence));
    }
    let durable = durability(redis, &info).await;
    let sent = Instant::now();
    let (verdict, marker, now_us) = call(redis, greeter, durable, fresh).await.map_err(|error| connect_fault(&error))?;
    let round_trip = sent.elapsed();
    greeter.clock.sample(greeter.index, now_us, sent);
    let marker = verdict_of(&verdict, &marker, now_us, greeter.clock.estimate_us())
        .map_err(|refusal| Fault::Refused(sentence(&refusal, &greeter.agreement)))?;
    let quarantine_left = Duration::from_millis(marker.ready_at_ms.saturating_sub(now_us / 1000));
    Ok(Certified { epoch: Epoch::from(&marker), quarantine_left, round_trip, version: info.version(), warnings: info.warnings(durable) })
}

async fn call(redis: &mut MultiplexedConnection, greeter: &Greeter, durable: Option<bool>, fresh: bool) -> redis::RedisResult<(String, String, u64)> {
    let Agreement { generation, max_ttl, window } = greeter.agreement;
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
    call.arg(greeter.clock.estimate_us()).arg(durable).arg(u8::from(fresh));
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

/// What the operator has to do about a refusal.
fn sentence(refusal: &HandshakeRefusal, ours: &Agreement) -> String {
    match refusal {
        HandshakeRefusal::ClockOff { ahead_us } => {
            let (ms, way) = (ahead_us.abs() / 1000, if 0 < *ahead_us { "ahead of" } else { "behind" });
            format!("its clock is {ms} ms {way} the median of the nodes, {} ms are allowed; fix its time synchronisation", ours.window.as_millis())
        }
        HandshakeRefusal::NewerGeneration(marker) => format!(
            "it belongs to generation {} and this gateway is configured for {}; give this gateway the newer list of nodes and its generation",
            marker.agreement.generation, ours.generation
        ),
        HandshakeRefusal::OtherNode(marker) => format!(
            "it already votes as {:?}: two entries reach one server, or the node was renamed; give every node one entry, or raise generation for a new list",
            marker.node
        ),
        HandshakeRefusal::OtherSettings(marker) => format!(
            "other gateways use other settings: max_ttl {} and clock_window {} there, {} and {} here; use the same everywhere, or raise generation",
            humantime::format_duration(marker.agreement.max_ttl),
            humantime::format_duration(marker.agreement.window),
            humantime::format_duration(ours.max_ttl),
            humantime::format_duration(ours.window)
        ),
        HandshakeRefusal::Corrupt => {
            format!("its key {MARKER:?} was not written by this version of redlockd; delete it only if no gateway uses the node")
        }
    }
}

/// The answer of `INFO`, as fields.
struct Info(HashMap<String, String>);

impl Info {
    fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Why this server must not be used, if so.
    fn unfit(&self) -> Option<String> {
        match (self.mode(), self.get("role"), self.get("maxmemory_policy")) {
            ("sentinel", ..) => Some("it is a Sentinel; name each independent master itself".into()),
            ("cluster", ..) => Some("it runs in cluster mode, where shards fail over; use independent masters".into()),
            (_, role, _) if role != "master" => Some(format!("its role is {role}, not master; name an independent master")),
            (.., policy) if policy != "noeviction" => Some(format!("its maxmemory-policy is {policy}, so it may evict locks; set it to noeviction")),
            _ => None,
        }
    }

    /// `standalone`, `sentinel` or `cluster`. Valkey 9 gave the field a name of its own.
    fn mode(&self) -> &str {
        Some(self.get("redis_mode")).filter(|mode| !mode.is_empty()).unwrap_or(self.get("server_mode"))
    }

    /// `Redis 7.0.15`, or what the server calls itself.
    fn version(&self) -> String {
        match (self.get("server_name"), self.get("valkey_version"), self.get("redis_version")) {
            ("valkey", version, _) if !version.is_empty() => format!("Valkey {version}"),
            (_, _, version) => format!("Redis {version}"),
        }
    }

    fn warnings(&self, durable: Option<bool>) -> Vec<String> {
        let mut warnings = Vec::new();
        if durable != Some(true) {
            warnings.push("not every change is on disk before it is answered, so it is quarantined after every restart".to_owned());
        }
        if self.get("connected_slaves") != "0" {
            warnings.push("it has replicas; promoting one at this address would lose locks".to_owned());
        }
        warnings
    }
}

/// Whether every change is on disk before it is answered; none while an AOF is being rewritten for the first time
/// or where the settings can't be read.
async fn durability(redis: &mut MultiplexedConnection, info: &Info) -> Option<bool> {
    if info.get("aof_enabled") != "1" {
        return Some(false);
    }
    if info.get("aof_rewrite_in_progress") != "0" || info.get("aof_rewrite_scheduled") != "0" {
        return None;
    }
    let mut read = async |name: &str| -> Option<String> {
        let pair: Vec<String> = redis::cmd("CONFIG").arg("GET").arg(name).query_async(redis).await.ok()?;
        pair.into_iter().nth(1)
    };
    Some(read("appendfsync").await? == "always" && read("no-appendfsync-on-rewrite").await? == "no")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_read_under_the_name_that_each_server_gives_it() {
        for name in ["redis_mode", "server_mode"] {
            for (mode, is_fit) in [("standalone", true), ("cluster", false), ("sentinel", false)] {
                let info = Info::parse(&format!("# Server\r\n{name}:{mode}\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n"));
                assert_eq!(info.unfit().is_none(), is_fit, "{name}:{mode}");
            }
        }
    }
}
