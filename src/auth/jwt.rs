//! Callers with a JSON Web Token of an issuer that the operator trusts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::caller::{KnownBy, Principal};
use super::jwks::KeySet;
use super::{Digest, Grant};
use crate::lease::OwnerLabel;

/// Which tokens count, and where in them the grants are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtRules {
    /// What `iss` has to be.
    pub issuer: String,
    /// What has to be among `aud`.
    pub audience: String,
    /// The claim with the grants: a list of them, or a text of several with blanks between.
    pub grants_claim: String,
}

/// Looks at tokens of one issuer.
pub struct Issuer {
    rules: JwtRules,
    keys: RwLock<KeySet>,
    /// What was checked already, by the digest of the token: a signature takes longer to check than a lock to acquire.
    known: Mutex<HashMap<[u8; 32], Known>>,
    /// Told when a token names a key that is not there: the issuer may have a new one.
    pub unknown_key: Notify,
}

struct Known {
    principal: Arc<Principal>,
    expires_s: u64,
}

/// Why a token does not count. Never repeats it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it is of another issuer")]
    Issuer,
    #[error("it is for another audience")]
    Audience,
    #[error("no key of the issuer has checked it: its kid and alg are of none that is known here")]
    UnknownKey,
    /// It is not the token's fault.
    #[error("the keys of the issuer could not be had yet")]
    NoKeys,
    #[error("its signature is wrong")]
    Signature,
    #[error("it is not a token, or lacks exp, iss, aud or sub")]
    Form,
    #[error("its sub cannot be the label of an owner")]
    Subject,
    #[error("its claim {claim} has no grants: a list such as [\"*:orders/\"]")]
    NoGrants { claim: String },
    #[error("grant {nth} in its claim {claim} is none")]
    Grant { claim: String, nth: usize },
}

/// How far the issuer's clock may be from ours.
const LEEWAY_S: u64 = 60;
/// How many checked tokens are remembered.
const MAX_KNOWN: usize = 10_000;
/// How many grants one token may have.
const MAX_GRANTS: usize = 100;

impl Issuer {
    /// Knows no keys yet.
    pub fn new(rules: JwtRules) -> Self {
        Self { rules, keys: RwLock::default(), known: Mutex::default(), unknown_key: Notify::new() }
    }

