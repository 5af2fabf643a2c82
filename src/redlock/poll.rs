//! Asking nodes the same question: what extend, release and inspect share.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use crate::lease::{Abstention, Answer, NodeSet};
use crate::node::{Command, Receiver, Reply};
use crate::trace::Cause;

/// Counts answers until they decide.
pub trait Tally: Send + 'static {
    type Outcome: Send + 'static;

    /// Takes a node's answer, `elapsed` after the first send; the outcome, if this decides. Answers keep coming after that.
    fn answered(&mut self, node: usize, answer: Answer<Reply>, elapsed: Duration) -> Option<Self::Outcome>;
}

/// What is asked, whom, and how long it may take.
pub struct Question {
    pub command: Arc<Command>,
    /// The others are asked only if these don't decide, or not at once.
    pub first: NodeSet,
    pub call_timeout: Duration,
}

impl Question {
    /// Asks every node at once.
    pub fn to_all(cluster: &Cluster, command: Command, call_timeout: Duration) -> Self {
        Self { command: Arc::new(command), first: NodeSet::all(cluster.quorum()), call_timeout }
    }
}

/// Asks nodes and drives `tally` to its outcome. The asking goes on if this future is dropped.
pub async fn poll<T: Tally>(cluster: &Arc<Cluster>, question: Question, tally: T) -> T::Outcome {
    let Question { command, first, call_timeout } = question;
    let started = Instant::now();
    let (owner, mut decided) = oneshot::channel();
    let progress = Progress { tally, owner: Some(owner), unheard: NodeSet::default(), unasked: NodeSet::all(cluster.quorum()) };
    let poll = Arc::new(Poll {
        cluster: Arc::clone(cluster),
        command,
        started,
        deadline: started + call_timeout,
        cause: Cause::current(),
        progress: Mutex::new(progress),
    });
    poll.ask(first);
    let outcome = match timeout_at(started + cluster.patience().within(call_timeout), &mut decided).await {
        Ok(outcome) => outcome,
        Err(_) => poll.wait_for_everybody(decided).await,
    };
    outcome.expect("a poll tells its owner before it lets go of it")
}

const ONLY_ROUND: u8 = 1;

struct Poll<T: Tally> {
    cluster: Arc<Cluster>,
    command: Arc<Command>,
    started: Instant,
    deadline: Instant,
    cause: Cause,
    progress: Mutex<Progress<T>>,
}

struct Progress<T: Tally> {
    tally: T,
    owner: Option<oneshot::Sender<T::Outcome>>,
    /// Who was asked and has not answered.
    unheard: NodeSet,
    unasked: NodeSet,
}

impl<T: Tally> Poll<T> {
    fn ask(self: &Arc<Self>, nodes: NodeSet) {
        let mut progress = self.progress();
        let nodes = nodes.iter().filter(|node| progress.unasked.contains(*node)).collect();
        progress.unasked = progress.unasked.without(nodes);
        nodes.iter().for_each(|node| progress.unheard.insert(node));
        drop(progress);
        self.cluster.ask(self, nodes, ONLY_ROUND, &self.command, self.deadline);
    }

    async fn wait_for_everybody(self: Arc<Self>, mut decided: oneshot::Receiver<T::Outcome>) -> Result<T::Outcome, oneshot::error::RecvError> {
        self.ask(NodeSet::all(self.cluster.quorum()));
        if let Ok(outcome) = timeout_at(self.deadline, &mut decided).await {
            return outcome;
        }
        // The owner has waited long enough: whoever has not answered by now is silent. Every tally decides when
        // all have answered, and only the first answer of a node counts.
        (0..self.cluster.quorum().nodes()).for_each(|node| self.answered(node, Err(Abstention::Silent)));
        decided.await
    }

    fn answered(self: &Arc<Self>, node: usize, answer: Answer<Reply>) {
        let mut progress = self.progress();
        progress.unheard.remove(node);
        let outcome = progress.tally.answered(node, answer, self.started.elapsed());
        if let Some(outcome) = outcome {
            progress.unasked = NodeSet::default();
            if let Some(owner) = progress.owner.take() {
                // A caller that is gone has no use for the outcome.
                let _ = owner.send(outcome);
            }
        }
        if progress.unheard.is_empty() && !progress.unasked.is_empty() {
            let rest = progress.unasked;
            drop(progress);
            self.ask(rest);
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().expect("no code panics while it holds this")
    }
}

impl<T: Tally> Receiver for Poll<T> {
    fn is_waiting(&self, _: u8) -> bool {
        true
    }

    fn receive(self: Arc<Self>, node: usize, _: u8, answer: Answer<Reply>) {
        self.answered(node, answer);
    }

    fn cause(&self) -> Cause {
        self.cause.clone()
    }
}
