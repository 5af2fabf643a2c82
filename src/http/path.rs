//! The lock's name out of the path.

use axum::http::Uri;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use crate::lease::{KeyError, LockKey};

/// `/locks/orders/42` and `/locks/orders%2F42` are the same lock, and `/semaphores/orders/42` is the semaphore of that name.
pub fn key(uri: &Uri) -> Result<LockKey, Problem> {
    let path = uri.path();
    let semaphore = path.strip_prefix("/semaphores/");
    let encoded = semaphore.or_else(|| path.strip_prefix("/locks/")).unwrap_or_default();
    let text = decode(encoded).map_err(|error| Problem::invalid(format!("key: {error}.")))?;
    let key = LockKey::new(&text).map_err(|error| Problem::invalid(format!("key: {error}.")))?;
    Ok(if semaphore.is_some() { LockKey::of_semaphore(&key) } else { key })
}

/// `/locks/` names no lock, nor does `/semaphores/` a semaphore.
pub async fn empty_key() -> Problem {
    Problem::invalid(format!("key: {}.", KeyError::Empty))
}

/// Undoes percent-encoding, strictly.
pub fn decode(encoded: &str) -> Result<String, &'static str> {
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(hex(rest.next()) && hex(rest.next())) {
            return Err("a % must be followed by two hexadecimal digits; a % itself is written %25");
        }
    }
    match percent_decode_str(encoded).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err("the percent-encoded bytes are not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_strict() {
        assert_eq!(decode("orders%2F42"), Ok("orders/42".into()));
        assert_eq!(decode("gr%C3%B6%C3%9Fe"), Ok("größe".into()));
        assert_eq!(decode("a%2525"), Ok("a%25".into()));
        for bad in ["%", "%2", "%zz", "a%2", "%C3", "%ff"] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
    }
}
