//! The door: finds out who asks.

use std::sync::{Arc, RwLock};

use super::{Caller, Digest, Peer, Roster};

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
    /// It showed a token that is on no roster.
    Stranger,
    /// It showed a certificate only, none of whose names is on the roster.
    StrangeCertificate,
}

impl Guard {
    pub fn with(roster: Roster) -> Self {
        Self::Closed(Arc::new(RwLock::new(roster)))
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    /// Who shows this bearer token, or if it shows none, this certificate.
    pub fn who(&self, shown: Option<&str>, peer: Option<&Peer>) -> Result<Caller, NotKnown> {
        let Self::Closed(roster) = self else { return Ok(Caller::Anybody) };
        let digest = shown.map(Digest::of);
        let roster = roster.read().expect("no code panics while it holds this");
        let (found, otherwise) = match (digest, peer) {
            (Some(digest), _) => (roster.find(&digest), NotKnown::Stranger),
            (None, Some(peer)) if !peer.names.is_empty() => (roster.find_certificate(&peer.names), NotKnown::StrangeCertificate),
            (None, _) => (None, NotKnown::NothingShown),
        };
        found.map(|principal| Caller::Known(Arc::clone(principal))).ok_or(otherwise)
    }

    /// Puts another roster in force, for all requests that come from now on.
    pub fn replace(&self, new: Roster) {
        if let Self::Closed(roster) = self {
            *roster.write().expect("no code panics while it holds this") = new;
        }
    }
}
