//! One node twice: the state machine in memory, and the scripts on a real server. Whatever is done is done to both.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use redis::Connection;
use redlockd::lease::{Abstention, Answer, Vote};
use redlockd::node::redis::RedisNode;
use redlockd::node::{Agreement, BatchReply, ClusterClock, Command, Epoch, Fault, HandshakeRefusal, Hello, Marker, Node, Reply, State};
use tokio::time::Instant;

use super::commands::locks;
use crate::support::{RedisServer, TestClock, lone_clock, redis_node};

const MARKER: &str = "redlockd:node";
const HIGH_WATER: &str = "redlockd:hw";
/// Nothing is slow here but the machine.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// What the two sides disagree about.
pub type Difference = String;

pub struct Twins {
    pub state: State,
    pub clock: TestClock,
    /// How often both sides answered what.
    pub answered: BTreeMap<&'static str, u64>,
    gateways: Vec<Gateway>,
    cluster_clock: Arc<ClusterClock>,
    raw: Connection,
    run_id: String,
    _server: RedisServer,
}

/// Settings under which the node is used, and the connection that shook hands under them.
struct Gateway {
    name: &'static str,
    agreement: Agreement,
    node: RedisNode,
    /// What the pooled connection was certified as; none if there is no connection.
    epoch: Option<Epoch>,
    /// What the gateway last saw the node certified as, on whichever connection.
    last: Option<Epoch>,
}

