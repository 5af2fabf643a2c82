//! The door: finds out who asks.

use std::sync::{Arc, RwLock};

use super::{Caller, Digest, Roster};

/// Looks at credentials. Clones share the roster.
#[derive(Clone)]
pub enum Guard {
    /// Everybody may do everything.
    Open,
    /// Whoever is on the roster may do what it says.
    Closed(Arc<RwLock<Roster>>),
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKnown {
    /// It showed nothing.
    NothingShown,
    /// It showed something that is on no roster.
    Stranger,
}

impl Guard {
    pub fn with(roster: Roster) -> Self {
        Self::Closed(Arc::new(RwLock::new(roster)))
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Who shows this bearer token.
    pub fn who(&self, shown: Option<&str>) -> Result<Caller, NotKnown> {
        let Self::Closed(roster) = self else { return Ok(Caller::Anybody) };
        let digest = Digest::of(shown.ok_or(NotKnown::NothingShown)?);
        let roster = roster.read().expect("no code panics while it holds this");
        roster.find(&digest).map(|principal| Caller::Known(Arc::clone(principal))).ok_or(NotKnown::Stranger)
    }

    /// Puts another roster in force, for all requests that come from now on.
    pub fn replace(&self, new: Roster) {
        if let Self::Closed(roster) = self {
            *roster.write().expect("no code panics while it holds this") = new;
        }
    }
}
