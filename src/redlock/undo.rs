//! What still has to be undone on nodes that could not be reached: retried in the background until the record has expired.
//!
//! Dropping an entry is safe, since every record ends with its ttl; keeping it frees the lock earlier.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::lease::Answer;
use crate::metrics::Metrics;
use crate::node::{Call, Command, NodeQueue, Receiver, Reply};

/// Entries kept per node. Beyond it the oldest goes: its record is the next to expire by itself.
const MAX_WAITING: usize = 4096;
/// Entries tried at once per node and tick, so that a node that comes back is not met by a flood.
const MAX_TRIED: usize = 256;
const TICK: Duration = Duration::from_millis(100);

/// The queues of all nodes.
pub struct Undo {
    nodes: Arc<[Arc<NodeQueue>]>,
    waiting: Vec<Mutex<VecDeque<Entry>>>,
    call_timeout: Duration,
    metrics: Arc<Metrics>,
}

struct Entry {
    command: Arc<Command>,
    /// When the record will have expired by itself.
    give_up: Instant,
}

/// One try of one entry.
struct Retry {
    undo: Arc<Undo>,
    command: Arc<Command>,
    give_up: Instant,
}

impl Undo {
    pub fn start(nodes: Arc<[Arc<NodeQueue>]>, call_timeout: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        let waiting = nodes.iter().map(|_| Mutex::default()).collect();
        let undo = Arc::new(Self { nodes, waiting, call_timeout, metrics });
        tokio::spawn(Arc::clone(&undo).keep_trying());
        undo
    }

    /// Remembers that `node` has to be told `command` until `give_up`.
    pub fn push(&self, node: usize, command: Arc<Command>, give_up: Instant) {
        let mut waiting = self.of(node);
        if MAX_WAITING <= waiting.len() {
            waiting.pop_front();
            self.metrics.undo_dropped.inc();
            self.metrics.undo_waiting.dec();
        }
        waiting.push_back(Entry { command, give_up });
        self.metrics.undo_waiting.inc();
    }

    /// Whether nothing waits for `node`.
    pub fn is_empty(&self, node: usize) -> bool {
        self.of(node).is_empty()
    }

    async fn keep_trying(self: Arc<Self>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.forget_what_is_over();
            for node in self.nodes.iter().filter(|node| node.health().is_reachable()) {
                self.try_some(node);
            }
        }
    }

    /// Drops what has expired by itself, also for nodes that are away.
    fn forget_what_is_over(&self) {
        let now = Instant::now();
        for node in 0..self.waiting.len() {
            let mut waiting = self.of(node);
            let before = waiting.len();
            waiting.retain(|entry| now < entry.give_up);
            self.metrics.undo_waiting.sub((before - waiting.len()) as i64);
        }
    }

    fn try_some(self: &Arc<Self>, node: &NodeQueue) {
        let now = Instant::now();
        for _ in 0..MAX_TRIED {
            let Some(entry) = self.of(node.index()).pop_front() else { return };
            self.metrics.undo_waiting.dec();
            let retry = Retry { undo: Arc::clone(self), command: Arc::clone(&entry.command), give_up: entry.give_up };
            let call = Call { command: entry.command, receiver: Arc::new(retry), tag: 0, deadline: now + self.call_timeout };
            let command = Arc::clone(&call.command);
            if node.submit(call).is_err() {
                return self.push(node.index(), command, entry.give_up);
            }
        }
    }

    fn of(&self, node: usize) -> std::sync::MutexGuard<'_, VecDeque<Entry>> {
        self.waiting[node].lock().expect("no code panics while it holds this")
    }
}

impl Receiver for Retry {
    fn is_waiting(&self, _: u8) -> bool {
        true
    }

    fn receive(self: Arc<Self>, node: usize, _: u8, answer: Answer<Reply>) {
        if answer.is_err() && Instant::now() < self.give_up {
            self.undo.push(node, Arc::clone(&self.command), self.give_up);
        }
    }
}
