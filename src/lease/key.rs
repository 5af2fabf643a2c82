//! The name of a lock.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::LeaseId;

/// The name of a lock: 1 to 512 bytes of UTF-8 that is safe in a URL path, a Redis key and a log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey(Arc<str>);

/// Why a text cannot name a lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the key is empty; a key is 1 to {max} bytes", max = LockKey::MAX_BYTES)]
    Empty,
    #[error("the key has {0} bytes; a key is 1 to {max} bytes", max = LockKey::MAX_BYTES)]
    TooLong(usize),
    #[error("the key holds the control character U+{code:04X}; control characters are not allowed", code = u32::from(*.0))]
    ControlCharacter(char),
    #[error("the key has the segment {0:?}; segments between slashes must not be empty, \".\" or \"..\"")]
    BadSegment(String),
    #[error("the key begins with \"{prefix}\", which is kept for the gateway's own records", prefix = LockKey::RESERVED)]
    Reserved,
}

impl LockKey {
    /// Long enough for any path, short enough that a batch of 64 stays in one packet train.
    pub const MAX_BYTES: usize = 512;
    /// With an empty lock prefix a lock of this name would be one of our own Redis keys.
    pub const RESERVED: &str = "redlockd:";
    const SET: &str = "redlockd:set:";
    const SEMAPHORE: &str = "redlockd:semaphore:";

    /// Checks `text` once; nobody below checks again.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if Self::MAX_BYTES < text.len() {
            return Err(KeyError::TooLong(text.len()));
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            return Err(KeyError::ControlCharacter(control));
        }
        if let Some(segment) = text.split('/').find(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(KeyError::BadSegment(segment.to_owned()));
        }
        if text.starts_with(Self::RESERVED) {
            return Err(KeyError::Reserved);
        }
        Ok(Self(text.into()))
    }

    /// The name of what a lease holds that is of several locks. It does not tell the lease.
    pub fn of_set(lease: &LeaseId) -> Self {
        let mut name = String::from(Self::SET);
        for byte in &Sha256::digest(lease.reveal())[..16] {
            name.push_str(&format!("{byte:02x}"));
        }
        Self(name.into())
    }

    /// The lock that stands for a semaphore of this name.
    pub fn of_semaphore(name: &Self) -> Self {
        Self(format!("{}{name}", Self::SEMAPHORE).into())
    }

    /// Reads what a node keeps, a lock's name or one of the gateway's own.
    pub fn stored(text: &str) -> Result<Self, KeyError> {
        match text.strip_prefix(Self::SEMAPHORE) {
            Some(name) => Self::new(name).map(|name| Self::of_semaphore(&name)),
            None if text.starts_with(Self::SET) => Ok(Self(text.into())),
            None => Self::new(text),
        }
    }

    pub fn is_set(&self) -> bool {
        self.0.starts_with(Self::SET)
    }

    /// Nobody's lock, but what the gateway keeps for sets and semaphores.
    pub fn is_our_own(&self) -> bool {
        self.0.starts_with(Self::RESERVED)
    }

    /// As whoever gave it knows it: without what tells a semaphore from a lock.
    pub fn given(&self) -> &str {
        self.0.strip_prefix(Self::SEMAPHORE).unwrap_or(&self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths_of_printable_text() {
        for good in ["a", "orders/42", "größe/ß", "日本/ロック", "a b", "a%2Fb", "...", "a..b", &"x".repeat(512)] {
            assert_eq!(LockKey::new(good).map(|key| key.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn what_the_gateway_keeps_for_itself_is_no_lock_and_is_read_back() {
        let set = LockKey::of_set(&LeaseId::new("0123456789abcdef").unwrap());
        assert_eq!(set.as_str(), "redlockd:set:9f9f5111f7b27a781f1f1ddde5ebc2dd");
        let semaphore = LockKey::of_semaphore(&LockKey::new("a/b").unwrap());
        assert_eq!((semaphore.as_str(), semaphore.given()), ("redlockd:semaphore:a/b", "a/b"));
        for own in [set, semaphore] {
            assert!(own.is_our_own() && LockKey::new(own.as_str()) == Err(KeyError::Reserved));
            assert_eq!(LockKey::stored(own.as_str()), Ok(own));
        }
        assert!(LockKey::stored("redlockd:semaphore:a//b").is_err() && LockKey::stored("redlockd:node").is_err());
    }

    #[test]
    fn what_cannot_be_a_key_is_told_apart() {
        let segment = |text: &str| KeyError::BadSegment(text.into());
        for (bad, error) in [
            ("", KeyError::Empty),
            (&*"x".repeat(513), KeyError::TooLong(513)),
            ("a\nb", KeyError::ControlCharacter('\n')),
            ("a\u{85}b", KeyError::ControlCharacter('\u{85}')),
            ("a//b", segment("")),
            ("/a", segment("")),
            ("a/", segment("")),
            ("a/./b", segment(".")),
            ("..", segment("..")),
            ("redlockd:node", KeyError::Reserved),
        ] {
            assert_eq!(LockKey::new(bad), Err(error), "{bad:?}");
        }
    }
}
