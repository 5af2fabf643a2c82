//! A gateway's connection to a server, over a network that delays, loses, repeats and reorders.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redlockd::node::{BatchReply, BoxFuture, ClusterClock, Command, Epoch, Fault, Hello, Node, NodeFacts, NodeName, Probe, Survey};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::scenario::Scenario;
use super::server::Server;
use crate::support::Chance;

/// As the gateway's own timeout for connecting and for probes.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

pub struct Link {
    index: usize,
    name: NodeName,
    server: Arc<Server>,
    clock: Arc<ClusterClock>,
    network: Arc<Network>,
    /// The gateway at this end is alive.
    is_alive: Arc<AtomicBool>,
    loses_requests: AtomicBool,
    loses_replies: AtomicBool,
    /// Idle ones, as many as were ever needed at once.
    connections: Mutex<Vec<Connection>>,
}

/// What all links have in common.
pub struct Network {
    pub scenario: Arc<Scenario>,
    pub chance: Arc<Mutex<Chance>>,
    /// Before and after the run proper it neither loses nor holds up anything.
    pub is_calm: AtomicBool,
}

/// A connection that has shaken hands with one start of the server.
#[derive(Clone)]
struct Connection {
    start: u64,
    epoch: Epoch,
}

/// Why an exchange brought nothing back.
struct Gone;

impl Link {
    pub fn new(
        index: usize,
        name: NodeName,
        server: &Arc<Server>,
        clock: &Arc<ClusterClock>,
        network: &Arc<Network>,
        is_alive: &Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            index,
            name,
            server: Arc::clone(server),
            clock: Arc::clone(clock),
            network: Arc::clone(network),
            is_alive: Arc::clone(is_alive),
            loses_requests: AtomicBool::new(false),
            loses_replies: AtomicBool::new(false),
            connections: Mutex::default(),
        })
    }

    /// Begins to lose what goes this way, or ends it.
    pub fn cut(&self, requests: bool, replies: bool) {
        self.loses_requests.store(requests, Ordering::Relaxed);
        self.loses_replies.store(replies, Ordering::Relaxed);
    }

    /// Sends something that `work` does at the server. It is done, late or twice, whether or not somebody still waits.
    async fn exchange<T: Send + 'static>(
        self: &Arc<Self>,
        deadline: Instant,
        work: impl Fn(&Server) -> Option<T> + Send + Sync + 'static,
    ) -> Result<T, Gone> {
        let (answer, answered) = oneshot::channel();
        let mut answer = Some(answer);
        let copies = 1 + usize::from(self.network.happens(self.network.scenario.twice_one_in));
        let work = Arc::new(work);
        for _ in 0..copies {
            let (there, back) = (self.network.delay(), self.network.delay());
            let request_lost = self.is_lost(&self.loses_requests);
            let reply_lost = self.is_lost(&self.loses_replies);
            let (link, work, answer) = (Arc::clone(self), Arc::clone(&work), answer.take());
            if request_lost {
                continue;
            }
            tokio::spawn(async move {
                sleep(there).await;
                link.server.awake().await;
                let done = work(&link.server);
                sleep(back).await;
                if let (false, Some(done), Some(answer)) = (reply_lost, done, answer) {
                    // Nobody waits any more for what is late.
                    let _ = answer.send(done);
                }
            });
        }
        match timeout_at(deadline, answered).await {
            Ok(Ok(done)) if self.is_alive.load(Ordering::Relaxed) => Ok(done),
            Ok(_) if self.server.start().is_none() => Err(Gone),
            _ => {
                // A lost message is noticed at the deadline, not before.
                tokio::time::sleep_until(deadline).await;
                Err(Gone)
            }
        }
    }

    async fn connect(self: &Arc<Self>, deadline: Instant, fresh: bool) -> Result<(Connection, Probe), Fault> {
        let lost = |_| Fault::NotSent("no answer in time".into());
        let Some(start) = self.server.start() else {
            sleep(self.network.delay()).await;
            return Err(Fault::NotSent("connection refused".into()));
        };
        let sent = Instant::now();
        let now_us = self.exchange(deadline, move |server| (server.start() == Some(start)).then(|| server.now_us())).await.map_err(lost)?;
        self.clock.sample(self.index, now_us, sent);
        if !self.clock.is_settled() {
            return Err(Fault::NotSent("too few nodes were heard".into()));
        }
        let hello = Hello {
            agreement: self.network.scenario.agreement,
            node: self.name.to_string(),
            run_id: String::new(),
            reference_us: self.clock.reference_us(),
            durable: None,
            fresh,
        };
        let sent = Instant::now();
        let (now_us, outcome) = self.exchange(deadline, move |server| server.shake_hands(start, hello.clone())).await.map_err(lost)?;
        self.clock.sample(self.index, now_us, sent);
        let marker = outcome.map_err(|refusal| Fault::Refused(format!("{refusal:?}")))?;
        let quarantine_left = Duration::from_millis(marker.ready_at_ms.saturating_sub(now_us / 1000));
        let probe = Probe { quarantine_left, round_trip: sent.elapsed(), facts: NodeFacts::default() };
        Ok((Connection { start, epoch: Epoch::from(&marker) }, probe))
    }

    async fn call(self: &Arc<Self>, batch: Vec<Arc<Command>>, deadline: Instant) -> Result<BatchReply, Fault> {
        let kept = self.connections().pop();
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect(deadline, false).await?.0,
        };
        let Connection { start, epoch } = connection.clone();
        let agreement = self.network.scenario.agreement;
        let applied = self.exchange(deadline, move |server| server.apply(start, &epoch, agreement, &batch)).await;
        let reply = applied.map_err(|Gone| Fault::Lost("no answer in time".into()))?;
        let is_stale = |answer: &Result<_, _>| matches!(answer, Err(redlockd::lease::Abstention::Epoch | redlockd::lease::Abstention::ClockBack));
        if !reply.answers.iter().any(is_stale) {
            self.connections().push(connection);
        }
        Ok(reply)
    }

    fn is_lost(&self, cut: &AtomicBool) -> bool {
        cut.load(Ordering::Relaxed) || !self.is_alive.load(Ordering::Relaxed) || self.network.happens(self.network.scenario.lost_one_in)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap()
    }
}

