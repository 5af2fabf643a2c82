//! The proof of holding a lock, and the mark of one attempt to get it.

use std::fmt;
use std::sync::Arc;

/// The secret that proves a lease: whoever knows it may extend and release.
///
/// It shows itself only through [`LeaseId::reveal`], so that no log or error can print it by accident.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LeaseId(Arc<str>);

/// Why a text cannot be a lease id. It never repeats the text, which may be somebody's secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseIdError {
    #[error("a lease id has {min} to {max} characters, this one has {0}", min = LeaseId::MIN, max = LeaseId::MAX)]
    Length(usize),
    #[error("a lease id is made of A-Z a-z 0-9 - _ only; character {0} is something else")]
    Character(usize),
}

impl LeaseId {
    pub const MIN: usize = 16;
    pub const MAX: usize = 64;
    /// How many random bytes [`LeaseId::from_random`] wants: 22 characters of 6 bits hold 128 bits and more.
    pub const RANDOM: usize = 22;
    const KEPT: &str = "kept+for+min+hold";
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    pub fn new(text: &str) -> Result<Self, LeaseIdError> {
        if let Some(at) = text.chars().position(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
            return Err(LeaseIdError::Character(at + 1));
        }
        if !(Self::MIN..=Self::MAX).contains(&text.len()) {
            return Err(LeaseIdError::Length(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// A fresh id out of bytes of a cryptographic random generator.
    pub fn from_random(bytes: [u8; Self::RANDOM]) -> Self {
        let text: String = bytes.iter().map(|byte| char::from(Self::ALPHABET[usize::from(byte % 64)])).collect();
        Self(text.into())
    }

    /// Nobody's: of a lock that was released before it may be free. No caller can choose it.
    pub fn kept() -> Self {
        Self(Self::KEPT.into())
    }

    pub fn is_kept(&self) -> bool {
        &*self.0 == Self::KEPT
    }

    /// Reads what a node keeps.
    pub fn stored(text: &str) -> Result<Self, LeaseIdError> {
        if text == Self::KEPT { Ok(Self::kept()) } else { Self::new(text) }
    }

    /// The secret itself, for the holder's answer and for the nodes.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseId(redacted)")
    }
}

/// The mark of one attempt, in every record that it writes: a late cancel frees what *this* attempt wrote
/// and never what a repeat of the same lease was granted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AttemptId(pub u64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_id_is_checked_and_never_printed() {
        let id = LeaseId::new("0123456789abcdef").unwrap();
        assert_eq!(id.reveal(), "0123456789abcdef");
        assert_eq!(format!("{id:?}"), "LeaseId(redacted)");
        assert_eq!(LeaseId::new("short"), Err(LeaseIdError::Length(5)));
        assert_eq!(LeaseId::new(&"x".repeat(65)), Err(LeaseIdError::Length(65)));
        assert_eq!(LeaseId::new("0123456789 abcdef"), Err(LeaseIdError::Character(11)));
    }

    #[test]
    fn random_ids_are_valid_and_keep_every_bit_of_six() {
        let id = LeaseId::from_random(std::array::from_fn(|i| i as u8 * 11));
        assert_eq!(LeaseId::new(id.reveal()), Ok(id.clone()));
        assert_ne!(id, LeaseId::from_random([7; LeaseId::RANDOM]));
    }
}
