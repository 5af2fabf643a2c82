//! The door: finds out who asks.

use std::sync::{Arc, RwLock};

use super::{Caller, Digest, Issuer, JwtError, Peer, Roster};
use crate::lease::OwnerLabel;

/// Looks at credentials. Clones share the roster.
#[derive(Clone)]
pub enum Guard {
    /// Everybody may do everything.
    Open,
    /// Nobody connects without a certificate, and that is all that is asked for.
    OpenToCertificates,
    /// Whoever is known may do what its grants say.
    Closed(Arc<Acquaintances>),
}

/// Whom a gateway knows.
pub struct Acquaintances {
    roster: RwLock<Roster>,
    issuer: Option<Arc<Issuer>>,
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotKnown {
    /// It showed nothing.
    NothingShown,
    /// It showed a token that is on no roster.
    Stranger,
    /// It showed a JSON Web Token that does not count.
    Jwt(JwtError),
    /// It showed a certificate only, none of whose names is on the roster.
    StrangeCertificate,
}

impl Guard {
    /// Knows those on `roster`, and those to whom `issuer` gave a token.
    pub fn with(roster: Roster, issuer: Option<Arc<Issuer>>) -> Self {
        Self::Closed(Arc::new(Acquaintances { roster: RwLock::new(roster), issuer }))
    }

    /// Whom it lets in, in a word.
    pub fn lets_in(&self) -> &'static str {
        match self {
            Self::Open => "anybody",
            Self::OpenToCertificates => "certificates",
            Self::Closed(_) => "tokens",
        }
    }

    /// Who shows this bearer token, or if it shows none, this certificate.
    pub fn who(&self, shown: Option<&str>, peer: Option<&Peer>) -> Result<Caller, NotKnown> {
        let acquaintances = match self {
            Self::Open => return Ok(Caller::Anybody),
            Self::OpenToCertificates => return Ok(certified(peer)),
            Self::Closed(acquaintances) => acquaintances,
        };
        if let (Some(token), Some(issuer)) = (shown.filter(|token| Issuer::looks_like(token)), &acquaintances.issuer) {
            return issuer.who(token).map(Caller::Known).map_err(NotKnown::Jwt);
        }
        let digest = shown.map(Digest::of);
        let roster = acquaintances.roster.read().expect("no code panics while it holds this");
        let (found, otherwise) = match (digest, peer) {
            (Some(digest), _) => (roster.find(&digest), NotKnown::Stranger),
            (None, Some(peer)) if !peer.names.is_empty() => (roster.find_certificate(&peer.names), NotKnown::StrangeCertificate),
            (None, _) => (None, NotKnown::NothingShown),
        };
        found.map(|principal| Caller::Known(Arc::clone(principal))).ok_or(otherwise)
    }

    /// Whether anybody at all can be let in: an issuer's keys may not be there yet.
    pub fn can_know_anybody(&self) -> bool {
        let Self::Closed(acquaintances) = self else { return true };
        let roster = acquaintances.roster.read().expect("no code panics while it holds this");
        0 < roster.tokens() + roster.certificates() || acquaintances.issuer.as_ref().is_some_and(|issuer| issuer.has_keys())
    }

    /// Puts another roster in force, for all requests that come from now on.
    pub fn replace(&self, new: Roster) {
        if let Self::Closed(acquaintances) = self {
            *acquaintances.roster.write().expect("no code panics while it holds this") = new;
        }
    }
}

fn certified(peer: Option<&Peer>) -> Caller {
    let names = peer.into_iter().flat_map(|peer| peer.names.iter());
    Caller::Certified(names.filter_map(|name| OwnerLabel::new(name).ok()).next())
}
