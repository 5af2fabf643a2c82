//! The embedded node: `state` in memory, every batch on disk before it is answered.
//!
//! One thread owns the state and the database. It takes all batches that wait, applies them one after the
//! other, commits once, and only then answers: after `kill -9` nothing acknowledged is lost.

mod tables;

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::Database;
use redb::backends::FileBackend;
use tables::LoadError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::state::Hello;
use super::{Agreement, BatchReply, BoxFuture, ClusterClock, Command, Epoch, Fault, Node, NodeFacts, NodeName, Persistence, Probe, State, Survey};

/// How many batches may wait for the disk; beyond that a caller is turned away.
const MAX_WAITING: usize = 256;
const NAME: &str = "embedded";

/// Why the embedded node can't start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("cannot create {path}: {source}", path = path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("{path} is in use by another redlockd; give this one its own data_dir, or run both on Redis nodes", path = .0.display())]
    InUse(PathBuf),
    #[error(
        "{path} is empty: what it knew is lost; move it away once every lease that it may have granted is over, \
         and a new one is made", path = .0.display()
    )]
    Emptied(PathBuf),
    #[error("cannot use {path}: {source}", path = path.display())]
    Database { path: PathBuf, source: redb::Error },
    #[error(
        "{path} holds {what} that this version cannot read: a newer redlockd wrote it, or it is damaged; \
         start the version that wrote it, or move the file away once every lease that it may hold is over", path = path.display()
    )]
    Unreadable { path: PathBuf, what: String },
}

/// The one node of a gateway that was given no others.
pub struct EmbeddedNode {
    jobs: mpsc::Sender<Job>,
    clock: Arc<ClusterClock>,
}

enum Job {
    Apply(Vec<Arc<Command>>, oneshot::Sender<Result<BatchReply, Fault>>),
    Probe(oneshot::Sender<Result<Probe, Fault>>),
}

impl EmbeddedNode {
    /// Opens or creates the node in `data_dir`. A data directory that is new never granted anything.
    pub fn open(data_dir: &Path, agreement: Agreement, run_id: String, clock: Arc<ClusterClock>) -> Result<Self, EmbeddedError> {
        let directory = |source| EmbeddedError::Directory { path: data_dir.to_owned(), source };
        // Lease ids are secrets, and they are in it.
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(directory)?;
        let path = Self::path(data_dir);
        if path.metadata().is_ok_and(|file| file.len() == 0) {
            return Err(EmbeddedError::Emptied(path));
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(directory)?;
        let database = FileBackend::new(file).and_then(|file| Database::builder().create_with_backend(file)).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => EmbeddedError::InUse(path.clone()),
            other => EmbeddedError::Database { path: path.clone(), source: other.into() },
        })?;
        let mut state = tables::load(&database).map_err(|error| match error {
            LoadError::Database(source) => EmbeddedError::Database { path: path.clone(), source },
            LoadError::Unreadable(what) => EmbeddedError::Unreadable { path: path.clone(), what },
        })?;
        state.adopt(agreement, now_us());
        let (jobs, waiting) = mpsc::channel(MAX_WAITING);
        let disk = Disk { path: path.clone(), database: Some(database), state, agreement, run_id, epoch: None };
        std::thread::Builder::new()
            .name("embedded-node".into())
            .spawn(move || disk.serve(waiting))
            .map_err(|source| EmbeddedError::Directory { path: path.clone(), source })?;
        Ok(Self { jobs, clock })
    }

    /// Where it lies in a data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("node.redb")
    }

    /// The name of the only node of an embedded cluster.
    pub fn name() -> NodeName {
        NodeName::new(NAME).expect("the constant is a valid name")
    }

    /// What it is by its nature.
    pub fn facts() -> NodeFacts {
        NodeFacts {
            version: concat!("redlockd ", env!("CARGO_PKG_VERSION")).to_owned(),
            mode: "embedded".to_owned(),
            role: "master".to_owned(),
            eviction: "noeviction".to_owned(),
            persistence: Persistence::EveryChange,
            ..NodeFacts::default()
        }
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Fault>>) -> Job) -> Result<T, Fault> {
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(job(answer)).map_err(|_| Fault::NotSent("the disk does not keep up".into()))?;
        answered.await.unwrap_or_else(|_| Err(Fault::Lost("the embedded node has stopped".into())))
    }
}

