//! The machine, which tests share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by tests that load the machine and by tests whose calls must be answered in time, so that these don't meet.
pub fn machine_to_itself() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    // A test that failed has nothing to do with the next one.
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number that the environment sets for longer runs, or to repeat one.
pub fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}
