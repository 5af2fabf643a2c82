//! What a caller may do, and to which locks.

use std::str::FromStr;

use super::{Action, BearerToken, UnknownAction};
use crate::lease::LockKey;

/// Actions on all locks whose names begin with a prefix; written `acquire,extend,release:orders/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    actions: Vec<Action>,
    prefix: String,
}

/// Why a text is no grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error(transparent)]
    Action(#[from] UnknownAction),
    #[error("a grant is ACTIONS:PREFIX, such as acquire,extend,release:orders/, and ACTIONS: for all locks; this one has no colon")]
    NoPrefix,
    #[error("admin is about the gateway and not about locks: write it alone, without a colon")]
    AdminOfLocks,
    /// Not repeated.
    #[error("this is a token; a grant is ACTIONS:PREFIX, such as acquire,extend,release:orders/")]
    Token,
    #[error("no lock's name begins with this prefix: a name begins with neither a slash nor redlockd:")]
    Nobody,
    #[error("the prefix ends with *, which would be part of the name: orders/ stands for every lock that begins with it")]
    Star,
    #[error("the prefix has {0} bytes, more than the {max} of a name", max = LockKey::MAX_BYTES)]
    Long(usize),
}

impl Grant {
    /// Whether it allows `action` on the lock of this name, and so on every lock whose name begins with it.
    pub fn covers(&self, action: Action, key: &str) -> bool {
        self.allows(action) && key.starts_with(&self.prefix)
    }

    /// Whether it allows `action` on any lock at all.
    pub fn allows(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        if text == Action::Admin.as_str() {
            return Ok(Self { actions: vec![Action::Admin], prefix: String::new() });
        }
        let (words, prefix) = text.split_once(':').ok_or(GrantError::NoPrefix)?;
        if BearerToken::looks_like(words) {
            return Err(GrantError::Token);
        }
        let mut actions = Vec::new();
        for word in words.split(',').map(str::trim) {
            match word {
                "*" => actions.extend(Action::ORDINARY),
                word => actions.push(word.parse()?),
            }
        }
        if actions.contains(&Action::Admin) {
            return Err(GrantError::AdminOfLocks);
        }
        if prefix.starts_with('/') || prefix.starts_with(LockKey::RESERVED) {
            return Err(GrantError::Nobody);
        }
        if prefix.ends_with('*') {
            return Err(GrantError::Star);
        }
        if LockKey::MAX_BYTES < prefix.len() {
            return Err(GrantError::Long(prefix.len()));
        }
        Ok(Self { actions, prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_its_actions_on_what_begins_with_its_prefix() {
        let grant: Grant = "acquire, release:orders/".parse().unwrap();
        assert!(grant.covers(Action::Acquire, "orders/42") && grant.covers(Action::Release, "orders/"));
        assert!(!grant.covers(Action::Acquire, "order") && !grant.covers(Action::Extend, "orders/42"));
        let everything: Grant = "*:".parse().unwrap();
        assert!(Action::ORDINARY.iter().all(|action| everything.covers(*action, "anything")));
        assert!(!everything.allows(Action::Force) && !everything.allows(Action::Admin));
        assert!("admin".parse::<Grant>().unwrap().allows(Action::Admin));
    }

    #[test]
    fn what_is_no_grant_is_told() {
        let error = |text: &str| text.parse::<Grant>().unwrap_err();
        assert_eq!(error("acquire"), GrantError::NoPrefix);
        assert_eq!(error("admin,list:"), GrantError::AdminOfLocks);
        assert_eq!(error("*:orders/*"), GrantError::Star);
        assert_eq!(["*:/orders", "*:redlockd:x"].map(error), [GrantError::Nobody, GrantError::Nobody]);
        assert_eq!(error("steal:orders/"), GrantError::Action(UnknownAction("steal".into())));
        assert_eq!(error(":orders/"), GrantError::Action(UnknownAction(String::new())));
        assert_eq!(error(&format!("*:{}", "p".repeat(513))), GrantError::Long(513));
    }
}
