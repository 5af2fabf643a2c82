//! How many connections there can be at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bound. Clones share it.
#[derive(Clone)]
pub struct Places {
    served: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    max: usize,
}

/// One connection's place, until it is dropped.
pub enum Place {
    Served {
        _permit: OwnedSemaphorePermit,
    },
    /// Over the bound of `max`: it is told so, and then closed.
    TurnedAway {
        max: usize,
        _permit: OwnedSemaphorePermit,
    },
}

/// How many may be told at once that there is no place for them; those beyond are closed without a word.
const TURNED_AWAY: usize = 64;

impl Places {
    /// Room for `max` connections.
    pub fn new(max: usize) -> Self {
        Self { served: Arc::new(Semaphore::new(max)), turned_away: Arc::new(Semaphore::new(TURNED_AWAY)), max }
    }

    /// None if even those that are turned away are too many.
    pub fn take(&self) -> Option<Place> {
        if let Ok(permit) = Arc::clone(&self.served).try_acquire_owned() {
            return Some(Place::Served { _permit: permit });
        }
        let permit = Arc::clone(&self.turned_away).try_acquire_owned().ok()?;
        Some(Place::TurnedAway { max: self.max, _permit: permit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = Places::new(1);
        let first = places.take();
        assert!(matches!(first, Some(Place::Served { .. })));
        let away: Vec<_> = (0..TURNED_AWAY).map(|_| places.take().unwrap()).collect();
        assert!(away.iter().all(|place| matches!(place, Place::TurnedAway { max: 1, .. })));
        assert!(places.take().is_none());
        drop(first);
        assert!(matches!(places.take(), Some(Place::Served { .. })));
    }
}
