//! The queue in front of a node: gathers the commands of concurrent requests into batches, and bounds them.
//!
//! An idle node gets a batch of one at once, so nobody waits for a batch to fill; while it works on that the next
//! one grows, and is sent beside the first only if it is full. There is no semaphore over several nodes: holding one node's permit while waiting for another's
//! is hold-and-wait.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{ClusterClock, Command, Fault, Health, Node, NodeName, Reply, Usual};
use crate::lease::{Abstention, Answer, Vote};
use crate::metrics::NodeMetrics;
use crate::trace::{Cause, Span};

/// Who waits for answers. Called on the queue's own task: it must not block.
pub trait Receiver: Send + Sync + 'static {
    /// Whether the answer still matters. What has not been sent by then need not be.
    fn is_waiting(&self, tag: u8) -> bool;

    /// Takes a node's answer to the command sent with `tag`.
    fn receive(self: Arc<Self>, node: usize, tag: u8, answer: Answer<Reply>);

    /// What it asks for, as traces show it.
    fn cause(&self) -> Cause {
        Cause::default()
    }
}

/// One command on its way to one node.
pub struct Call {
    pub command: Arc<Command>,
    pub receiver: Arc<dyn Receiver>,
    /// Given back with the answer: which of its questions the receiver is answered.
    pub tag: u8,
    pub deadline: Instant,
}

#[derive(Clone, Copy, Debug)]
pub struct QueueSettings {
    /// How many batches may be in flight to the node at once.
    pub in_flight: u32,
}

/// How many commands travel in one batch: at 10 us each the node is busy for under a millisecond.
const MAX_BATCH: usize = 64;
/// How many commands may wait: at 50 000 a second, more than this can't be sent before its deadline.
const MAX_WAITING: usize = 8192;
/// How often a node is probed.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);

/// The queue. The tasks that empty it live as long as the runtime.
pub struct NodeQueue {
    index: usize,
    name: NodeName,
    node: Arc<dyn Node>,
    waiting: Mutex<Waiting>,
    /// Wakes a task that sends.
    work: Notify,
    health: Health,
    /// How long a batch takes that is answered.
    usual: Usual,
    clock: Arc<ClusterClock>,
    metrics: NodeMetrics,
}

/// A call, and its span, from the submission to the answer.
struct Submitted {
    call: Call,
    span: Span,
}

#[derive(Default)]
struct Waiting {
    /// What makes room for others goes first.
    urgent: VecDeque<Submitted>,
    normal: VecDeque<Submitted>,
    /// Batches that are being sent or answered.
    in_flight: usize,
}

/// What a look into the queue found.
#[derive(Default)]
struct Taken {
    batch: Vec<Submitted>,
    late: Vec<Submitted>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.urgent.len() + self.normal.len()
    }

    fn pop(&mut self) -> Option<Submitted> {
        self.urgent.pop_front().or_else(|| self.normal.pop_front())
    }
}

impl NodeQueue {
    /// Puts a queue in front of `node`, the `index`th of the configuration, and starts its tasks.
    pub fn start(
        index: usize,
        name: NodeName,
        node: Arc<dyn Node>,
        settings: QueueSettings,
        clock: Arc<ClusterClock>,
        metrics: NodeMetrics,
    ) -> Arc<Self> {
        let (waiting, work, health, usual) = (Mutex::default(), Notify::new(), Health::default(), Usual::default());
        let queue = Arc::new(Self { index, name, node, waiting, work, health, usual, clock, metrics });
        for _ in 0..settings.in_flight {
            tokio::spawn(Arc::clone(&queue).send_batches());
        }
        queue
    }

    pub fn index(&self) -> usize {
        self.index
    }

    pub fn name(&self) -> &NodeName {
        &self.name
    }

