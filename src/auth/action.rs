//! What can be done to locks and to the gateway.

use std::fmt;
use std::str::FromStr;

/// One thing that a grant may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Acquire,
    Extend,
    Release,
    Inspect,
    List,
    /// To release what another holds.
    Force,
    /// To see the nodes and the metrics.
    Admin,
}

/// A word that is no action.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an action; use acquire, extend, release, inspect, list, force, admin, or * for the first five")]
pub struct UnknownAction(pub String);

impl Action {
    /// What `*` means: everything that a client does with locks of its own.
    pub const ORDINARY: [Self; 5] = [Self::Acquire, Self::Extend, Self::Release, Self::Inspect, Self::List];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Extend => "extend",
            Self::Release => "release",
            Self::Inspect => "inspect",
            Self::List => "list",
            Self::Force => "force",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        let all = Self::ORDINARY.into_iter().chain([Self::Force, Self::Admin]);
        all.into_iter().find(|action| action.as_str() == text).ok_or_else(|| UnknownAction(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
