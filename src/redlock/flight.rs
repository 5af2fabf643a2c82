//! An acquire under way: rounds of votes, the verdict to its owner, and the undoing of what was lost.
//!
//! A majority is asked first. The other nodes are asked in the same round as soon as it turns out not to be enough, or
//! not quick enough; if it is, they get their copy of the lease after the grant.
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
use super::locks::Locks;
use crate::lease::{Abstention, AcquireVote, Answer, Attempt, AttemptId, Ballot, Grant, LeaseId, LockKey, Loss, Mode, NodeSet, Terms, Verdict};
use crate::node::{Acquire, Call, Command, Receiver, Reply};
use crate::trace::Cause;

/// What an owner is told, once.
pub type Outcome = Result<Grant, Loss>;

pub struct Flight {
    cluster: Arc<Cluster>,
    request: AcquireRequest,
    lease: LeaseId,
    /// By what the nodes know it.
    key: LockKey,
    attempt_id: AttemptId,
    started: Instant,
    call_timeout: Duration,
    cause: Cause,
    progress: Mutex<Progress>,
}

struct Progress {
    attempt: Attempt,
    stage: Stage,
    /// When the owner stops waiting for this round, or for the undoing.
    deadline: Instant,
    nodes: Vec<NodeProgress>,
    /// What this round asks.
    command: Arc<Command>,
    /// Who is asked first.
    lead: NodeSet,
    /// Who has not been asked in this round.
    unasked: NodeSet,
    /// It was given up: the lock may be free once what it wrote is undone.
    gives_back: bool,
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
    Ask { round: u8, nodes: NodeSet, command: Arc<Command>, deadline: Instant },
    Cancel { nodes: Vec<usize>, up_to: Ballot },
}

/// The tag of a cancel; rounds have their number.
const CANCEL: u8 = 0;

impl Flight {
    pub fn start(cluster: &Arc<Cluster>, request: AcquireRequest, lease: LeaseId, owner: oneshot::Sender<Outcome>) -> Arc<Self> {
        let started = Instant::now();
        let terms = Terms { ttl: request.ttl, mode: request.mode, margin: cluster.settings().clock_jump_margin };
        let call_timeout = call_timeout(cluster, request.ttl.get());
        let attempt_id = AttemptId(rand::rng().random());
        let ballot = cluster.ballots().draw();
        let key = request.locks.key(&lease);
        let progress = Progress {
            attempt: Attempt::new(cluster.quorum(), terms, ballot),
            stage: Stage::Voting,
            deadline: started + call_timeout,
            nodes: vec![NodeProgress::default(); cluster.quorum().nodes()],
            command: Arc::new(acquire_command(&request, &key, &lease, attempt_id, ballot, None, request.mode)),
            lead: cluster.lead(),
            unasked: NodeSet::all(cluster.quorum()),
            gives_back: false,
            owner: Some(owner),
        };
        let (cluster_of, cause, progress) = (Arc::clone(cluster), Cause::current(), Mutex::new(progress));
        let flight = Arc::new(Self { cluster: cluster_of, request, lease, key, attempt_id, started, call_timeout, cause, progress });
        cluster.metrics().rounds.inc();
        flight.begin();
        flight
    }

    fn begin(self: &Arc<Self>) {
        let mut progress = self.progress();
        let lead = progress.lead;
        let next = progress.ask(lead, self.started + self.call_timeout);
        if !progress.unasked.is_empty() {
            progress.deadline = self.started + self.cluster.patience().within(self.call_timeout);
        }
        drop(progress);
        self.act(next);
    }

    /// The holder has the lease, which is valid for this long from the start.
    pub fn handed_out(&self, valid_for: Duration) {
        self.cluster.held().begin(self.key.clone(), self.lease.clone(), self.started + valid_for);
    }

    /// What the lease is known by.
    pub fn lease(&self) -> (LockKey, LeaseId) {
        (self.key.clone(), self.lease.clone())
    }

    /// Who may have a record of it.
    pub fn asked(&self) -> NodeSet {
        NodeSet::all(self.cluster.quorum()).without(self.progress().unasked)
    }

    /// Sends the granted lease to the nodes that have not been asked for it, for the time that is left of it, and for
    /// `at_least` where it is just being extended.
    pub fn copy(self: &Arc<Self>, at_least: Duration) {
        let mut progress = self.progress();
        let (elapsed, bounds) = (self.started.elapsed(), &self.request.bounds);
        let until = self.request.ttl.get().max(elapsed + at_least).min(bounds.max_lifetime.unwrap_or(Duration::MAX));
        // As on a node that extends it.
        let longest = self.cluster.settings().max_ttl.saturating_sub(bounds.lock_delay);
        let left = until.saturating_sub(elapsed).min(longest);
        if left.as_millis() == 0 || !matches!(progress.stage, Stage::Won) {
            return;
        }
        let mut command = (*progress.command).clone();
        if let Command::Acquire(acquire) = &mut command {
            acquire.ttl = left + bounds.lock_delay;
        }
        progress.command = Arc::new(command);
        let next = progress.ask_the_rest(Instant::now() + self.call_timeout);
        drop(progress);
        self.act(next);
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
        if matches!(progress.stage, Stage::Voting) && !progress.unasked.is_empty() {
            let next = self.widen(&mut progress);
            drop(progress);
            return self.act(next);
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
        progress.gives_back = !matches!(progress.stage, Stage::Lost(_));
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
            Stage::Lost(_) => Next::Nothing,
            Stage::Won => {
                if answer != Ok(AcquireVote::Accepted) {
                    self.cluster.metrics().copies_refused.inc();
                }
                Next::Nothing
            }
        };
        drop(progress);
        self.act(next);
    }

