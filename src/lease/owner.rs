//! The label that a holder shows to others.

use std::fmt;
use std::sync::Arc;

/// Who holds a lock, in the holder's own words: shown to whoever is refused. It proves nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OwnerLabel(Arc<str>);

/// Why a text cannot be an owner label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    #[error("an owner has 1 to {max} bytes, this one has {0}", max = OwnerLabel::MAX_BYTES)]
    Length(usize),
    #[error("an owner must not hold control characters; U+{code:04X} is one", code = u32::from(*.0))]
    ControlCharacter(char),
}

impl OwnerLabel {
    pub const MAX_BYTES: usize = 128;

    pub fn new(text: &str) -> Result<Self, OwnerError> {
        if !(1..=Self::MAX_BYTES).contains(&text.len()) {
            return Err(OwnerError::Length(text.len()));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(control) => Err(OwnerError::ControlCharacter(control)),
            None => Ok(Self(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_short_and_printable() {
        assert_eq!(OwnerLabel::new("worker 7").unwrap().as_str(), "worker 7");
        assert_eq!(OwnerLabel::new(""), Err(OwnerError::Length(0)));
        assert_eq!(OwnerLabel::new(&"o".repeat(129)), Err(OwnerError::Length(129)));
        assert_eq!(OwnerLabel::new("a\tb"), Err(OwnerError::ControlCharacter('\t')));
    }
}
