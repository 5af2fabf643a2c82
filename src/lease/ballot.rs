//! Ballots, and the fencing tokens that they become.

use std::fmt;

/// Microseconds since 1970, drawn anew for every round: what nodes compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ballot(u64);

impl Ballot {
    /// 2^53 - 1: the greatest integer that every JSON reader and Lua keep exact. Reached in the year 2255.
    pub const MAX: u64 = (1 << 53) - 1;

    /// A ballot of this many microseconds; anything above [`Ballot::MAX`] becomes that.
    pub fn from_micros(micros: u64) -> Self {
        Self(micros.min(Self::MAX))
    }

    pub fn micros(self) -> u64 {
        self.0
    }

    pub fn next(self) -> Self {
        Self::from_micros(self.0 + 1)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The ballot of a grant: for one lock, a token granted later is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FencingToken(Ballot);

/// A text that is no fencing token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a fencing token; a token is an integer from 1 to {max}", max = Ballot::MAX)]
pub struct FencingTokenError(pub String);

impl FencingToken {
    pub fn of(grant: Ballot) -> Self {
        Self(grant)
    }

    pub fn parse(text: &str) -> Result<Self, FencingTokenError> {
        match text.parse() {
            Ok(micros @ 1..=Ballot::MAX) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self(Ballot(micros))),
            // An excerpt: the text came from a header and may be long.
            _ => Err(FencingTokenError(text.chars().take(40).collect())),
        }
    }

    pub fn ballot(self) -> Ballot {
        self.0
    }

    pub fn get(self) -> u64 {
        self.0.micros()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_integers_that_json_keeps_exact() {
        assert_eq!(FencingToken::parse("9007199254740991").map(FencingToken::get), Ok(Ballot::MAX));
        for bad in ["", "0", "-1", "+1", "1.5", "9007199254740992", "99999999999999999999999", "x"] {
            assert_eq!(FencingToken::parse(bad), Err(FencingTokenError(bad.into())));
        }
    }
}
