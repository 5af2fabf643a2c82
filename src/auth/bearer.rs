//! The secret that a caller shows, and what the gateway keeps of it.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;
use subtle::ConstantTimeEq;

/// A secret of 256 random bits. Has no `Debug` and no `Display`: it must not reach a log by accident.
pub struct BearerToken(String);

/// SHA-256 of a bearer token. Nothing slower is needed: what has 256 random bits can't be guessed.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

/// A text that is not a digest. It is not repeated: it may be the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sha256 must be 64 hexadecimal digits, as redlockd token new prints them")]
pub struct DigestError;

impl BearerToken {
    /// By which people and scanners of repositories recognise one.
    const PREFIX: &str = "rlk_";

    /// Whether a text is one, or begins like one, and must not be repeated.
    pub fn looks_like(text: &str) -> bool {
        text.contains(Self::PREFIX)
    }

    pub fn from_random(bits: [u128; 2]) -> Self {
        Self(format!("{}{:032x}{:032x}", Self::PREFIX, bits[0], bits[1]))
    }

    /// The secret, for the one who is to have it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Digest {
    pub fn of(token: &str) -> Self {
        Self(sha2::Sha256::digest(token).into())
    }

    /// Enough of it to look it up by. It tells nothing about the token.
    pub fn start(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("8 of 32 bytes are 8"))
    }

    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Takes as long for one that is right in part as for one that is all wrong.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DigestError);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| DigestError)?;
        }
        Ok(Self(bytes))
    }
}

/// As hexadecimal digits: what the roster holds.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha_256_and_reads_back() {
        // From FIPS 180-2, appendix B.1.
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of("abc").to_string(), of_abc);
        assert!(of_abc.parse::<Digest>().unwrap().is(&Digest::of("abc")));
        assert!(!Digest::of("abd").is(&Digest::of("abc")));
        for bad in ["", "rlk_secret", &of_abc[1..], &of_abc.replace('b', "g"), &"é".repeat(32)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_has_all_its_bits() {
        assert_eq!(BearerToken::from_random([1, 0xab]).reveal(), format!("rlk_{}1{}ab", "0".repeat(31), "0".repeat(30)));
    }
}
