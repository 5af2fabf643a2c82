//! A node on a Redis or Valkey server: bb8 pool, handshake on every connection, one script call per batch.

mod address;
mod batch;
mod certificates;
mod connection;
mod handshake;
mod info;
mod words;

use std::sync::Arc;
use std::time::Duration;

use bb8::{Pool, PooledConnection};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, Value};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

pub use address::{NodeAddress, NodeAddressError};
use batch::VotingScript;
pub use certificates::NodeCertificates;
use connection::{Failures, Manager, NodeConnection};
pub use connection::{Greeter, LastSeen, OUT_OF_MEMORY};

use super::{BatchReply, BoxFuture, Command, Connections, Epoch, Fault, Node, Probe, Said, Survey};
use crate::lease::Abstention;

/// How long a connection, with its handshake, may take. Longer than a call, because it is half a dozen of them.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A node that takes longer has more to do than to keep connections alive.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(50);

/// A Redis node as the gateway was told to use it.
pub struct RedisSettings {
    pub greeter: Greeter,
    /// What stands before a lock's name in its Redis key.
    pub lock_prefix: String,
    /// How many connections, and so how many batches in flight.
    pub pool_size: u32,
}

/// One Redis or Valkey server.
pub struct RedisNode {
    pool: Pool<Manager>,
    /// Why connections could not be made.
    failures: Failures,
    /// Probes have a connection of their own, so that load and a full pool don't look like a dead node.
    prober: Manager,
    probe_connection: Mutex<Option<NodeConnection>>,
    /// What the node was last certified as, by a probe or before a call: under another epoch it would not vote.
    epoch: std::sync::Mutex<Option<Arc<str>>>,
    script: Arc<VotingScript>,
}

impl RedisNode {
    /// Connects to nothing yet. Must be called within a tokio runtime.
    pub fn new(settings: RedisSettings) -> Result<Self, Fault> {
        let failures = Failures::new();
        let script = Arc::new(VotingScript::new(&settings.greeter.agreement, settings.lock_prefix));
        let pool = Pool::builder()
            .max_size(settings.pool_size)
            .min_idle(None)
            .test_on_check_out(false)
            .retry_connection(false)
            .connection_timeout(CONNECT_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            .error_sink(Box::new(failures.clone()))
            .build_unchecked(Manager::new(settings.greeter.clone(), Arc::clone(&script))?);
        let prober = Manager::new(settings.greeter, Arc::clone(&script))?;
        Ok(Self { pool, failures, prober, probe_connection: Mutex::new(None), epoch: std::sync::Mutex::default(), script })
    }

    /// Sends the batch again, once, if the server had lost its scripts: then it carried nothing out.
    async fn call(&self, commands: &[Arc<Command>], deadline: Instant) -> Result<BatchReply, Fault> {
        match self.call_once(commands, deadline).await? {
            Some(reply) => Ok(reply),
            None => self.call_once(commands, deadline).await?.ok_or_else(|| Fault::NotSent("the node lost its scripts".into())),
        }
    }

    /// None if the server does not know the script.
    async fn call_once(&self, commands: &[Arc<Command>], deadline: Instant) -> Result<Option<BatchReply>, Fault> {
        let mut connection = timeout_at(deadline, self.connection()).await.unwrap_or_else(|_| Err(no_connection()))?;
        if self.is_another(&connection.certified.epoch) {
            // The node has begun a new one since, and what it was told under the old one it would refuse.
            connection.broken = true;
            timeout_at(deadline, connection.greet(self.prober.greeter(), false)).await.unwrap_or_else(|_| Err(no_connection()))?;
            *self.last_epoch() = Some(Arc::clone(&connection.certified.epoch.text));
        }
        let call = self.script.encode(&connection.certified.epoch, commands);
        connection.broken = true;
        let value = match timeout_at(deadline, answer_to(&mut connection.redis, &call)).await {
            Err(_) => return Err(Fault::Lost("no answer in time".into())),
            // What the node knew may be gone as well: the next connection shakes hands.
            Ok(Err(error)) if error.code() == Some("NOSCRIPT") => return Ok(None),
            Ok(Err(error)) => return Err(call_fault(&error)),
            Ok(Ok(value)) => value,
        };
        let reply = self.script.decode(value, commands).map_err(|_| Fault::Lost("the node's answer is not one of ours".into()))?;
        connection.broken = reply.answers.iter().any(|answer| matches!(answer, Err(Abstention::Epoch | Abstention::ClockBack)));
        Ok(Some(reply))
    }

    fn is_another(&self, epoch: &Epoch) -> bool {
        self.last_epoch().as_ref().is_some_and(|last| *last != epoch.text)
    }

    fn last_epoch(&self) -> std::sync::MutexGuard<'_, Option<Arc<str>>> {
        self.epoch.lock().expect("no code panics while it holds this")
    }

