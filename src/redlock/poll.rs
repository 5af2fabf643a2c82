//! Asking every node the same question, and again if the answers call for it: what extend, release and inspect share.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use crate::lease::{Abstention, Answer};
use crate::node::{Command, Receiver, Reply};

/// Counts answers until they decide.
pub trait Tally: Send + 'static {
    type Outcome: Send + 'static;

    /// Takes a node's answer in `round`, `elapsed` after the first send. Answers keep coming after the decision.
    fn answered(&mut self, node: usize, round: u8, answer: Answer<Reply>, elapsed: Duration) -> Step<Self::Outcome>;
}

pub enum Step<O> {
    Wait,
    /// Ask every node this, in the next round.
    Ask(Command),
    Decided(O),
}

/// Asks all nodes `command` and drives `tally` to its outcome. The asking goes on if this future is dropped.
pub async fn poll<T: Tally>(cluster: &Arc<Cluster>, command: Command, tally: T, call_timeout: Duration) -> T::Outcome {
    let (owner, mut decided) = oneshot::channel();
    let poll = Poll::start(cluster, command, tally, call_timeout, Some(owner));
    loop {
        let deadline = poll.progress().deadline;
        match timeout_at(deadline, &mut decided).await {
            // The sender lives in the poll, which this function keeps alive, and is used before it is dropped.
            Ok(outcome) => return outcome.expect("a poll tells its owner before it lets go of it"),
            Err(_) => poll.expire(),
        }
    }
}

struct Poll<T: Tally> {
    cluster: Arc<Cluster>,
    started: Instant,
    call_timeout: Duration,
    progress: Mutex<Progress<T>>,
}

struct Progress<T: Tally> {
    tally: T,
    round: u8,
    deadline: Instant,
    owner: Option<oneshot::Sender<T::Outcome>>,
}

impl<T: Tally> Poll<T> {
    fn start(cluster: &Arc<Cluster>, command: Command, tally: T, call_timeout: Duration, owner: Option<oneshot::Sender<T::Outcome>>) -> Arc<Self> {
        let started = Instant::now();
        let progress = Mutex::new(Progress { tally, round: 1, deadline: started + call_timeout, owner });
        let poll = Arc::new(Self { cluster: Arc::clone(cluster), started, call_timeout, progress });
        cluster.ask_all(&poll, 1, command, call_timeout);
        poll
    }

    fn answered(self: &Arc<Self>, node: usize, round: u8, answer: Answer<Reply>) {
        let mut progress = self.progress();
        let step = progress.tally.answered(node, round, answer, self.started.elapsed());
        self.take(progress, step);
    }

    /// The owner has waited long enough: whoever has not answered by now is silent.
    fn expire(self: &Arc<Self>) {
        let Progress { round, deadline, .. } = *self.progress();
        // Another round has begun since the owner looked at the deadline.
        if Instant::now() < deadline {
            return;
        }
        for node in 0..self.cluster.quorum().nodes() {
            let mut progress = self.progress();
            if progress.round == round {
                let step = progress.tally.answered(node, round, Err(Abstention::Silent), self.started.elapsed());
                self.take(progress, step);
            }
        }
    }

    fn take(self: &Arc<Self>, mut progress: MutexGuard<'_, Progress<T>>, step: Step<T::Outcome>) {
        match step {
            Step::Wait => {}
            Step::Decided(outcome) => {
                if let Some(owner) = progress.owner.take() {
                    // A caller that is gone has no use for the outcome.
                    let _ = owner.send(outcome);
                }
            }
            Step::Ask(command) => {
                progress.round += 1;
                progress.deadline = Instant::now() + self.call_timeout;
                let round = progress.round;
                drop(progress);
                self.cluster.ask_all(self, round, command, self.call_timeout);
            }
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

    fn receive(self: Arc<Self>, node: usize, tag: u8, answer: Answer<Reply>) {
        self.answered(node, tag, answer);
    }
}
