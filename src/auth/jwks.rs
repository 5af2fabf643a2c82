//! The public keys with which an issuer's tokens are checked: a JSON Web Key Set (RFC 7517).

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header};

/// Keys, each with what it may be used for.
#[derive(Default)]
pub struct KeySet(Vec<Key>);

pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    pub decoding: DecodingKey,
}

/// Why a text is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("this is no JSON Web Key Set, which is {{\"keys\": [...]}}")]
    Form,
    #[error("none of its keys can check a signature: they are to be of RSA, of an elliptic curve, or Ed25519, and not a shared secret")]
    NoKey,
    #[error("there are {0} keys; at most {max} are kept", max = KeySet::MAX_KEYS)]
    TooMany(usize),
}

impl KeySet {
    /// Issuers have two or three.
    pub const MAX_KEYS: usize = 100;

    /// Reads a set. Keys for other uses are passed over; one at least must be left.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let set: JwkSet = serde_json::from_str(text).map_err(|_| KeySetError::Form)?;
        if Self::MAX_KEYS < set.keys.len() {
            return Err(KeySetError::TooMany(set.keys.len()));
        }
        let keys: Vec<_> = set.keys.iter().filter_map(Key::of).collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self(keys)) }
    }

    /// The key that a token names, or the only one that it can mean.
    pub fn find(&self, header: &Header) -> Option<&Key> {
        let fits = |key: &&Key| key.algorithms.contains(&header.alg) && (header.kid.is_none() || key.id == header.kid);
        let mut fitting = self.0.iter().filter(fits);
        let found = fitting.next()?;
        if header.kid.is_none() && fitting.next().is_some() { None } else { Some(found) }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Key {
    fn of(jwk: &Jwk) -> Option<Self> {
        let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
        // Who knows a shared secret could make tokens with it, and a public key that is taken for one is known to everybody.
        let is_secret = matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_));
        if !is_for_signatures || is_secret {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let family = decoding.family();
        let algorithms = match jwk.common.key_algorithm {
            Some(named) => vec![Algorithm::try_from(named).ok().filter(|algorithm| family.algorithms().contains(algorithm))?],
            None => family.algorithms().to_vec(),
        };
        Some(Self { id: jwk.common.key_id.clone(), algorithms, decoding })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The keys of RFC 7517, appendix A.1, and RFC 8037, appendix A.2.
    const CURVE: &str =
        r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","kid":"1"}"#;
    const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","alg":"EdDSA"}"#;

    fn header(alg: Algorithm, kid: Option<&str>) -> Header {
        Header { kid: kid.map(str::to_owned), ..Header::new(alg) }
    }

    #[test]
    fn a_key_is_found_by_its_id_or_if_it_is_the_only_one_that_fits() {
        let keys = KeySet::parse(&format!("{{\"keys\":[{CURVE},{ED25519},{}]}}", CURVE.replace("\"1\"", "\"2\""))).unwrap();
        let found = |alg, kid| keys.find(&header(alg, kid)).is_some();
        assert!(found(Algorithm::ES256, Some("1")) && found(Algorithm::EdDSA, None));
        assert!(!found(Algorithm::ES256, None) && !found(Algorithm::EdDSA, Some("1")) && !found(Algorithm::ES256, Some("3")));
        assert!(!found(Algorithm::HS256, Some("1")) && !found(Algorithm::RS256, Some("1")));
    }

    #[test]
    fn what_can_check_no_signature_is_passed_over() {
        let refused = |text: String| KeySet::parse(&text).err();
        let secret = r#"{"kty":"oct","k":"AAAA","kid":"1"}"#;
        assert_eq!(refused("[]".into()), Some(KeySetError::Form));
        assert_eq!(refused(format!("{{\"keys\":[{secret}]}}")), Some(KeySetError::NoKey));
        assert_eq!(refused(format!("{{\"keys\":[{}]}}", CURVE.replace("\"kid\"", "\"use\":\"enc\",\"kid\""))), Some(KeySetError::NoKey));
        assert_eq!(refused(format!("{{\"keys\":[{}]}}", ED25519.replace("EdDSA", "RS256"))), Some(KeySetError::NoKey));
        assert_eq!(refused(format!("{{\"keys\":[{}]}}", vec![CURVE; 101].join(","))), Some(KeySetError::TooMany(101)));
    }
}
