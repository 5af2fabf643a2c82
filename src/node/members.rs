//! Which nodes a gateway works with and what it calls locks there, as a number that fits into a marker.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A hash of the names of all nodes, of the lock prefix, of the clock jump margin and of whether disks are trusted: two
/// gateways that differ in one of them can grant one lock twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Members(u64);

impl Members {
    /// The order of the names does not matter.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>, lock_prefix: &str) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        let bytes = names.iter().flat_map(|name| name.bytes().chain([0])).chain(lock_prefix.bytes());
        Self(hashed(0xcbf2_9ce4_8422_2325, bytes))
    }

    /// The same with `clock_jump_margin`; without one, what it always was.
    pub fn with_margin(self, clock_jump_margin: Duration) -> Self {
        let margin = clock_jump_margin.as_millis() as u64;
        if margin == 0 { self } else { Self(hashed(self.0, margin.to_be_bytes())) }
    }

    /// The same where nodes that write every change to disk vote at once after a restart; otherwise what it always was.
    pub fn with_trust(self, trusts_persistence: bool) -> Self {
        if trusts_persistence { Self(hashed(self.0, *b"disk")) } else { self }
    }
}

/// FNV-1a, 64 bits. It stands against mistakes, not against people.
fn hashed(hash: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Members {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_the_same_in_any_order_and_different_in_anything_else() {
        let members = Members::of(["a", "b", "c"], "p:");
        assert_eq!(members, Members::of(["c", "a", "b"], "p:"));
        for other in [&["a", "b"][..], &["a", "b", "d"], &["a", "bc"], &["ab", "c"], &[]] {
            assert_ne!(members, Members::of(other.iter().copied(), "p:"), "{other:?}");
        }
        assert_ne!(members, Members::of(["a", "b", "c"], ""));
        assert_ne!(members, members.with_margin(Duration::from_secs(2)));
        assert_ne!(members, members.with_trust(true));
        assert_eq!(members, members.with_margin(Duration::ZERO).with_trust(false));
        // What is on the nodes outlives a release.
        assert_eq!(Members::of(["a"], "").to_string(), "089be207b544f1e4");
        assert_eq!(members.to_string().parse(), Ok(members));
    }
}