impl Node for EmbeddedNode {
    fn survey(&self) -> BoxFuture<'_, Result<Survey, Fault>> {
        self.clock.sample(0, now_us(), Instant::now());
        Box::pin(async { Ok(Survey { facts: Self::facts(), marker: None, high_water_us: 0, round_trip: Duration::ZERO }) })
    }

    fn probe(&self, _: bool) -> BoxFuture<'_, Result<Probe, Fault>> {
        Box::pin(async {
            self.clock.sample(0, now_us(), Instant::now());
            self.ask(Job::Probe).await
        })
    }

    fn apply<'a>(&'a self, batch: &'a [Arc<Command>], deadline: Instant) -> BoxFuture<'a, Result<BatchReply, Fault>> {
        Box::pin(async move {
            let answer = self.ask(|answer| Job::Apply(batch.to_vec(), answer));
            timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(Fault::Lost("the disk did not answer in time".into())))
        })
    }
}

/// What the thread owns.
struct Disk {
    path: PathBuf,
    /// None after a failure: a database that met one refuses everything, and is opened anew.
    database: Option<Database>,
    state: State,
    agreement: Agreement,
    run_id: String,
    epoch: Option<Epoch>,
}

impl Disk {
    fn serve(mut self, mut waiting: mpsc::Receiver<Job>) {
        let mut group = Vec::new();
        while let Some(first) = waiting.blocking_recv() {
            group.push(first);
            while let Ok(next) = waiting.try_recv() {
                group.push(next);
            }
            self.serve_group(std::mem::take(&mut group));
        }
    }

    fn serve_group(&mut self, group: Vec<Job>) {
        let begun = Instant::now();
        let mut applied = Vec::new();
        let mut probed = Vec::new();
        for job in group {
            match job {
                Job::Apply(commands, answer) => applied.push((self.apply(&commands), answer)),
                Job::Probe(answer) => probed.push((self.shake_hands(), answer)),
            }
        }
        let committed = self.commit();
        for (result, answer) in applied {
            // Nobody may be there any more; then the deadline has passed and the answer is void.
            let _ = answer.send(committed.clone().and(result));
        }
        for (result, answer) in probed {
            let result = committed.clone().and(result);
            let _ = answer.send(result.map(|probe| Probe { round_trip: begun.elapsed(), ..probe }));
        }
    }

    fn apply(&mut self, commands: &[Arc<Command>]) -> Result<BatchReply, Fault> {
        let epoch = self.epoch.clone().ok_or_else(|| Fault::NotSent("the embedded node has not started yet".into()))?;
        let now_us = now_us();
        let answers = self.state.apply(now_us, &epoch, self.agreement, commands.iter().map(|command| &**command));
        Ok(BatchReply { now_us, answers })
    }

    fn shake_hands(&mut self) -> Result<Probe, Fault> {
        self.reopen_if_it_failed()?;
        let now_us = now_us();
        let fresh = self.state.marker().is_none();
        // Its own clock is the median of a cluster of one.
        let (node, run_id) = (NAME.into(), self.run_id.clone());
        let hello = Hello { agreement: self.agreement, node, run_id, reference_us: now_us, durable: Some(true), fresh };
        // The agreement was adopted on start and nobody else writes here, so only the clock can be refused.
        let marker =
            self.state.handshake(now_us, &hello).map_err(|refusal| Fault::Refused(format!("the embedded node refuses itself: {refusal:?}")))?;
        self.epoch = Some(Epoch::from(&marker));
        let quarantine_left = Duration::from_millis(marker.ready_at_ms.saturating_sub(now_us / 1000));
        Ok(Probe { quarantine_left, round_trip: Duration::ZERO, facts: NodeFacts { run_id: self.run_id.clone(), ..EmbeddedNode::facts() } })
    }

    /// After a failure memory knows more than the disk, so it goes back to what is there.
    fn reopen_if_it_failed(&mut self) -> Result<(), Fault> {
        if self.database.is_some() {
            return Ok(());
        }
        let failed = |error: LoadError| Fault::NotSent(format!("the disk failed: {error}"));
        let database = Database::create(&self.path).map_err(|error| failed(redb::Error::from(error).into()))?;
        self.state = tables::load(&database).map_err(failed)?;
        self.state.adopt(self.agreement, now_us());
        self.database = Some(database);
        Ok(())
    }

    /// Writes down what changed. If the disk fails nothing votes until a probe has opened the database again.
    fn commit(&mut self) -> Result<(), Fault> {
        let changes = self.state.take_changes();
        if changes.is_empty() {
            return Ok(());
        }
        let Some(database) = &self.database else { return Err(Fault::NotSent("the disk failed".into())) };
        tables::write(database, &self.state, &changes).map_err(|error| {
            tracing::error!(%error, "cannot write to the data directory");
            self.database = None;
            self.epoch = None;
            Fault::Lost(format!("the disk failed: {error}"))
        })
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
