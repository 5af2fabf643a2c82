//! The locks that are held, page by page.
//!
//! A held lock is on a majority, so it is on at least one of any N-Q+1 nodes: those are scanned one after the
//! other. What a scan finds is only a name; a majority says whether it is held. A lock that another gateway granted in
//! the last moment before a listing may be missing from it: its copy can reach a node that was scanned already.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use super::inspect::view;
use super::poll::{Question, Tally, poll};
use super::{Redlock, Shortfall, shortfall};
use crate::lease::{Abstention, Answer, Holder, InspectVote, Inspection, InspectionVerdict, LockKey};
use crate::node::{Call, Command, Page, Receiver, Reply};
use crate::trace::Cause;

/// A page of held locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Ordered by name within the page. A page may be empty although more follow.
    pub locks: Vec<ListedLock>,
    /// Where the next page begins; none after the last.
    pub next: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLock {
    pub key: LockKey,
    pub holder: Holder,
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("the cursor is not one that this service gave out")]
    Cursor,
    #[error("too few nodes could be scanned")]
    NoQuorum(Shortfall),
}

/// How often an empty page is followed by the next one at once.
const SCANS_PER_PAGE: usize = 16;

pub async fn list(redlock: &Redlock, prefix: &str, cursor: Option<&str>, limit: usize) -> Result<Listed, ListError> {
    let cluster = &redlock.cluster;
    let mut place = cursor.map_or(Ok(Place::default()), Place::parse)?;
    if cursor.is_none() {
        cluster.copies().send_all();
    }
    if cluster.quorum().nodes() <= place.node {
        return Err(ListError::Cursor);
    }
    for _ in 0..SCANS_PER_PAGE {
        let Some(page) = scan(cluster, prefix, &place, limit).await? else {
            match place.skip(cluster)? {
                Some(next) => place = next,
                None => return Ok(Listed { locks: Vec::new(), next: None }),
            }
            continue;
        };
        let locks = held(cluster, page.keys, place.scanned).await?;
        let next = match page.next {
            Some(cursor) => Some(Place { cursor, ..place }),
            None => place.after_scan(cluster)?,
        };
        match next {
            Some(next) if locks.is_empty() => place = next,
            next => return Ok(Listed { locks, next: next.map(|place| place.to_string()) }),
        }
    }
    Ok(Listed { locks: Vec::new(), next: Some(place.to_string()) })
}

/// Where a listing is: in which node's scan, after which that were completed, and where in that one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    node: usize,
    /// The earlier nodes that were scanned to their end, a bit each. What one of them holds was listed with it.
    scanned: u32,
    cursor: String,
}

impl Place {
    fn parse(text: &str) -> Result<Self, ListError> {
        let mut parts = text.splitn(3, '.');
        let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok()).ok_or(ListError::Cursor);
        let (node, scanned) = (number()?, number()?);
        let cursor = parts.next().ok_or(ListError::Cursor)?.to_owned();
        let only_earlier = scanned.checked_shr(node).unwrap_or_default() == 0;
        if only_earlier { Ok(Self { node: node as usize, scanned, cursor }) } else { Err(ListError::Cursor) }
    }

    /// After a node that can't be scanned.
    fn skip(&self, cluster: &Cluster) -> Result<Option<Self>, ListError> {
        Place { node: self.node + 1, cursor: String::new(), ..*self }.or_end(cluster)
    }

    /// After a node was scanned to its end.
    fn after_scan(&self, cluster: &Cluster) -> Result<Option<Self>, ListError> {
        Place { node: self.node + 1, scanned: self.scanned | 1 << self.node, cursor: String::new() }.or_end(cluster)
    }

    /// None when enough nodes were scanned; an error when too few are left to be.
    fn or_end(self, cluster: &Cluster) -> Result<Option<Self>, ListError> {
        if cluster.quorum().blocking() <= self.completed() {
            return Ok(None);
        }
        if self.node < cluster.quorum().nodes() {
            return Ok(Some(self));
        }
        let labels: Vec<_> = cluster.queues().iter().map(|queue| queue.health().status().state.as_str()).collect();
        Err(ListError::NoQuorum(shortfall(cluster, &labels)))
    }

    /// How many nodes were scanned to their end.
    fn completed(&self) -> usize {
        self.scanned.count_ones() as usize
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.scanned, self.cursor)
    }
}

