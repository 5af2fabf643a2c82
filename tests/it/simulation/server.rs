//! A server: `State` behind a clock of its own, which can die, forget, pause and be set to another time.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redlockd::node::{Agreement, BatchReply, Command, Epoch, HandshakeRefusal, Hello, Marker, State};
use tokio::time::{Instant, sleep_until};

/// Microseconds since 1970 at the beginning of a run.
const BEGIN_US: i64 = 1_800_000_000_000_000;

/// After this long clocks run at one rate, or they would be ever further apart: something keeps them together.
const DRIFTS_FOR: Duration = Duration::from_secs(3);

pub struct Server {
    began: Instant,
    /// How many parts of a million its clock is fast.
    rate: i64,
    /// Writes every change down before it answers.
    is_durable: bool,
    quarantine: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    state: State,
    /// What it would come back with if it came back with old data.
    old: State,
    is_up: bool,
    /// Which start of the server this is.
    start: u64,
    paused_until: Option<Instant>,
    clock_off_us: i64,
}

impl Server {
    pub fn new(rate: i64, clock_off_us: i64, is_durable: bool, quarantine: bool) -> Arc<Self> {
        let inner = Mutex::new(Inner { is_up: true, start: 1, clock_off_us, ..Inner::default() });
        Arc::new(Self { began: Instant::now(), rate, is_durable, quarantine, inner })
    }

    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Which start it is in, if it is up.
    pub fn start(&self) -> Option<u64> {
        let inner = self.inner();
        inner.is_up.then_some(inner.start)
    }

    pub fn now_us(&self) -> u64 {
        let elapsed = self.began.elapsed().as_micros() as i64;
        let ahead = elapsed.min(DRIFTS_FOR.as_micros() as i64) * self.rate / 1_000_000;
        (BEGIN_US + elapsed + ahead + self.inner().clock_off_us) as u64
    }

    /// Waits out a pause. What arrives while it is paused is worked on afterwards.
    pub async fn awake(&self) {
        while let Some(until) = self.paused_until() {
            sleep_until(until).await;
        }
    }

    fn paused_until(&self) -> Option<Instant> {
        self.inner().paused_until.filter(|until| Instant::now() < *until)
    }

    pub fn marker(&self) -> Option<String> {
        self.inner().state.marker().map(Marker::to_string)
    }

    /// Works on a batch that came over a connection to the `start`th start of it. None if that connection is gone.
    pub fn apply(&self, start: u64, epoch: &Epoch, agreement: Agreement, batch: &[Arc<Command>]) -> Option<BatchReply> {
        let now_us = self.now_us();
        let mut inner = self.inner_of(start)?;
        let answers = inner.state.apply(now_us, epoch, agreement, batch.iter().map(|command| &**command));
        inner.state.take_changes();
        Some(BatchReply { now_us, answers })
    }

    /// Shakes hands. `said` is what the gateway knows; the server's own facts are added here.
    pub fn shake_hands(&self, start: u64, said: Hello) -> Option<(u64, Result<Marker, HandshakeRefusal>)> {
        let now_us = self.now_us();
        let mut inner = self.inner_of(start)?;
        let hello = Hello { run_id: format!("{start:040x}"), durable: Some(self.is_durable), ..said };
        let mut outcome = inner.state.handshake(now_us, &hello);
        if let (false, Ok(marker)) = (self.quarantine, &mut outcome) {
            marker.ready_at_ms = marker.ready_at_ms.min(now_us / 1000);
            let high_water_us = inner.state.high_water_us();
            inner.state.restore(Some(marker.clone()), high_water_us);
        }
        inner.state.take_changes();
        Some((now_us, outcome))
    }

    pub fn die(&self) {
        self.inner().is_up = false;
    }

    pub fn come_back(&self, with: Data) {
        let mut inner = self.inner();
        inner.state = match with {
            Data::None => State::default(),
            Data::Old => inner.old.clone(),
            Data::All => std::mem::take(&mut inner.state),
        };
        inner.is_up = true;
        inner.start += 1;
    }

    pub fn flush(&self) {
        self.inner().state = State::default();
    }

    /// Takes a snapshot for [`Data::Old`].
    pub fn save(&self) {
        let mut inner = self.inner();
        inner.old = inner.state.clone();
    }

    pub fn pause(&self, for_how_long: Duration) {
        self.inner().paused_until = Some(Instant::now() + for_how_long);
    }

    pub fn set_clock(&self, off_us: i64) {
        self.inner().clock_off_us = off_us;
    }

    fn inner_of(&self, start: u64) -> Option<MutexGuard<'_, Inner>> {
        Some(self.inner()).filter(|inner| inner.is_up && inner.start == start)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

/// What a server comes back with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Data {
    None,
    Old,
    All,
}
