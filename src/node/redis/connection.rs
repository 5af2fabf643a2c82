//! A connection that has shaken hands, and the pool manager that makes no other kind.
//!
//! A connection can't outlive the process that it talks to, so a handshaken connection means this incarnation of the node.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bb8_redis::RedisConnectionManager;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::time::Instant;

use super::NodeAddress;
use super::batch::VotingScript;
use super::handshake::{self, Certified};
use crate::node::{Agreement, ClusterClock, Fault};

/// Everything that a handshake needs to know beside the server's own answers.
#[derive(Clone)]
pub struct Greeter {
    pub index: usize,
    pub address: NodeAddress,
    pub agreement: Agreement,
    pub clock: Arc<ClusterClock>,
    /// The operator's word that a server that writes every change to its disk comes back with that disk.
    pub trusts_persistence: bool,
    pub last: LastSeen,
}

/// What a node was when it was last certified, if it was. Clones share it.
#[derive(Clone, Default)]
pub struct LastSeen(Arc<Mutex<Option<Seen>>>);

struct Seen {
    run_id: String,
    was_durable: bool,
}

impl LastSeen {
    /// Whether what this start of the server knows can't be all that an earlier one knew, although its disk may say so: it
    /// was seen not to write everything down.
    pub fn knows_better(&self, run_id: &str) -> bool {
        self.seen().as_ref().is_some_and(|seen| seen.run_id != run_id && !seen.was_durable)
    }

    /// It was certified, durable or not.
    pub fn note(&self, run_id: &str, durable: Option<bool>) {
        // While it can't be told it is what it was.
        let Some(was_durable) = durable else { return };
        *self.seen() = Some(Seen { run_id: run_id.to_owned(), was_durable });
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.0.lock().expect("no code panics while it holds this")
    }
}

/// A connection whose server was certified under `certified.epoch`.
pub struct NodeConnection {
    pub redis: MultiplexedConnection,
    pub certified: Certified,
    /// Set before a call and taken back after a clean answer, so that a call that is dropped half-way leaves it set.
    pub broken: bool,
}

impl NodeConnection {
    /// Shakes hands again on this connection.
    pub async fn greet(&mut self, greeter: &Greeter, fresh: bool) -> Result<(), Fault> {
        self.certified = handshake::certify(&mut self.redis, greeter, fresh).await?;
        Ok(())
    }
}

/// bb8-redis's manager with what it lacks: the handshake on connect, and connections that know that they are broken.
pub struct Manager {
    redis: RedisConnectionManager,
    greeter: Greeter,
    script: Arc<VotingScript>,
}

impl Manager {
    pub fn new(greeter: Greeter, script: Arc<VotingScript>) -> Result<Self, Fault> {
        let refused = |error: redis::RedisError| Fault::Refused(error.category().to_owned());
        Ok(Self { redis: RedisConnectionManager::new(greeter.address.connection_info()).map_err(refused)?, greeter, script })
    }

    pub fn greeter(&self) -> &Greeter {
        &self.greeter
    }

    /// Connects and reads the node's clock, without a handshake.
    pub async fn dial(&self) -> Result<MultiplexedConnection, Fault> {
        let mut redis = bb8::ManageConnection::connect(&self.redis).await.map_err(|error| connect_fault(&error))?;
        // Callers have deadlines of their own; the library's would cut those above half a second.
        redis.set_response_timeout(Duration::from_secs(3600));
        let sent = Instant::now();
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut redis).await.map_err(|error| connect_fault(&error))?;
        self.greeter.clock.sample(self.greeter.index, seconds * 1_000_000 + micros, sent);
        Ok(redis)
    }

    /// Makes a handshaken connection. The voting script is loaded only after the handshake: its absence is a second barrier.
    pub async fn greet(&self, fresh: bool) -> Result<NodeConnection, Fault> {
        let mut redis = self.dial().await?;
        let certified = handshake::certify(&mut redis, &self.greeter, fresh).await?;
        let loaded: Result<String, _> = redis::cmd("SCRIPT").arg("LOAD").arg(&self.script.text).query_async(&mut redis).await;
        match loaded {
            Ok(sha) if sha == self.script.sha => Ok(NodeConnection { redis, certified, broken: false }),
            Ok(_) => Err(Fault::Refused("the server loaded another script than it was sent".into())),
            Err(error) => Err(connect_fault(&error)),
        }
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = NodeConnection;
    type Error = Fault;

    async fn connect(&self) -> Result<NodeConnection, Fault> {
        self.greet(false).await
    }

    /// Never asked: a test on checkout would cost a round trip a call, and the probe already runs.
    async fn is_valid(&self, _: &mut NodeConnection) -> Result<(), Fault> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut NodeConnection) -> bool {
        connection.broken
    }
}

/// Tells those who wait for a connection why none was made: left to itself the pool lets them wait until they give up.
#[derive(Clone, Debug)]
pub struct Failures(watch::Sender<Option<Fault>>);

impl Failures {
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Hears of the failures from now on.
    pub fn listen(&self) -> watch::Receiver<Option<Fault>> {
        self.0.subscribe()
    }
}

impl bb8::ErrorSink<Fault> for Failures {
    fn sink(&self, fault: Fault) {
        self.0.send_replace(Some(fault));
    }

    fn boxed_clone(&self) -> Box<dyn bb8::ErrorSink<Fault>> {
        Box::new(self.clone())
    }
}

/// Why a server that is there can't take part, and what to do.
pub const OUT_OF_MEMORY: &str = "it is out of memory, so it can't write and does not vote; raise its maxmemory, or keep other data elsewhere";

/// Names what kept us from using a server, without its address or anything that we sent.
pub fn connect_fault(error: &redis::RedisError) -> Fault {
    let code = error.code().unwrap_or_default();
    match code {
        "NOAUTH" | "WRONGPASS" => Fault::Refused("the node refuses the user or the password; check the credentials in its address".into()),
        "NOPERM" => Fault::Refused(format!("the node's user may not run what the gateway needs: {}", error.detail().unwrap_or("no detail"))),
        _ if error.kind() == redis::ErrorKind::AuthenticationFailed => {
            Fault::Refused("the node refuses the user or the password; check the credentials in its address".into())
        }
        "OOM" => Fault::Refused(OUT_OF_MEMORY.into()),
        _ if error.is_connection_refusal() => Fault::NotSent("connection refused".into()),
        _ if error.is_timeout() => Fault::NotSent("no answer in time".into()),
        _ if error.is_io_error() => Fault::NotSent(format!("cannot talk to the node: {error}")),
        _ => Fault::NotSent(format!("the node answered {} {}", error.category(), error.detail().unwrap_or_default()).trim_end().to_owned()),
    }
}