    pub fn node(&self) -> &dyn Node {
        &*self.node
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How long it usually takes to answer.
    pub fn usual(&self) -> Duration {
        self.usual.get()
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_idle(&self) -> bool {
        let waiting = self.waiting();
        waiting.in_flight == 0 && waiting.len() == 0
    }

    /// Takes a call, or says at once why not; the receiver then hears nothing more of it.
    pub fn submit(&self, call: Call) -> Result<(), Abstention> {
        if !self.health.is_reachable() {
            return Err(self.health.absence());
        }
        let span = call.receiver.cause().call(&self.name, call.command.as_str());
        let mut waiting = self.waiting();
        let queue = if call.command.is_urgent() { &mut waiting.urgent } else { &mut waiting.normal };
        if MAX_WAITING <= queue.len() {
            return Err(Abstention::Overloaded);
        }
        queue.push_back(Submitted { call, span });
        let is_work = if waiting.in_flight == 0 { waiting.len() == 1 } else { waiting.len() == MAX_BATCH };
        drop(waiting);
        if is_work {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Probes the node once and keeps what was learned.
    pub async fn probe(&self, fresh: bool) {
        match self.node.probe(fresh).await {
            Ok(probe) => {
                let left = probe.quarantine_left;
                match (self.health.probe_succeeded(probe), left.is_zero()) {
                    (false, _) => {}
                    (true, true) => info!(node = %self.name, "node is up and votes"),
                    (true, false) => warn!(
                        node = %self.name,
                        left_s = left.as_secs_f64(),
                        "node may have forgotten locks: it is quarantined until every lease that it may have known is over"
                    ),
                }
            }
            Err(fault) => {
                if self.health.probe_failed(&fault) {
                    warn!(node = %self.name, reason = %fault, "node is not used until a probe finds it fit");
                }
            }
        }
        self.metrics.show(&self.health.status(), self.clock.offset_us(self.index), self.node.connections());
    }

    async fn send_batches(self: Arc<Self>) {
        loop {
            let batch = self.next_batch().await;
            self.send(batch).await;
            self.waiting().in_flight -= 1;
        }
    }

    /// The next calls that are worth sending. Those that are too late, or that nobody waits for, are answered here.
    async fn next_batch(&self) -> Vec<Submitted> {
        loop {
            let work = self.work.notified();
            let Taken { batch, late } = self.take();
            let any_late = !late.is_empty();
            for call in late {
                self.answer(call, Err(Abstention::Unreachable));
            }
            if !batch.is_empty() {
                return batch;
            }
            if any_late {
                self.waiting().in_flight -= 1;
            } else {
                work.await;
            }
        }
    }

    /// Takes calls out of the queue. While any of them is unanswered they count as one batch in flight.
    fn take(&self) -> Taken {
        let mut taken = Taken::default();
        let now = Instant::now();
        let mut waiting = self.waiting();
        if 0 < waiting.in_flight && waiting.len() < MAX_BATCH {
            return taken;
        }
        while taken.batch.len() < MAX_BATCH {
            let Some(next) = waiting.pop() else { break };
            let is_late = next.call.deadline <= now || !next.call.receiver.is_waiting(next.call.tag);
            let into = if is_late { &mut taken.late } else { &mut taken.batch };
            into.push(next);
        }
        waiting.in_flight += usize::from(!(taken.batch.is_empty() && taken.late.is_empty()));
        let is_more_work = MAX_BATCH <= waiting.len();
        drop(waiting);
        if is_more_work {
            self.work.notify_one();
        }
        taken
    }

    async fn send(&self, batch: Vec<Submitted>) {
        let commands: Vec<_> = batch.iter().map(|of| Arc::clone(&of.call.command)).collect();
        let Some(deadline) = batch.iter().map(|of| of.call.deadline).max() else { return };
        let sent = Instant::now();
        let outcome = self.node.apply(&commands, deadline).await;
        self.metrics.batch_seconds.observe(sent.elapsed().as_secs_f64());
        self.metrics.batch_commands.observe(commands.len() as f64);
        match outcome {
            Ok(reply) => {
                self.clock.sample(self.index, reply.now_us, sent);
                self.health.call_succeeded();
                self.usual.observe(sent.elapsed());
                for (call, answer) in batch.into_iter().zip(reply.answers) {
                    self.answer(call, answer);
                }
            }
            Err(fault) => {
                self.metrics.faults.inc();
                if self.health.call_failed(&fault) {
                    warn!(node = %self.name, reason = %fault, "node failed three times in a row and is not used until a probe is answered");
                }
                let abstention = match fault {
                    Fault::Lost(_) => Abstention::Silent,
                    Fault::NotSent(_) => Abstention::Unreachable,
                    Fault::Refused(_) => Abstention::Refused,
                };
                for call in batch {
                    self.answer(call, Err(abstention.clone()));
                }
            }
        }
    }

    fn answer(&self, Submitted { call, span }: Submitted, answer: Answer<Reply>) {
        self.metrics.vote(answer.label());
        span.set("redlockd.vote", answer.label());
        drop(span);
        call.receiver.receive(self.index, call.tag, answer);
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no code panics while it holds this")
    }
}

impl Vote for Reply {
    fn label(&self) -> &'static str {
        match self {
            Self::Acquire(vote) => vote.label(),
            Self::Extend(vote) => vote.label(),
            Self::Release(vote) => vote.label(),
            Self::Inspect(vote) => vote.label(),
            Self::Cancel { .. } => "cancelled",
            Self::Page(_) => "page",
        }
    }
}
