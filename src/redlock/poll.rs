//! Asking every node the same question: what extend, release and inspect share.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::cluster::Cluster;
use crate::lease::{Abstention, Answer};
use crate::node::{Command, Receiver, Reply};

/// Counts answers until they decide.
pub trait Tally: Send + 'static {
    type Outcome: Send + 'static;

    /// Takes a node's answer, `elapsed` after the first send; the outcome, if this decides. Answers keep coming after that.
    fn answered(&mut self, node: usize, answer: Answer<Reply>, elapsed: Duration) -> Option<Self::Outcome>;
}

/// Asks all nodes `command` and drives `tally` to its outcome. The asking goes on if this future is dropped.
pub async fn poll<T: Tally>(cluster: &Arc<Cluster>, command: Command, tally: T, call_timeout: Duration) -> T::Outcome {
    let (owner, mut decided) = oneshot::channel();
    let poll = Arc::new(Poll { started: Instant::now(), progress: Mutex::new(Progress { tally, owner: Some(owner) }) });
    cluster.ask_all(&poll, ONLY_ROUND, command, call_timeout);
    let outcome = match timeout(call_timeout, &mut decided).await {
        Ok(outcome) => outcome,
        Err(_) => {
            // The owner has waited long enough: whoever has not answered by now is silent. Every tally decides when
            // all have answered, and only the first answer of a node counts.
            (0..cluster.quorum().nodes()).for_each(|node| poll.answered(node, Err(Abstention::Silent)));
            decided.await
        }
    };
    outcome.expect("a poll tells its owner before it lets go of it")
}

const ONLY_ROUND: u8 = 1;

struct Poll<T: Tally> {
    started: Instant,
    progress: Mutex<Progress<T>>,
}

struct Progress<T: Tally> {
    tally: T,
    owner: Option<oneshot::Sender<T::Outcome>>,
}

impl<T: Tally> Poll<T> {
    fn answered(&self, node: usize, answer: Answer<Reply>) {
        let mut progress = self.progress();
        let outcome = progress.tally.answered(node, answer, self.started.elapsed());
        if let Some(outcome) = outcome
            && let Some(owner) = progress.owner.take()
        {
            // A caller that is gone has no use for the outcome.
            let _ = owner.send(outcome);
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
}