    /// Three parts with dots between; tokens of the roster have none.
    pub fn looks_like(token: &str) -> bool {
        token.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Puts other keys in force. What the ones before have checked is checked again.
    pub fn replace(&self, keys: KeySet) {
        *self.keys.write().expect("no code panics while it holds this") = keys;
        self.known().clear();
    }

    /// Whether the issuer's keys were ever had.
    pub fn has_keys(&self) -> bool {
        !self.keys.read().expect("no code panics while it holds this").is_empty()
    }

    /// Who shows this token.
    pub fn who(&self, token: &str) -> Result<Arc<Principal>, JwtError> {
        let (digest, now_s) = (Digest::of(token).bytes(), now_s());
        if let Some(known) = self.known().get(&digest).filter(|known| now_s < known.expires_s) {
            return Ok(Arc::clone(&known.principal));
        }
        // The keys stay locked, so that nothing that replaced ones have checked is remembered.
        let keys = self.keys.read().expect("no code panics while it holds this");
        let claims = self.checked(token, &keys)?;
        let principal = Arc::new(self.principal(&claims)?);
        let expires_s = claims.get("exp").and_then(Value::as_f64).unwrap_or_default() as u64;
        let mut known = self.known();
        if MAX_KNOWN <= known.len() {
            known.retain(|_, known| now_s < known.expires_s);
            if MAX_KNOWN <= known.len() {
                known.clear();
            }
        }
        known.insert(digest, Known { principal: Arc::clone(&principal), expires_s });
        Ok(principal)
    }

    fn checked(&self, token: &str, keys: &KeySet) -> Result<Map<String, Value>, JwtError> {
        let header = decode_header(token).map_err(|_| JwtError::Form)?;
        if keys.is_empty() {
            return Err(JwtError::NoKeys);
        }
        let Some(key) = keys.find(&header) else {
            self.unknown_key.notify_one();
            return Err(JwtError::UnknownKey);
        };
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_S;
        decode(token, &key.decoding, &validation).map(|data| data.claims).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => JwtError::Expired,
            ErrorKind::ImmatureSignature => JwtError::Early,
            ErrorKind::InvalidIssuer => JwtError::Issuer,
            ErrorKind::InvalidAudience => JwtError::Audience,
            ErrorKind::InvalidSignature => JwtError::Signature,
            _ => JwtError::Form,
        })
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, JwtError> {
        let name = claims.get("sub").and_then(Value::as_str).and_then(|sub| OwnerLabel::new(sub).ok()).ok_or(JwtError::Subject)?;
        let claim = || self.rules.grants_claim.clone();
        let texts: Vec<&str> = match claims.get(&self.rules.grants_claim) {
            Some(Value::String(text)) => text.split_whitespace().collect(),
            Some(Value::Array(list)) => list.iter().map(|item| item.as_str().unwrap_or_default()).collect(),
            _ => Vec::new(),
        };
        if texts.is_empty() || MAX_GRANTS < texts.len() {
            return Err(JwtError::NoGrants { claim: claim() });
        }
        let grant = |(index, text): (usize, &str)| text.parse::<Grant>().map_err(|_| JwtError::Grant { claim: claim(), nth: index + 1 });
        Ok(Principal { known_by: KnownBy::Issuer, name, grants: texts.into_iter().enumerate().map(grant).collect::<Result<_, _>>()? })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], Known>> {
        self.known.lock().expect("no code panics while it holds this")
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use jsonwebtoken::jwk::{Jwk, JwkSet};
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;
    use crate::auth::Action;

    fn key() -> EncodingKey {
        EncodingKey::from_ec_der(&rcgen::KeyPair::generate().unwrap().serialize_der())
    }

    fn keys(of: &EncodingKey) -> KeySet {
        let set = JwkSet { keys: vec![Jwk::from_encoding_key(of, Algorithm::ES256).unwrap()] };
        KeySet::parse(&serde_json::to_string(&set).unwrap()).unwrap()
    }

    fn issuer(key: &EncodingKey) -> Issuer {
        let (issuer, audience) = ("https://issuer.example".to_owned(), "redlockd".to_owned());
        let issuer = Issuer::new(JwtRules { issuer, audience, grants_claim: "locks".to_owned() });
        issuer.replace(keys(key));
        issuer
    }

    fn claims() -> Value {
        let in_an_hour = now_s() + 3600;
        json!({"iss": "https://issuer.example", "aud": ["redlockd"], "sub": "worker-7", "exp": in_an_hour, "locks": ["*:orders/", "admin"]})
    }

    /// A token with these claims, of which `changed` are others; null ones are left out.
    fn token(key: &EncodingKey, changed: Value) -> String {
        let mut claims = claims();
        let fields = claims.as_object_mut().unwrap();
        fields.extend(changed.as_object().unwrap().clone());
        fields.retain(|_, value| !value.is_null());
        encode(&Header::new(Algorithm::ES256), &claims, key).unwrap()
    }

    #[test]
    fn a_token_brings_its_name_and_grants() {
        let key = key();
        let issuer = issuer(&key);
        for grants in [json!(["*:orders/", "admin"]), json!("*:orders/  admin")] {
            let principal = issuer.who(&token(&key, json!({"locks": grants}))).unwrap();
            assert_eq!(principal.name.as_str(), "worker-7");
            assert!(principal.grants[0].covers(Action::Acquire, "orders/42") && principal.grants[1].allows(Action::Admin));
        }
    }

    #[test]
    fn a_token_that_does_not_count_says_why() {
        let key = key();
        let issuer = issuer(&key);
        let now_s = now_s();
        for (changed, error) in [
            (json!({"exp": now_s - 61}), JwtError::Expired),
            (json!({"nbf": now_s + 120}), JwtError::Early),
            (json!({"iss": "https://other.example"}), JwtError::Issuer),
            (json!({"aud": "others"}), JwtError::Audience),
            (json!({"exp": null}), JwtError::Form),
            (json!({"iss": null}), JwtError::Form),
            (json!({"aud": null}), JwtError::Form),
            (json!({"sub": null}), JwtError::Form),
            (json!({"sub": "a\nb"}), JwtError::Subject),
            (json!({"locks": null}), JwtError::NoGrants { claim: "locks".into() }),
            (json!({"locks": []}), JwtError::NoGrants { claim: "locks".into() }),
            (json!({"locks": vec!["*:"; 101]}), JwtError::NoGrants { claim: "locks".into() }),
            (json!({"locks": ["*:", "steal:"]}), JwtError::Grant { claim: "locks".into(), nth: 2 }),
            (json!({"locks": ["*:", 7]}), JwtError::Grant { claim: "locks".into(), nth: 2 }),
        ] {
            assert_eq!(issuer.who(&token(&key, changed.clone())).err(), Some(error), "{changed}");
        }
        let foreign = token(&self::key(), json!({}));
        assert_eq!(issuer.who(&foreign).err(), Some(JwtError::Signature));
        let good = token(&key, json!({}));
        let (head, rest) = good.split_once('.').unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", rest.split('.').next().unwrap());
        assert_eq!([issuer.who(&unsigned).err(), issuer.who("a.b.c").err()], [Some(JwtError::Form), Some(JwtError::Form)]);
        let by_secret = encode(&Header::new(Algorithm::HS256), &claims(), &EncodingKey::from_secret(head.as_bytes())).unwrap();
        assert_eq!(issuer.who(&by_secret).err(), Some(JwtError::UnknownKey));
        assert!(issuer.unknown_key.notified().now_or_never().is_some());
    }

    #[test]
    fn what_a_key_has_checked_ends_with_it() {
        let (old, new) = (key(), key());
        let issuer = issuer(&old);
        let shown = token(&old, json!({}));
        let first = issuer.who(&shown).unwrap();
        assert!(Arc::ptr_eq(&first, &issuer.who(&shown).unwrap()), "it was checked twice");
        issuer.replace(keys(&new));
        assert_eq!(issuer.who(&shown).err(), Some(JwtError::Signature));
    }

    #[test]
    fn what_is_remembered_has_a_bound_and_an_end() {
        let key = key();
        let issuer = issuer(&key);
        let principal = issuer.who(&token(&key, json!({}))).unwrap();
        let remember = |n: usize, expires_s: u64| {
            let known = Known { principal: Arc::clone(&principal), expires_s };
            issuer.known().insert(Digest::of(&n.to_string()).bytes(), known);
        };
        (1..MAX_KNOWN).for_each(|n| remember(n, now_s() + 60));
        issuer.who(&token(&key, json!({"sub": "another"}))).unwrap();
        assert_eq!(issuer.known().len(), 1);
        // Once the leeway alone lets it live it is looked at each time.
        let late = token(&key, json!({"exp": now_s() - 1}));
        issuer.known().clear();
        assert!(!Arc::ptr_eq(&issuer.who(&late).unwrap(), &issuer.who(&late).unwrap()));
    }
}