impl Network {
    fn delay(&self) -> Duration {
        let is_slow = self.happens(self.scenario.slow_one_in);
        let mut chance = self.chance.lock().unwrap();
        Duration::from_millis(if is_slow { 10 + chance.below(300) } else { 1 + chance.below(3) })
    }

    fn happens(&self, one_in: u64) -> bool {
        0 < one_in && !self.is_calm.load(Ordering::Relaxed) && self.chance.lock().unwrap().one_in(one_in)
    }
}

/// What a gateway sees of a link.
pub struct LinkNode(pub Arc<Link>);

impl Node for LinkNode {
    fn survey(&self) -> BoxFuture<'_, Result<Survey, Fault>> {
        Box::pin(async move {
            let link = &self.0;
            let sent = Instant::now();
            let seen = link.exchange(sent + CONNECT_TIMEOUT, |server| server.start().map(|_| (server.now_us(), server.marker()))).await;
            let (now_us, marker) = seen.map_err(|Gone| Fault::NotSent("no answer in time".into()))?;
            link.clock.sample(link.index, now_us, sent);
            Ok(Survey { facts: NodeFacts::default(), marker, high_water_us: 0, round_trip: sent.elapsed() })
        })
    }

    fn probe(&self, fresh: bool) -> BoxFuture<'_, Result<Probe, Fault>> {
        Box::pin(async move { self.0.connect(Instant::now() + CONNECT_TIMEOUT, fresh).await.map(|(_, probe)| probe) })
    }

    fn apply<'a>(&'a self, batch: &'a [Arc<Command>], deadline: Instant) -> BoxFuture<'a, Result<BatchReply, Fault>> {
        Box::pin(self.0.call(batch.to_vec(), deadline))
    }
}
