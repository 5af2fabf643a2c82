//! What gateways tell each other through a node besides locks: hints, any of which may be lost.

use std::fmt;
use std::str::FromStr;

use crate::lease::LockKey;

/// A hint about a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Somebody waits for it.
    Awaited(LockKey),
    /// It was released.
    Freed(LockKey),
    /// Somebody watches it.
    Watched(LockKey),
    /// It was acquired, extended or released.
    Changed(LockKey),
}

/// A hint, and what keeps it from being taken for another one when it comes through several nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// A random number, which the gateway that says so has for as long as it runs.
    pub by: u64,
    /// Grows with everything that it says.
    pub nth: u64,
    pub word: Word,
}

/// A text that no gateway of this version said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSaid;

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, key) = match &self.word {
            Word::Awaited(key) => ("awaited", key),
            Word::Freed(key) => ("freed", key),
            Word::Watched(key) => ("watched", key),
            Word::Changed(key) => ("changed", key),
        };
        write!(f, "{:x} {} {verb} {}", self.by, self.nth, key.as_str())
    }
}

impl FromStr for Said {
    type Err = NotSaid;

    fn from_str(text: &str) -> Result<Self, NotSaid> {
        let mut parts = text.splitn(4, ' ');
        let mut part = || parts.next().ok_or(NotSaid);
        let by = u64::from_str_radix(part()?, 16).map_err(|_| NotSaid)?;
        let nth = part()?.parse().map_err(|_| NotSaid)?;
        let (verb, key) = (part()?, part()?);
        let key = LockKey::stored(key).map_err(|_| NotSaid)?;
        match verb {
            "awaited" => Ok(Self { by, nth, word: Word::Awaited(key) }),
            "freed" => Ok(Self { by, nth, word: Word::Freed(key) }),
            "watched" => Ok(Self { by, nth, word: Word::Watched(key) }),
            "changed" => Ok(Self { by, nth, word: Word::Changed(key) }),
            _ => Err(NotSaid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_as_it_was_said() {
        let key = LockKey::new("a lock/of two words").unwrap();
        for word in [Word::Awaited(key.clone()), Word::Freed(key.clone()), Word::Watched(key.clone()), Word::Changed(key.clone())] {
            let said = Said { by: 0xfeed, nth: 7, word };
            assert_eq!(said.to_string().parse(), Ok(said));
        }
        assert_eq!("feed 7 freed a".parse(), Ok(Said { by: 0xfeed, nth: 7, word: Word::Freed(LockKey::new("a").unwrap()) }));
    }

    #[test]
    fn what_nobody_said_is_not_heard() {
        for text in ["", "feed", "feed 7 freed", "feed 7 freed ", "feed 7 sold a", "feed -7 freed a", "gate 7 freed a", "feed 7 freed a\n"] {
            assert_eq!(text.parse::<Said>(), Err(NotSaid), "{text:?}");
        }
    }
}
