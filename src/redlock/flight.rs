//! An acquire under way: rounds of votes, the verdict to its owner, and the undoing of what was lost.
//!
//! The flight lives until the last node has answered, whatever becomes of the request: axum drops a handler's
//! future when its client goes away, and a node that was silent may have said yes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::acquire::AcquireRequest;
use super::call_timeout;
use super::cluster::Cluster;
use crate::lease::{Abstention, AcquireVote, Answer, Attempt, AttemptId, Ballot, Grant, LeaseId, Loss, Terms, Verdict};
use crate::node::{Call, Command, Receiver, Reply};

/// What an owner is told, once.
pub type Outcome = Result<Grant, Loss>;

pub struct Flight {
    cluster: Arc<Cluster>,
    request: AcquireRequest,
    lease: LeaseId,
    attempt_id: AttemptId,
    started: Instant,
    call_timeout: Duration,
    progress: Mutex<Progress>,
}

struct Progress {
    attempt: Attempt,
    stage: Stage,
    /// When the owner stops waiting for this round, or for the undoing.
    deadline: Instant,
    nodes: Vec<NodeProgress>,
    owner: Option<oneshot::Sender<Outcome>>,
}

#[derive(Clone, Copy, Default)]
struct NodeProgress {
    /// Answers that are still to come, late ones of earlier rounds included.
    outstanding: u8,
    /// It said that it accepted, in some round.
    accepted: bool,
    /// It was silent in some round, and may have accepted.
    doubtful: bool,
    /// It accepted and is being told to undo; the owner hears of the loss after that.
    cancelling: bool,
}

enum Stage {
    Voting,
    Won,
    /// Lost, and being undone. The loss is kept until the owner is told.
    Lost(Option<Loss>),
}

/// What is left to do once the lock on the progress is let go.
enum Next {
    Nothing,
    Ask { round: u8, command: Command },
    Cancel { nodes: Vec<usize>, up_to: Ballot },
}

/// The tag of a cancel; rounds have their number.
const CANCEL: u8 = 0;

impl Flight {
    pub fn start(cluster: &Arc<Cluster>, request: AcquireRequest, lease: LeaseId, owner: oneshot::Sender<Outcome>) -> Arc<Self> {
        let started = Instant::now();
        let terms = Terms { ttl: request.ttl, margin: cluster.settings().clock_jump_margin };
        let call_timeout = call_timeout(cluster, request.ttl.get());
        let ballot = cluster.ballots().draw();
        let first = NodeProgress { outstanding: 1, ..NodeProgress::default() };
        let progress = Progress {
            attempt: Attempt::new(cluster.quorum(), terms, ballot),
            stage: Stage::Voting,
            deadline: started + call_timeout,
            nodes: vec![first; cluster.quorum().nodes()],
            owner: Some(owner),
        };
        let flight = Arc::new(Self {
            cluster: Arc::clone(cluster),
            request,
            lease,
            attempt_id: AttemptId(rand::rng().random()),
            started,
            call_timeout,
            progress: Mutex::new(progress),
        });
        cluster.metrics().rounds.inc();
        cluster.ask_all(&flight, 1, flight.acquire_command(ballot, None), call_timeout);
        flight
    }

    fn acquire_command(&self, ballot: Ballot, over: Option<Ballot>) -> Command {
        let AcquireRequest { key, ttl, owner, .. } = self.request.clone();
        Command::Acquire { key, lease: self.lease.clone(), attempt: self.attempt_id, ballot, over, ttl: ttl.get(), owner }
    }

    pub fn deadline(&self) -> Instant {
        self.progress().deadline
    }

    /// The owner has waited long enough: whoever has not answered by now is silent.
    pub fn expire(self: &Arc<Self>) {
        let mut progress = self.progress();
        let round = progress.attempt.round();
        // Another round, or the undoing, has begun since the owner looked at the deadline.
        if Instant::now() < progress.deadline {
            return;
        }
        if let Stage::Lost(_) = progress.stage {
            return progress.tell_loss();
        }
        for node in 0..progress.nodes.len() {
            if matches!(progress.stage, Stage::Voting) && progress.attempt.round() == round && 0 < progress.nodes[node].outstanding {
                let verdict = progress.attempt.vote(node, round, Err(Abstention::Silent), self.started.elapsed());
                let next = self.react(&mut progress, verdict);
                if !matches!(next, Next::Nothing) {
                    drop(progress);
                    return self.act(next);
                }
            }
        }
    }

    /// Nobody wants the outcome any more: undo whatever it is or will be.
    pub fn abandon(self: &Arc<Self>) {
        let mut progress = self.progress();
        progress.owner = None;
        let next = if let Stage::Lost(_) = progress.stage { Next::Nothing } else { self.lose(&mut progress, None) };
        drop(progress);
        self.act(next);
    }