    fn react(self: &Arc<Self>, progress: &mut Progress, verdict: Verdict) -> Next {
        match verdict {
            Verdict::Pending if progress.has_heard_all_asked() => self.widen(progress),
            Verdict::Pending => Next::Nothing,
            Verdict::NextRound { floor, over } => {
                let ballot = self.cluster.ballots().draw_above(floor);
                progress.attempt.begin_round(ballot);
                progress.deadline = Instant::now() + self.call_timeout;
                progress.command =
                    Arc::new(acquire_command(&self.request, &self.key, &self.lease, self.attempt_id, ballot, over, progress.attempt.mode()));
                progress.unasked = NodeSet::all(self.cluster.quorum());
                self.cluster.metrics().rounds.inc();
                self.cluster.metrics().second_rounds.inc();
                progress.ask_the_rest(progress.deadline)
            }
            Verdict::Granted(grant) => self.win(progress, grant),
            Verdict::Lost(loss) => self.lose(progress, Some(loss)),
        }
    }

    /// The majority that was asked first does not decide, or takes long: the others are asked as well.
    fn widen(&self, progress: &mut Progress) -> Next {
        if !progress.unasked.is_empty() {
            self.cluster.metrics().widened.inc();
            progress.deadline = self.started + self.call_timeout;
        }
        progress.ask_the_rest(progress.deadline)
    }

    fn win(self: &Arc<Self>, progress: &mut Progress, grant: Grant) -> Next {
        progress.stage = Stage::Won;
        if progress.lead.iter().all(|node| progress.nodes[node].accepted) {
            self.cluster.patience().usual.observe(self.started.elapsed());
        }
        // The next slot of a semaphore may be granted a moment later, and would be in the way of a late copy.
        let is_slot = matches!(grant.mode, Mode::Slot(_));
        // A repeat makes firm what it finds, on every node. A fresh lease is registered before its owner is told, who may
        // release it at once.
        let rest_is_asked_later = !grant.replayed
            && !is_slot
            && (progress.unasked.is_empty() || self.cluster.copies().add(self, progress.attempt.ballot(), self.cluster.patience().usual.get()));
        match progress.owner.take().map(|owner| owner.send(Ok(grant)).is_ok()) {
            Some(true) if rest_is_asked_later => Next::Nothing,
            Some(true) => progress.ask_the_rest(Instant::now() + self.call_timeout),
            _ => self.lose(progress, None),
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
            Next::Ask { round, nodes, command, deadline } => self.cluster.ask(self, nodes, round, &command, deadline),
            Next::Cancel { nodes, up_to } => self.cancel(&nodes, up_to),
        }
    }

    fn cancel(self: &Arc<Self>, nodes: &[usize], up_to: Ballot) {
        let command = Arc::new(Command::Cancel { key: self.key.clone(), lease: self.lease.clone(), attempt: self.attempt_id, up_to });
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
            let (key, lease) = (self.key.clone(), self.lease.clone());
            let command = Command::Cancel { key, lease, attempt: self.attempt_id, up_to: progress.attempt.ballot() };
            // A record can have been written as late as the deadline of its call.
            let give_up = Instant::now() + self.request.ttl.get() + self.request.bounds.lock_delay + self.call_timeout;
            self.cluster.undo().push(node, Arc::new(command), give_up);
        }
        progress.nodes[node].cancelling = false;
        progress.tell_loss_once_undone();
        let (gives_back, is_undone) = (progress.gives_back, progress.is_undone());
        drop(progress);
        for lock in self.request.locks.each().iter().filter(|_| gives_back) {
            self.cluster.waiters().freed(lock);
            if is_undone {
                self.cluster.tell_others(lock);
            }
        }
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
    /// Counts `nodes` as asked in this round.
    fn ask(&mut self, nodes: NodeSet, deadline: Instant) -> Next {
        self.unasked = self.unasked.without(nodes);
        nodes.iter().for_each(|node| self.nodes[node].outstanding += 1);
        Next::Ask { round: self.attempt.round(), nodes, command: Arc::clone(&self.command), deadline }
    }

    fn ask_the_rest(&mut self, deadline: Instant) -> Next {
        if self.unasked.is_empty() { Next::Nothing } else { self.ask(self.unasked, deadline) }
    }

    fn has_heard_all_asked(&self) -> bool {
        self.nodes.iter().all(|node| node.outstanding == 0)
    }

    fn is_undone(&self) -> bool {
        self.nodes.iter().all(|node| !node.cancelling)
    }

    fn tell_loss_once_undone(&mut self) {
        if self.is_undone() {
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

fn acquire_command(
    request: &AcquireRequest,
    key: &LockKey,
    lease: &LeaseId,
    attempt: AttemptId,
    ballot: Ballot,
    over: Option<Ballot>,
    mode: Mode,
) -> Command {
    let AcquireRequest { locks, ttl, owner, bounds, holds_back, .. } = request;
    let members = if let Locks::Set(members) = locks { Arc::clone(members) } else { Arc::default() };
    let (key, lease, owner) = (key.clone(), lease.clone(), owner.clone());
    let (ttl, lifetime) = (ttl.get() + bounds.lock_delay, bounds.from(ballot));
    Command::Acquire(Acquire { key, lease, attempt, ballot, over, ttl, owner, lifetime, mode, holds_back: *holds_back, members })
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

    fn cause(&self) -> Cause {
        self.cause.clone()
    }
}
