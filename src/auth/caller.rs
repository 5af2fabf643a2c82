//! A caller whose credential was looked at.

use std::sync::Arc;

use super::{Action, Grant};
use crate::lease::{LockKey, OwnerLabel};

/// Who asks.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Nobody asked for a credential: everything is allowed.
    Anybody,
    /// Somebody with a certificate, where there is no roster, under the first of its names that can be a label: may do all but
    /// take from others what they hold.
    Certified(Option<OwnerLabel>),
    Known(Arc<Principal>),
}

/// What somebody says of a caller.
#[derive(Debug)]
pub struct Principal {
    pub known_by: KnownBy,
    pub name: OwnerLabel,
    pub grants: Vec<Grant>,
}

/// Who says what a caller is called: a name that an issuer gives and the same name on the roster may be two callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KnownBy {
    Roster,
    Issuer,
    /// Whoever vouches for certificates, where there is no roster.
    Certificate,
}

impl KnownBy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Roster => "roster",
            Self::Issuer => "issuer",
            Self::Certificate => "certificate",
        }
    }
}

impl Caller {
    /// To a semaphore as to the lock of its name.
    pub fn may(&self, action: Action, key: &LockKey) -> bool {
        self.has(action, |grant| grant.covers(action, key.given()))
    }

    /// Whether it may do this to every lock whose name begins with `prefix`.
    pub fn may_under(&self, action: Action, prefix: &str) -> bool {
        self.has(action, |grant| grant.covers(action, prefix))
    }

    /// Whether there is any lock to which it may do this, or for [`Action::Admin`] whether it may at all.
    pub fn may_at_all(&self, action: Action) -> bool {
        self.has(action, |grant| grant.allows(action))
    }

    /// What it is called, if it is known.
    pub fn name(&self) -> Option<&OwnerLabel> {
        match self {
            Self::Anybody => None,
            Self::Certified(name) => name.as_ref(),
            Self::Known(principal) => Some(&principal.name),
        }
    }

    /// Who calls it that.
    pub fn known_by(&self) -> Option<KnownBy> {
        match self {
            Self::Anybody | Self::Certified(None) => None,
            Self::Certified(Some(_)) => Some(KnownBy::Certificate),
            Self::Known(principal) => Some(principal.known_by),
        }
    }

    fn has(&self, action: Action, such: impl Fn(&Grant) -> bool) -> bool {
        match self {
            Self::Anybody => true,
            Self::Certified(_) => action != Action::Force,
            Self::Known(principal) => principal.grants.iter().any(such),
        }
    }
}