    fn answered(self: &Arc<Self>, node: usize, round: u8, answer: Answer<AcquireVote>) {
        let mut progress = self.progress();
        let of = &mut progress.nodes[node];
        of.outstanding -= 1;
        match &answer {
            Ok(vote) => of.accepted |= *vote == AcquireVote::Accepted,
            Err(abstention) => of.doubtful |= abstention.may_have_written(),
        }
        let straggler = of.has_to_undo();
        let next = match progress.stage {
            Stage::Voting => {
                let verdict = progress.attempt.vote(node, round, answer, self.started.elapsed());
                self.react(&mut progress, verdict)
            }
            Stage::Lost(_) if straggler => Next::Cancel { nodes: vec![node], up_to: progress.attempt.ballot() },
            Stage::Lost(_) | Stage::Won => Next::Nothing,
        };
        drop(progress);
        self.act(next);
    }

    fn react(&self, progress: &mut Progress, verdict: Verdict) -> Next {
        match verdict {
            Verdict::Pending => Next::Nothing,
            Verdict::NextRound { floor, over } => {
                let ballot = self.cluster.ballots().draw_above(floor);
                progress.attempt.begin_round(ballot);
                progress.deadline = Instant::now() + self.call_timeout;
                progress.nodes.iter_mut().for_each(|node| node.outstanding += 1);
                self.cluster.metrics().rounds.inc();
                self.cluster.metrics().second_rounds.inc();
                Next::Ask { round: progress.attempt.round(), command: self.acquire_command(ballot, over) }
            }
            Verdict::Granted(grant) => {
                progress.stage = Stage::Won;
                match progress.owner.take().map(|owner| owner.send(Ok(grant))) {
                    Some(Ok(())) => Next::Nothing,
                    _ => self.lose(progress, None),
                }
            }
            Verdict::Lost(loss) => self.lose(progress, Some(loss)),
        }
    }

    /// Begins to undo: at once what has answered, the rest when it answers.
    fn lose(&self, progress: &mut Progress, loss: Option<Loss>) -> Next {
        progress.stage = Stage::Lost(loss);
        progress.deadline = Instant::now() + self.cluster.settings().node_timeout;
        let nodes: Vec<usize> = (0..progress.nodes.len()).filter(|node| progress.nodes[*node].has_to_undo()).collect();
        nodes.iter().for_each(|node| progress.nodes[*node].cancelling = progress.nodes[*node].accepted);
        progress.tell_loss_once_undone();
        Next::Cancel { nodes, up_to: progress.attempt.ballot() }
    }

    fn act(self: &Arc<Self>, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Ask { round, command } => self.cluster.ask_all(self, round, command, self.call_timeout),
            Next::Cancel { nodes, up_to } => self.cancel(&nodes, up_to),
        }
    }

    fn cancel(self: &Arc<Self>, nodes: &[usize], up_to: Ballot) {
        let command = Arc::new(Command::Cancel { key: self.request.key.clone(), lease: self.lease.clone(), attempt: self.attempt_id, up_to });
        let deadline = Instant::now() + self.cluster.settings().node_timeout;
        for node in nodes {
            let call = Call { command: Arc::clone(&command), receiver: Arc::clone(self) as _, tag: CANCEL, deadline };
            if self.cluster.queues()[*node].submit(call).is_err() {
                self.cancelled(*node, false);
            }
        }
    }

    fn cancelled(&self, node: usize, done: bool) {
        let mut progress = self.progress();
        if !done {
            let (key, lease) = (self.request.key.clone(), self.lease.clone());
            let command = Command::Cancel { key, lease, attempt: self.attempt_id, up_to: progress.attempt.ballot() };
            // A record can have been written as late as the deadline of its call.
            let give_up = Instant::now() + self.request.ttl.get() + self.call_timeout;
            self.cluster.undo().push(node, Arc::new(command), give_up);
        }
        progress.nodes[node].cancelling = false;
        progress.tell_loss_once_undone();
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no code panics while it holds this")
    }
}

impl NodeProgress {
    /// Nothing of the attempt is on its way to the node, and something may be on it.
    fn has_to_undo(&self) -> bool {
        self.outstanding == 0 && (self.accepted || self.doubtful)
    }
}

impl Progress {
    fn tell_loss_once_undone(&mut self) {
        if self.nodes.iter().all(|node| !node.cancelling) {
            self.tell_loss();
        }
    }

    fn tell_loss(&mut self) {
        if let Stage::Lost(loss) = &mut self.stage
            && let (Some(loss), Some(owner)) = (loss.take(), self.owner.take())
        {
            // If nobody listens any more, nothing is left to do: it is undone already.
            let _ = owner.send(Err(loss));
        }
    }
}

impl Receiver for Flight {
    fn is_waiting(&self, tag: u8) -> bool {
        let progress = self.progress();
        match progress.stage {
            Stage::Voting => tag == progress.attempt.round(),
            // More copies than the majority are worth their while.
            Stage::Won => tag == progress.attempt.round(),
            Stage::Lost(_) => tag == CANCEL,
        }
    }

    fn receive(self: Arc<Self>, node: usize, tag: u8, answer: Answer<Reply>) {
        match answer {
            _ if tag == CANCEL => self.cancelled(node, answer.is_ok()),
            Ok(Reply::Acquire(vote)) => self.answered(node, tag, Ok(vote)),
            Ok(_) => self.answered(node, tag, Err(Abstention::Silent)),
            Err(abstention) => self.answered(node, tag, Err(abstention)),
        }
    }
}
