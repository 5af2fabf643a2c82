//! What still has to be undone on nodes that could not be reached: retried in the background until the record has expired.
//!
//! Dropping an entry is safe, since every record ends with its ttl; keeping it frees the lock earlier.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
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
    backlogs: Vec<Mutex<Backlog>>,
    call_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// What is left to undo on one node.
#[derive(Default)]
struct Backlog {
    waiting: VecDeque<Entry>,
    /// Entries that are not in `waiting` because they are being tried.
    trying: usize,
}

#[derive(Clone)]
struct Entry {
    command: Arc<Command>,
    /// When the record will have expired by itself.
    give_up: Instant,
}

/// One try of one entry.
struct Retry {
    undo: Arc<Undo>,
    entry: Entry,
}

impl Undo {
    pub fn start(nodes: Arc<[Arc<NodeQueue>]>, call_timeout: Duration, metrics: Arc<Metrics>) -> Arc<Self> {
        let backlogs = nodes.iter().map(|_| Mutex::default()).collect();
        let undo = Arc::new(Self { nodes, backlogs, call_timeout, metrics });
        tokio::spawn(Arc::clone(&undo).keep_trying());
        undo
    }

    /// Remembers that `node` has to be told `command` until `give_up`.
    pub fn push(&self, node: usize, command: Arc<Command>, give_up: Instant) {
        self.keep(&mut self.of(node), Entry { command, give_up });
    }

    fn keep(&self, backlog: &mut Backlog, entry: Entry) {
        if MAX_WAITING <= backlog.waiting.len() {
            backlog.waiting.pop_front();
            self.metrics.undo_dropped.inc();
            self.metrics.undo_waiting.dec();
        }
        backlog.waiting.push_back(entry);
        self.metrics.undo_waiting.inc();
    }

    /// Whether nothing is left to undo on `node`.
    pub fn is_empty(&self, node: usize) -> bool {
        let backlog = self.of(node);
        backlog.waiting.is_empty() && backlog.trying == 0
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
        for node in 0..self.nodes.len() {
            let waiting = &mut self.of(node).waiting;
            let before = waiting.len();
            waiting.retain(|entry| now < entry.give_up);
            self.metrics.undo_waiting.sub((before - waiting.len()) as i64);
        }
    }

    fn try_some(self: &Arc<Self>, node: &NodeQueue) {
        for _ in 0..MAX_TRIED {
            let Some(entry) = self.begin_try(node.index()) else { return };
            let retry = Arc::new(Retry { undo: Arc::clone(self), entry: entry.clone() });
            let call = Call { command: entry.command, receiver: Arc::clone(&retry) as _, tag: 0, deadline: Instant::now() + self.call_timeout };
            if let Err(abstention) = node.submit(call) {
                return retry.receive(node.index(), 0, Err(abstention));
            }
        }
    }

    fn begin_try(&self, node: usize) -> Option<Entry> {
        let mut backlog = self.of(node);
        let entry = backlog.waiting.pop_front()?;
        backlog.trying += 1;
        self.metrics.undo_waiting.dec();
        Some(entry)
    }

    fn end_try(&self, node: usize, again: Option<Entry>) {
        let mut backlog = self.of(node);
        backlog.trying -= 1;
        if let Some(entry) = again {
            self.keep(&mut backlog, entry);
        }
    }

    fn of(&self, node: usize) -> MutexGuard<'_, Backlog> {
        self.backlogs[node].lock().expect("no code panics while it holds this")
    }
}

impl Receiver for Retry {
    fn is_waiting(&self, _: u8) -> bool {
        true
    }

    fn receive(self: Arc<Self>, node: usize, _: u8, answer: Answer<Reply>) {
        let again = answer.is_err() && Instant::now() < self.entry.give_up;
        self.undo.end_try(node, again.then(|| self.entry.clone()));
    }
}