impl Twins {
    /// A server that gateways with these names and settings use.
    pub fn new(gateways: &[(&'static str, Agreement)], now_us: u64) -> Self {
        let clock = TestClock::frozen_at(now_us);
        let server = RedisServer::start_with_clock_and(&clock, RedisServer::arguments_to_debug());
        // By itself it would expire what a clock shows that goes ahead and back, between two batches.
        server.run::<()>(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
        let cluster_clock = lone_clock();
        let gateway = |(name, agreement): &(&'static str, Agreement)| Gateway {
            name,
            agreement: *agreement,
            node: redis_node(&server, name, *agreement, &cluster_clock),
            epoch: None,
            last: None,
        };
        let gateways = gateways.iter().map(gateway).collect();
        Self {
            state: State::default(),
            clock,
            answered: BTreeMap::new(),
            gateways,
            cluster_clock,
            raw: server.connect(),
            run_id: server.run_id(),
            _server: server,
        }
    }

    pub fn gateways(&self) -> usize {
        self.gateways.len()
    }

    pub fn agreement(&self, gateway: usize) -> Agreement {
        self.gateways[gateway].agreement
    }

    /// Forgets everything, connections included, so that a sequence means the same wherever it stands in a run.
    /// If `certified`, the first gateway is in the middle of its work.
    pub async fn begin(&mut self, now_us: u64, certified: bool) {
        self.flush();
        self.clock.set(now_us);
        let Gateway { name, agreement, .. } = self.gateways[0];
        let marker = Marker { agreement, node: name.into(), run_id: self.run_id.clone(), ready_at_ms: now_us / 1000, durable: false };
        for gateway in 0..self.gateways() {
            let kept = gateway == 0 && certified && self.gateways[0].epoch.as_ref().is_some_and(|epoch| *epoch.text == *marker.to_string());
            if self.gateways[gateway].epoch.is_some() && !kept {
                // One that has seen another epoch since shakes hands first, which is undone; then it has not.
                while self.look(gateway).await.is_ok_and(|answer| answer != Err(Abstention::Epoch)) {
                    self.flush();
                }
                self.gateways[gateway].epoch = None;
            }
        }
        if certified {
            self.set_marker(Some(marker), now_us);
        }
    }

    /// What one command is answered; a fault if the connection is none any more.
    async fn look(&self, gateway: usize) -> Result<Answer<Reply>, Fault> {
        let look = [Arc::new(Command::Inspect { key: locks().remove(0) })];
        self.gateways[gateway].node.apply(&look, Instant::now() + CALL_TIMEOUT).await.map(|mut reply| reply.answers.remove(0))
    }

    /// A batch of one gateway, answered by both sides. Without a connection it shakes hands first, and on one that was
    /// certified as something else than the node is now.
    pub async fn apply(&mut self, gateway: usize, commands: &[Command]) -> Result<(), Difference> {
        let now_us = self.hear_the_node();
        let greeted = match self.gateways[gateway].epoch.take() {
            Some(epoch) if self.gateways[gateway].last.as_ref() == Some(&epoch) => Ok(epoch),
            _ => self.state.handshake(now_us, &self.hello(gateway, false)).map(|marker| Epoch::from(&marker)),
        };
        let sent: Vec<_> = commands.iter().cloned().map(Arc::new).collect();
        let actual = self.gateways[gateway].node.apply(&sent, Instant::now() + CALL_TIMEOUT).await;
        let epoch = match greeted {
            Ok(epoch) => epoch,
            Err(refusal) => return same_refusal(&refusal, &actual),
        };
        self.gateways[gateway].last = Some(epoch.clone());
        let answers = self.state.apply(now_us, &epoch, self.gateways[gateway].agreement, commands);
        for answer in &answers {
            *self.answered.entry(answer.label()).or_default() += 1;
        }
        let broken = answers.iter().any(|answer| matches!(answer, Err(Abstention::Epoch | Abstention::ClockBack)));
        self.gateways[gateway].epoch = Some(epoch).filter(|_| !broken);
        same("the answers", &Ok(BatchReply { now_us, answers }), &actual)
    }

    /// A handshake, on both sides, and what it leaves behind.
    pub async fn probe(&mut self, gateway: usize, fresh: bool) -> Result<(), Difference> {
        let now_us = self.hear_the_node();
        let expected = self.state.handshake(now_us, &self.hello(gateway, fresh));
        let actual = self.gateways[gateway].node.probe(fresh).await;
        match expected {
            Ok(marker) => {
                self.gateways[gateway].last = Some(Epoch::from(&marker));
                let left = Duration::from_millis(marker.ready_at_ms.saturating_sub(now_us / 1000));
                same("the quarantine", &Ok(left), &actual.map(|probe| probe.quarantine_left))?;
            }
            Err(refusal) => same_refusal(&refusal, &actual)?,
        }
        self.compare_memory()
    }

    fn hello(&self, gateway: usize, fresh: bool) -> Hello {
        let Gateway { name, agreement, .. } = self.gateways[gateway];
        // Not durable: these servers write no file.
        let durable = Some(false);
        Hello { agreement, node: name.into(), run_id: self.run_id.clone(), reference_us: self.clock.now_us(), durable, fresh }
    }

    /// Moves the clock. Before it goes back both sides forget what has expired: Redis expires what it likes whenever
    /// it likes, the state machine only in a batch, and only a clock that goes back can show the difference.
    pub fn set_clock(&mut self, now_us: u64) {
        if now_us < self.clock.now_us() {
            self.forget_expired();
        }
        self.clock.set(now_us);
    }

    pub fn flush(&mut self) {
        redis::cmd("DEL").arg(self.keys()).exec(&mut self.raw).unwrap();
        self.state = State::default();
    }

    /// Makes something else of the marker, if there is one.
    pub fn change_marker(&mut self, change: impl FnOnce(Marker) -> Option<Marker>) {
        let marker = self.state.marker().cloned().and_then(change);
        self.set_marker(marker, self.state.high_water_us());
    }

    fn set_marker(&mut self, marker: Option<Marker>, high_water_us: u64) {
        for (key, value) in [(MARKER, marker.as_ref().map(Marker::to_string)), (HIGH_WATER, text_of(high_water_us))] {
            match value {
                Some(value) => redis::cmd("SET").arg(key).arg(value).exec(&mut self.raw).unwrap(),
                None => redis::cmd("DEL").arg(key).exec(&mut self.raw).unwrap(),
            }
        }
        self.state.restore(marker, high_water_us);
    }

    /// Compares everything that the two sides remember and that has not expired.
    pub fn compare_memory(&mut self) -> Result<(), Difference> {
        let (texts, left_ms) = self.remembered();
        let mut expected = vec![self.state.marker().map(Marker::to_string), text_of(self.state.high_water_us())];
        let mut expected_ms = vec![None, None];
        let now_ms = self.clock.now_us() / 1000;
        for key in locks() {
            let lock = self.state.lock(&key).filter(|(_, expires_ms)| now_ms <= *expires_ms);
            let fence = self.state.fence(&key).filter(|(_, expires_ms)| now_ms <= *expires_ms);
            expected.extend([lock.map(|(record, _)| record.to_string()), fence.map(|(fence, _)| fence.to_string())]);
            expected_ms.extend([lock.map(|(_, expires_ms)| expires_ms - now_ms), fence.map(|(_, expires_ms)| expires_ms - now_ms)]);
        }
        same("what is remembered", &expected, &texts)?;
        same("for how long", &expected_ms, &left_ms)
    }

    fn remembered(&mut self) -> (Vec<Option<String>>, Vec<Option<u64>>) {
        let keys = self.keys();
        let mut reading = redis::pipe();
        reading.cmd("MGET").arg(&keys);
        for key in &keys {
            reading.cmd("PTTL").arg(key);
        }
        let mut replies: Vec<redis::Value> = reading.query(&mut self.raw).unwrap();
        let left_ms = replies.split_off(1).into_iter().map(|left| u64::try_from(redis::from_redis_value::<i64>(left).unwrap()).ok()).collect();
        (redis::from_redis_value(replies.remove(0)).unwrap(), left_ms)
    }

    fn forget_expired(&mut self) {
        // Looking at an expired key removes it.
        redis::cmd("EXISTS").arg(self.keys()).exec(&mut self.raw).unwrap();
        let (now_ms, old) = (self.clock.now_us() / 1000, std::mem::take(&mut self.state));
        self.state.restore(old.marker().cloned(), old.high_water_us());
        for key in locks() {
            if let Some((record, expires_ms)) = old.lock(&key).filter(|(_, expires_ms)| now_ms <= *expires_ms) {
                self.state.restore_lock(key.clone(), record.clone(), expires_ms);
            }
            if let Some((fence, expires_ms)) = old.fence(&key).filter(|(_, expires_ms)| now_ms <= *expires_ms) {
                self.state.restore_fence(key, fence, expires_ms);
            }
        }
    }

    /// Makes the gateways' estimate what the node shows, whatever it showed before, so that no clock is off.
    fn hear_the_node(&self) -> u64 {
        let now_us = self.clock.now_us();
        self.cluster_clock.sample(0, now_us, Instant::now());
        now_us
    }

    fn keys(&self) -> Vec<String> {
        let records = locks().into_iter().flat_map(|key| [format!("redlockd:lock:{key}"), format!("redlockd:fence:{key}")]);
        [MARKER.to_owned(), HIGH_WATER.to_owned()].into_iter().chain(records).collect()
    }
}

/// As Redis stores it; a zero is not stored at all.
fn text_of(number: u64) -> Option<String> {
    Some(number.to_string()).filter(|_| 0 < number)
}

/// Redis nodes tell a refusal in a sentence.
fn same_refusal<T: Debug>(in_rust: &HandshakeRefusal, in_lua: &Result<T, Fault>) -> Result<(), Difference> {
    let said = match in_rust {
        HandshakeRefusal::ClockOff { .. } => "its clock is",
        HandshakeRefusal::NewerGeneration(_) => "it belongs to generation",
        HandshakeRefusal::OtherNode(_) => "it already votes as",
        HandshakeRefusal::OtherSettings(_) => "other gateways use other settings",
        HandshakeRefusal::Corrupt => "was not written by this version",
    };
    match in_lua {
        Err(Fault::Refused(sentence)) if sentence.contains(said) => Ok(()),
        other => Err(format!("the refusal: {in_rust:?} in Rust, {other:?} in Lua")),
    }
}

fn same<T: PartialEq + Debug>(what: &str, in_rust: &T, in_lua: &T) -> Result<(), Difference> {
    if in_rust == in_lua { Ok(()) } else { Err(format!("{what}: {in_rust:?} in Rust, {in_lua:?} in Lua")) }
}
