//! How the embedded node's state lies in its database.

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::lease::LockKey;
use crate::node::state::Change;
use crate::node::{Fence, Marker, Record, State};

/// Lock records by name, with the millisecond of their expiry.
const LOCKS: TableDefinition<&str, (u64, &str)> = TableDefinition::new("locks");
/// Fences by lock name, with the millisecond of their expiry.
const FENCES: TableDefinition<&str, (u64, &str)> = TableDefinition::new("fence_texts");
/// The marker and the high-water mark.
const NODE: TableDefinition<&str, &str> = TableDefinition::new("node");

const MARKER: &str = "marker";
const HIGH_WATER: &str = "high_water_us";

/// Why a database is no state.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Database(redb::Error),
    /// Says what is there. Skipping it would forget a grant.
    #[error("it holds {0} that this version cannot read")]
    Unreadable(String),
}

impl<E: Into<redb::Error>> From<E> for LoadError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// Writes down in one commit what has changed in `state`.
pub fn write<'a>(database: &Database, state: &State, changes: impl IntoIterator<Item = &'a Change>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut locks = transaction.open_table(LOCKS)?;
        let mut fences = transaction.open_table(FENCES)?;
        let mut node = transaction.open_table(NODE)?;
        for change in changes {
            match change {
                Change::Marker => {
                    if let Some(marker) = state.marker() {
                        node.insert(MARKER, &*marker.to_string())?;
                    }
                }
                Change::HighWater => {
                    node.insert(HIGH_WATER, &*state.high_water_us().to_string())?;
                }
                Change::Lock(key) => match state.lock(key) {
                    Some((record, expires_ms)) => drop(locks.insert(key.as_str(), (expires_ms, &*record.to_string()))?),
                    None => drop(locks.remove(key.as_str())?),
                },
                Change::Fence(key) => match state.fence(key) {
                    Some((fence, expires_ms)) => drop(fences.insert(key.as_str(), (expires_ms, &*fence.to_string()))?),
                    None => drop(fences.remove(key.as_str())?),
                },
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Everything that was written; the tables of a new database are made here.
pub fn load(database: &Database) -> Result<State, LoadError> {
    let transaction = database.begin_write()?;
    transaction.open_table(LOCKS)?;
    transaction.open_table(FENCES)?;
    transaction.open_table(NODE)?;
    transaction.commit()?;

    let mut state = State::default();
    let transaction = database.begin_read()?;
    let node = transaction.open_table(NODE)?;
    let marker = node.get(MARKER)?.map(|text| text.value().parse::<Marker>().map_err(|_| unreadable("a marker"))).transpose()?;
    let high_water = node.get(HIGH_WATER)?.map(|text| text.value().parse().map_err(|_| unreadable("a high-water mark"))).transpose()?;
    state.restore(marker, high_water.unwrap_or(0));
    for entry in transaction.open_table(LOCKS)?.iter()? {
        let (name, lock) = entry?;
        let (expires_ms, record) = lock.value();
        let record = Record::parse(record).ok_or_else(|| unreadable(format!("a record of the lock {:?}", name.value())))?;
        state.restore_lock(key(name.value())?, record, expires_ms);
    }
    for entry in transaction.open_table(FENCES)?.iter()? {
        let (name, fence) = entry?;
        let (expires_ms, text) = fence.value();
        let fence = text.parse::<Fence>().map_err(|_| unreadable(format!("a fence of the lock {:?}", name.value())))?;
        state.restore_fence(key(name.value())?, fence, expires_ms);
    }
    Ok(state)
}

fn key(name: &str) -> Result<LockKey, LoadError> {
    LockKey::stored(name).map_err(|_| unreadable(format!("a lock named {name:?}")))
}

fn unreadable(what: impl Into<String>) -> LoadError {
    LoadError::Unreadable(what.into())
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_skipped() {
        for (table, name, text, said) in [
            ("locks", "a", "not a record", "a record of the lock \"a\""),
            ("node", MARKER, "1|2", "a marker"),
            ("node", HIGH_WATER, "x", "a high-water mark"),
        ] {
            let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
            load(&database).unwrap();
            let transaction = database.begin_write().unwrap();
            match table {
                "locks" => drop(transaction.open_table(LOCKS).unwrap().insert(name, (u64::MAX, text)).unwrap()),
                _ => drop(transaction.open_table(NODE).unwrap().insert(name, text).unwrap()),
            }
            transaction.commit().unwrap();
            assert!(matches!(load(&database), Err(LoadError::Unreadable(what)) if what == said), "{said}");
        }
    }
}
