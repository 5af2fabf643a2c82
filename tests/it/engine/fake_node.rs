//! A node in memory that does what it is told: answers late, loses requests, loses replies after their effect.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redlockd::lease::{Answer, Ballot};
use redlockd::node::{
    Agreement, BatchReply, BoxFuture, ClusterClock, Command, Epoch, Fault, Hello, Node, NodeFacts, NodeName, Probe, Reply, Said, State, Survey,
};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::name_of;
use crate::support::lock_key;

/// What becomes of one batch.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is answered this much later.
    Late(Duration),
    /// It is not carried out and not answered.
    RequestLost,
    /// It is carried out and not answered.
    ReplyLost,
    /// The node can't be connected to.
    Down,
    /// Every command is answered with this, and none is carried out.
    Says(Answer<Reply>),
}

pub struct FakeNode {
    index: usize,
    clock: Arc<ClusterClock>,
    started: Instant,
    /// What gateways say to each other through it.
    words: broadcast::Sender<Said>,
    inner: Mutex<Inner>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

#[derive(Default)]
struct Inner {
    state: State,
    epoch: Option<Epoch>,
    /// Of the next batches; the others are answered at once.
    fates: VecDeque<Fate>,
    /// Of every batch, if there is one.
    always: Option<Fate>,
    is_down: bool,
    seen: Vec<Vec<Command>>,
}

pub fn agreement() -> Agreement {
    crate::support::agreement()
}

impl FakeNode {
    pub fn new(index: usize, clock: &Arc<ClusterClock>) -> Arc<Self> {
        let (clock, started, words) = (Arc::clone(clock), Instant::now(), broadcast::Sender::new(1024));
        let (inner, in_flight, most_in_flight) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { index, clock, started, words, inner, in_flight, most_in_flight })
    }

    pub fn name(&self) -> NodeName {
        name_of(self.index)
    }

    /// The fate of the next batch after those that were told already.
    pub fn next(&self, fate: Fate) {
        self.inner().fates.push_back(fate);
    }

    /// The fate of every batch from now on, or none.
    pub fn always(&self, fate: impl Into<Option<Fate>>) {
        self.inner().always = fate.into();
    }

    /// Whether it can be connected to, by probes too.
    pub fn set_down(&self, is_down: bool) {
        self.inner().is_down = is_down;
    }

    /// The batches that reached it.
    pub fn batches(&self) -> Vec<Vec<Command>> {
        self.inner().seen.clone()
    }

    /// The commands that reached it.
    pub fn commands(&self) -> Vec<Command> {
        self.batches().concat()
    }

    pub fn cancels(&self) -> usize {
        self.commands().iter().filter(|command| matches!(command, Command::Cancel { .. })).count()
    }

    /// How many batches it had to work on at once, at most.
    pub fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }

    pub fn holds(&self, lock: &str) -> bool {
        let now_ms = self.now_us() / 1000;
        self.inner().state.lock(&lock_key(lock)).is_some_and(|(_, expires_ms)| now_ms <= expires_ms)
    }

    /// Carries something out behind the gateway's back.
    pub fn carry_out(&self, command: &Command) -> Answer<Reply> {
        self.inner().carry_out(self.now_us(), [command]).remove(0)
    }

    /// Its time as a ballot, and this much later.
    pub fn ahead(&self, by: Duration) -> Ballot {
        Ballot::from_micros(self.now_us() + by.as_micros() as u64)
    }

    fn now_us(&self) -> u64 {
        1_795_000_000_000_000 + self.started.elapsed().as_micros() as u64
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn is_reachable(&self) -> Result<(), Fault> {
        if self.inner().is_down { Err(Fault::NotSent("connection refused".into())) } else { Ok(()) }
    }

    async fn answer(&self, batch: &[Arc<Command>], deadline: Instant) -> Result<BatchReply, Fault> {
        self.is_reachable()?;
        let fate = {
            let mut inner = self.inner();
            inner.seen.push(batch.iter().map(|command| (**command).clone()).collect());
            inner.fates.pop_front().or(inner.always.clone())
        };
        let carry_out = || self.inner().carry_out(self.now_us(), batch.iter().map(|command| &**command));
        let answers = match fate {
            None => carry_out(),
            Some(Fate::Says(answer)) => vec![answer; batch.len()],
            Some(Fate::Down) => return Err(Fault::NotSent("connection refused".into())),
            Some(Fate::Late(by)) => {
                sleep(by).await;
                carry_out()
            }
            Some(lost) => {
                if let Fate::ReplyLost = lost {
                    carry_out();
                }
                sleep_until(deadline).await;
                return Err(Fault::Lost("no answer in time".into()));
            }
        };
        Ok(BatchReply { now_us: self.now_us(), answers })
    }
}

impl Inner {
    fn carry_out<'a>(&mut self, now_us: u64, commands: impl IntoIterator<Item = &'a Command>) -> Vec<Answer<Reply>> {
        let epoch = self.epoch.clone().expect("the gateway shakes hands first");
        self.state.apply(now_us, &epoch, agreement(), commands)
    }
}

impl Node for FakeNode {
    fn survey(&self) -> BoxFuture<'_, Result<Survey, Fault>> {
        Box::pin(async {
            self.is_reachable()?;
            self.clock.sample(self.index, self.now_us(), Instant::now());
            let marker = self.inner().state.marker().map(ToString::to_string);
            Ok(Survey { facts: NodeFacts::default(), marker, high_water_us: 0, round_trip: Duration::ZERO })
        })
    }

    fn probe(&self, fresh: bool) -> BoxFuture<'_, Result<Probe, Fault>> {
        Box::pin(async move {
            self.is_reachable()?;
            let (now_us, node) = (self.now_us(), self.name().to_string());
            let hello =
                Hello { agreement: agreement(), node, run_id: "run".into(), reference_us: self.clock.reference_us(), durable: Some(true), fresh };
            let marker = self.inner().state.handshake(now_us, &hello).map_err(|refusal| Fault::Refused(format!("{refusal:?}")))?;
            self.inner().epoch = Some(Epoch::from(&marker));
            let quarantine_left = Duration::from_millis(marker.ready_at_ms.saturating_sub(now_us / 1000));
            Ok(Probe { quarantine_left, round_trip: Duration::ZERO, facts: NodeFacts::default() })
        })
    }

    fn converse<'a>(&'a self, to_say: &'a mut mpsc::Receiver<Said>, heard: &'a mpsc::Sender<Said>) -> BoxFuture<'a, Fault> {
        Box::pin(async move {
            let mut hears = self.words.subscribe();
            loop {
                tokio::select! {
                    Some(said) = to_say.recv() => drop(self.words.send(said)),
                    Ok(said) = hears.recv() => drop(heard.send(said).await),
                    else => return Fault::Lost("nobody listens any more".into()),
                }
            }
        })
    }

    fn apply<'a>(&'a self, batch: &'a [Arc<Command>], deadline: Instant) -> BoxFuture<'a, Result<BatchReply, Fault>> {
        Box::pin(async move {
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(now, Ordering::SeqCst);
            let answer = self.answer(batch, deadline).await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            answer
        })
    }
}
