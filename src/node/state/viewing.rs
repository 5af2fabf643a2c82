//! Reading on one node: one lock, or the names of those that are held.

use std::ops::Bound;

use super::{Batch, State, holder, sharer_as_holder};
use crate::lease::{InspectVote, LockKey, Sharing};
use crate::node::{Page, Record};

impl State {
    pub(super) fn inspect(&self, batch: &Batch, key: &LockKey) -> InspectVote {
        match self.live(batch, key).map(|held| (&held.value, held.expires_ms)) {
            None => InspectVote::Free,
            Some((Record::Alone(record), expires_ms)) => InspectVote::Held {
                lease: Some(record.lease.clone()),
                holder: holder(record, expires_ms - batch.now_ms()),
                members: record.members.clone(),
            },
            Some((Record::Together(together), _)) => InspectVote::of_together(
                together.limit,
                together
                    .live(batch.now_ms())
                    .map(|sharer| Sharing { lease: sharer.record.lease.clone(), slot: sharer.slot, holder: sharer_as_holder(sharer, batch.now_ms()) })
                    .collect(),
            ),
        }
    }

    /// A cursor is the last name of the page before. Expired names may be among them; who asks, inspects.
    pub(super) fn scan(&self, prefix: &str, cursor: &str, limit: usize) -> Page {
        let from = prefix.max(cursor);
        let mut keys: Vec<LockKey> = Vec::new();
        let begin = LockKey::new(from).map_or(Bound::Unbounded, Bound::Included);
        for key in self.locks.range((begin, Bound::Unbounded)).map(|(key, _)| key) {
            if key.as_str() <= cursor && !cursor.is_empty() || key.as_str() < prefix || key.is_our_own() {
                continue;
            }
            if !key.as_str().starts_with(prefix) {
                break;
            }
            if keys.len() == limit {
                let next = keys.last().map(|key| key.as_str().to_owned());
                return Page { keys, next };
            }
            keys.push(key.clone());
        }
        Page { keys, next: None }
    }
}
