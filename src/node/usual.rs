//! How long something usually takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A mean that follows the last few dozens.
#[derive(Debug, Default)]
pub struct Usual {
    micros: AtomicU64,
}

/// The weight of the newest is one in this many.
const MEMORY: u64 = 16;

impl Usual {
    pub fn observe(&self, took: Duration) {
        let usual = self.micros.load(Ordering::Relaxed);
        // If two learn at the same time one of them is lost, which changes nothing.
        self.micros.store((usual * (MEMORY - 1) + took.as_micros() as u64) / MEMORY, Ordering::Relaxed);
    }

    pub fn get(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}