/// One page of one node's names; none if it can't be had.
async fn scan(cluster: &Cluster, prefix: &str, place: &Place, limit: usize) -> Result<Option<Page>, ListError> {
    let (answer, answered) = oneshot::channel();
    let command = Arc::new(Command::Scan { prefix: prefix.to_owned(), cursor: place.cursor.clone(), limit });
    let deadline = Instant::now() + cluster.settings().node_timeout;
    let receiver = Arc::new(Scanning { page: Mutex::new(Some(answer)), cause: Cause::current() });
    if cluster.queues()[place.node].submit(Call { command, receiver, tag: 0, deadline }).is_err() {
        return Ok(None);
    }
    match timeout_at(deadline, answered).await {
        Ok(Ok(Ok(Reply::Page(page)))) => Ok(Some(page)),
        // The node is well and can't make sense of it.
        Ok(Ok(Err(Abstention::Failed(_)))) if !place.cursor.is_empty() => Err(ListError::Cursor),
        _ => Ok(None),
    }
}

struct Scanning {
    page: Mutex<Option<oneshot::Sender<Answer<Reply>>>>,
    cause: Cause,
}

impl Receiver for Scanning {
    fn is_waiting(&self, _: u8) -> bool {
        true
    }

    fn receive(self: Arc<Self>, _: usize, _: u8, answer: Answer<Reply>) {
        if let Some(waiting) = self.page.lock().expect("no code panics while it holds this").take() {
            // The page is late and the listing has gone on without it.
            let _ = waiting.send(answer);
        }
    }

    fn cause(&self) -> Cause {
        self.cause.clone()
    }
}

/// How many names are looked at together: a batch, so that a listing does not crowd out those who want locks.
const LOOKED_AT_TOGETHER: usize = 64;

/// Which of the names found on a node are held, and were not listed with one of the `scanned`.
async fn held(cluster: &Arc<Cluster>, mut keys: Vec<LockKey>, scanned: u32) -> Result<Vec<ListedLock>, ListError> {
    keys.sort_unstable();
    keys.dedup();
    let mut locks = Vec::new();
    for some in keys.chunks(LOOKED_AT_TOGETHER) {
        for looked_at in join_all(some.iter().map(|key| look(cluster, key, scanned))).await {
            locks.extend(looked_at?);
        }
    }
    Ok(locks)
}

async fn look(cluster: &Arc<Cluster>, key: &LockKey, scanned: u32) -> Result<Option<ListedLock>, ListError> {
    let nodes = cluster.quorum().nodes();
    let views = Views { inspection: Inspection::new(cluster.quorum()), verdict: InspectionVerdict::Pending, holds: 0, answers: 0, nodes };
    let (verdict, holds) =
        poll(cluster, Question::to_all(cluster, Command::Inspect { key: key.clone() }, cluster.settings().node_timeout), views).await;
    match verdict {
        InspectionVerdict::Held { holder, .. } if holds & scanned == 0 => Ok(Some(ListedLock { key: key.clone(), holder })),
        InspectionVerdict::Together { sharers, .. } if holds & scanned == 0 => {
            // Of several the one who stays longest.
            let longest = sharers.into_iter().map(|sharing| sharing.holder).max_by_key(|holder| holder.left);
            Ok(longest.map(|holder| ListedLock { key: key.clone(), holder }))
        }
        InspectionVerdict::Undecided { votes, .. } => Err(ListError::NoQuorum(shortfall(cluster, &votes))),
        _ => Ok(None),
    }
}

/// Unlike an inspection this waits for every node, to know which of them hold the lock.
struct Views {
    inspection: Inspection,
    verdict: InspectionVerdict,
    /// The nodes that hold it, a bit each.
    holds: u32,
    answers: u32,
    nodes: usize,
}

impl Tally for Views {
    type Outcome = (InspectionVerdict, u32);

    fn answered(&mut self, node: usize, answer: Answer<Reply>, _: Duration) -> Option<Self::Outcome> {
        let vote = view(answer);
        if matches!(&vote, Ok(InspectVote::Held { .. } | InspectVote::Together { .. })) {
            self.holds |= 1 << node;
        }
        self.answers |= 1 << node;
        if self.verdict == InspectionVerdict::Pending {
            self.verdict = self.inspection.vote(node, vote);
        }
        (self.answers.count_ones() as usize == self.nodes).then(|| (self.verdict.clone(), self.holds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_what_it_wrote() {
        let place = Place { node: 1, scanned: 0, cursor: "orders/4.2".into() };
        assert_eq!(Place::parse("2.3."), Ok(Place { node: 2, scanned: 3, cursor: String::new() }));
        assert_eq!(place.to_string(), "1.0.orders/4.2");
        assert_eq!(Place::parse("1.0.orders/4.2"), Ok(place));
        for bad in ["", "1", "1.2", "x.0.", "-1.0.", "0.1.", "1.2.", "0.4294967295.", "0.18446744073709551615.", "4294967296.0."] {
            assert_eq!(Place::parse(bad), Err(ListError::Cursor), "{bad:?}");
        }
    }
}