    /// Keeps an idle connection from being closed by the server, or finds out that it was, before a request does.
    async fn keep_alive(&self) {
        if self.pool.state().idle_connections == 0 {
            return;
        }
        let Ok(Ok(mut connection)) = timeout(KEEP_ALIVE_TIMEOUT, self.connection()).await else { return };
        connection.broken = true;
        let answer = timeout(KEEP_ALIVE_TIMEOUT, redis::cmd("TIME").query_async::<(u64, u64)>(&mut connection.redis)).await;
        connection.broken = !matches!(answer, Ok(Ok(_)));
    }

    async fn connection(&self) -> Result<PooledConnection<'_, Manager>, Fault> {
        let mut failures = self.failures.listen();
        tokio::select! {
            biased;
            connection = self.pool.get() => connection.map_err(|error| match error {
                bb8::RunError::User(fault) => fault,
                bb8::RunError::TimedOut => no_connection(),
            }),
            Ok(()) = failures.changed() => Err(failures.borrow().clone().unwrap_or_else(no_connection)),
        }
    }

    async fn probe_once(&self, fresh: bool) -> Result<Probe, Fault> {
        let mut kept = self.probe_connection.lock().await;
        // Taken out while it is in use: a probe that is dropped half-way leaves no connection behind.
        let connection = match kept.take() {
            Some(mut connection) => connection.greet(self.prober.greeter(), fresh).await.map(|()| connection),
            None => self.prober.greet(fresh).await,
        }?;
        let certified = connection.certified.clone();
        *self.last_epoch() = Some(Arc::clone(&certified.epoch.text));
        *kept = Some(connection);
        Ok(Probe { quarantine_left: certified.quarantine_left, round_trip: certified.round_trip, facts: certified.facts })
    }

    async fn survey_once(&self) -> Result<Survey, Fault> {
        let mut redis: MultiplexedConnection = self.prober.dial().await?;
        let facts = info::facts(&mut redis, true).await?;
        if facts.unfit().is_some() {
            // It may refuse to read a key, and what is there does not matter.
            return Ok(Survey { facts, marker: None, high_water_us: 0, round_trip: Duration::ZERO });
        }
        let mut read = redis::cmd("MGET");
        read.arg(batch::MARKER).arg(batch::HIGH_WATER);
        let sent = Instant::now();
        let (marker, high_water): (Option<String>, Option<String>) =
            read.query_async(&mut redis).await.map_err(|error| connection::connect_fault(&error))?;
        let high_water_us = high_water.and_then(|text| text.parse().ok()).unwrap_or_default();
        Ok(Survey { facts, marker, high_water_us, round_trip: sent.elapsed() })
    }
}

impl Node for RedisNode {
    fn survey(&self) -> BoxFuture<'_, Result<Survey, Fault>> {
        Box::pin(within_connect_timeout(self.survey_once()))
    }

    fn probe(&self, fresh: bool) -> BoxFuture<'_, Result<Probe, Fault>> {
        Box::pin(async move {
            let probe = within_connect_timeout(self.probe_once(fresh)).await;
            if probe.is_ok() {
                self.keep_alive().await;
            }
            probe
        })
    }

    fn converse<'a>(&'a self, to_say: &'a mut mpsc::Receiver<Said>, heard: &'a mpsc::Sender<Said>) -> BoxFuture<'a, Fault> {
        Box::pin(words::converse(&self.prober.greeter().address, to_say, heard))
    }

    fn connections(&self) -> Connections {
        let state = self.pool.state();
        Connections { idle: state.idle_connections, busy: state.connections.saturating_sub(state.idle_connections) }
    }

    fn apply<'a>(&'a self, batch: &'a [Arc<Command>], deadline: Instant) -> BoxFuture<'a, Result<BatchReply, Fault>> {
        Box::pin(self.call(batch, deadline))
    }
}

fn no_connection() -> Fault {
    Fault::NotSent("no connection in time".into())
}

/// The library hands over what the server refused as a value like any other.
async fn answer_to(redis: &mut MultiplexedConnection, call: &Cmd) -> RedisResult<Value> {
    match redis.send_packed_command(call).await? {
        Value::ServerError(refusal) => Err(refusal.into()),
        value => Ok(value),
    }
}

async fn within_connect_timeout<T>(work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(CONNECT_TIMEOUT, work).await.unwrap_or_else(|_| Err(Fault::Lost("no answer in time".into())))
}

fn call_fault(error: &redis::RedisError) -> Fault {
    match error.code() {
        // The server refused the whole call before it ran anything. Other errors may come from the middle of the script.
        Some("LOADING" | "NOAUTH" | "BUSY") => connection::connect_fault(error),
        _ => Fault::Lost(error.to_string()),
    }
}
