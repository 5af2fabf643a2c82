//! Whom a gateway knows: TOML, in a file or in the environment.
//!
//! ```toml
//! [[token]]
//! name = "worker-7"
//! sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
//! allow = ["acquire,extend,release,inspect:orders/", "list:"]
//!
//! [[certificate]]
//! name = "billing"
//! san = "spiffe://example.org/billing"
//! allow = ["*:billing/"]
//! ```
//!
//! `san` is one of the DNS names or URIs among the alternative names of a client's certificate. A name may be there more
//! than once: that is how a token is replaced without a moment in which neither is known.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use super::caller::{KnownBy, Principal};
use super::{BearerToken, Digest, DigestError, GrantError};
use crate::lease::{OwnerError, OwnerLabel};

/// Who may ask, by the digests of their tokens and the names in their certificates.
#[derive(Default)]
pub struct Roster {
    /// By the first bytes of the digest; the rest is compared in constant time.
    by_start: HashMap<u64, Vec<(Digest, Arc<Principal>)>>,
    by_san: HashMap<String, Arc<Principal>>,
}

/// Why a text is no roster. Never repeats a digest or what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// With the number of the line, where it is known.
    #[error(
        "line {line} is not part of a roster, which is made of [[token]] with name, sha256 and allow (a list of grants), and [[certificate]] with name, san and allow"
    )]
    Form { line: usize },
    #[error("there are {0} tokens and certificates; at most {max} are kept", max = Roster::MAX_ENTRIES)]
    TooMany(usize),
    #[error("there is no token and no certificate in it, so that nobody could do anything")]
    Empty,
    #[error("{at}: its name: {error}")]
    Name { at: Place, error: OwnerError },
    #[error("{at} ({name}): {error}")]
    Digest { at: Place, name: OwnerLabel, error: DigestError },
    #[error("{at} ({name}): san must be a DNS name or a URI, of 1 to 255 visible ASCII characters")]
    San { at: Place, name: OwnerLabel },
    #[error("{at} ({name}) is there a second time")]
    Twice { at: Place, name: OwnerLabel },
    #[error("{at} ({name}) allows nothing")]
    NothingAllowed { at: Place, name: OwnerLabel },
    #[error("{at} ({name}): grant {nth}: {error}")]
    Grant { at: Place, name: OwnerLabel, nth: usize, error: GrantError },
    #[error("{at}: its name is a token; write whose it is")]
    NameIsToken { at: Place },
}

/// Which entry an error is about, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Token(usize),
    Certificate(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(nth) => write!(f, "token {nth}"),
            Self::Certificate(nth) => write!(f, "certificate {nth}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    token: Vec<WrittenToken>,
    #[serde(default)]
    certificate: Vec<WrittenCertificate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCertificate {
    name: String,
    san: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    name: String,
    sha256: String,
    allow: Vec<String>,
}

impl Roster {
    /// Far more than a gateway has callers with names of their own.
    pub const MAX_ENTRIES: usize = 10_000;

    /// Reads a roster. It must hold somebody.
    pub fn parse(text: &str) -> Result<Self, RosterError> {
        let written: Written = toml::from_str(text).map_err(|error| RosterError::Form {
            // Where, and not what: the parser's own sentence may repeat a token that stands in the wrong place.
            line: error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1),
        })?;
        match written.token.len() + written.certificate.len() {
            0 => return Err(RosterError::Empty),
            entries if Self::MAX_ENTRIES < entries => return Err(RosterError::TooMany(entries)),
            _ => {}
        }
        let mut roster = Self::default();
        for (index, entry) in written.token.into_iter().enumerate() {
            roster.add_token(Place::Token(index + 1), entry)?;
        }
        for (index, entry) in written.certificate.into_iter().enumerate() {
            roster.add_certificate(Place::Certificate(index + 1), entry)?;
        }
        Ok(roster)
    }

    fn add_token(&mut self, at: Place, entry: WrittenToken) -> Result<(), RosterError> {
        let name = name(at, &entry.name)?;
        let digest: Digest = entry.sha256.parse().map_err(|error| RosterError::Digest { at, name: name.clone(), error })?;
        if self.find(&digest).is_some() {
            return Err(RosterError::Twice { at, name });
        }
        let principal = principal(at, name, entry.allow)?;
        self.by_start.entry(digest.start()).or_default().push((digest, principal));
        Ok(())
    }

    fn add_certificate(&mut self, at: Place, entry: WrittenCertificate) -> Result<(), RosterError> {
        let name = name(at, &entry.name)?;
        if !(1..=255).contains(&entry.san.len()) || !entry.san.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(RosterError::San { at, name });
        }
        // DNS names are the same in small and capital letters, URIs are not.
        let san = if entry.san.contains(':') { entry.san } else { entry.san.to_ascii_lowercase() };
        if self.by_san.contains_key(&san) {
            return Err(RosterError::Twice { at, name });
        }
        let principal = principal(at, name, entry.allow)?;
        self.by_san.insert(san, principal);
        Ok(())
    }

    /// Who has this digest.
    pub fn find(&self, digest: &Digest) -> Option<&Arc<Principal>> {
        let candidates = self.by_start.get(&digest.start())?;
        candidates.iter().find(|(known, _)| known.is(digest)).map(|(_, principal)| principal)
    }

    /// Who is called by one of the names in a certificate; DNS names are in small letters.
    pub fn find_certificate(&self, names: &[String]) -> Option<&Arc<Principal>> {
        names.iter().find_map(|name| self.by_san.get(name))
    }

    pub fn tokens(&self) -> usize {
        self.by_start.values().map(Vec::len).sum()
    }

    pub fn certificates(&self) -> usize {
        self.by_san.len()
    }
}

fn name(at: Place, text: &str) -> Result<OwnerLabel, RosterError> {
    if BearerToken::looks_like(text) {
        return Err(RosterError::NameIsToken { at });
    }
    OwnerLabel::new(text).map_err(|error| RosterError::Name { at, error })
}

fn principal(at: Place, name: OwnerLabel, allow: Vec<String>) -> Result<Arc<Principal>, RosterError> {
    if allow.is_empty() {
        return Err(RosterError::NothingAllowed { at, name });
    }
    let grant = |(index, text): (usize, String)| text.parse().map_err(|error| RosterError::Grant { at, name: name.clone(), nth: index + 1, error });
    let grants = allow.into_iter().enumerate().map(grant).collect::<Result<_, _>>()?;
    Ok(Arc::new(Principal { known_by: KnownBy::Roster, name, grants }))
}

/// The entry of a new token, to be added to a roster.
pub fn entry(name: &OwnerLabel, digest: &Digest, allow: &[String]) -> String {
    // A JSON string or array of strings is TOML as well.
    let json = |value: serde_json::Value| value.to_string();
    format!("[[token]]\nname = {}\nsha256 = \"{digest}\"\nallow = {}\n", json(name.as_str().into()), json(allow.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Action;

    fn written(name: &str, token: &str, allow: &[&str]) -> String {
        let allow: Vec<_> = allow.iter().map(|text| (*text).to_owned()).collect();
        entry(&OwnerLabel::new(name).unwrap(), &Digest::of(token), &allow)
    }

    #[test]
    fn a_written_entry_is_read_again() {
        let text = format!("# ours\n{}\n{}", written("wor\"ker", "one", &["acquire:a b/"]), written("wor\"ker", "two", &["admin"]));
        let roster = Roster::parse(&text).unwrap();
        let one = roster.find(&Digest::of("one")).unwrap();
        assert_eq!((roster.tokens(), one.name.as_str()), (2, "wor\"ker"));
        assert!(one.grants[0].covers(Action::Acquire, "a b/c"));
        assert!(roster.find(&Digest::of("two")).unwrap().grants[0].allows(Action::Admin));
        assert!(roster.find(&Digest::of("three")).is_none());
    }

    #[test]
    fn a_certificate_is_known_by_any_of_its_names() {
        let text = "[[certificate]]\nname = \"billing\"\nsan = \"spiffe://example.org/billing\"\nallow = [\"*:billing/\"]\n\
            [[certificate]]\nname = \"web\"\nsan = \"Web.example.org\"\nallow = [\"*:web/\"]\n";
        let roster = Roster::parse(text).unwrap();
        let find = |names: &[&str]| roster.find_certificate(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).cloned();
        assert_eq!(find(&["billing.local", "spiffe://example.org/billing"]).unwrap().name.as_str(), "billing");
        assert!(find(&[]).is_none() && find(&["spiffe://example.org/billing/"]).is_none());
        assert_eq!(find(&["web.example.org"]).unwrap().name.as_str(), "web");
        for (text, said) in [
            (format!("{text}{text}"), "certificate 3 (billing) is there a second time"),
            (text.replace("spiffe://example.org/billing", ""), "certificate 1 (billing): san must be"),
            (text.replace("spiffe:", "spiffe :"), "certificate 1 (billing): san must be"),
            (text.replace("*:billing/", "all"), "certificate 1 (billing): grant 1: "),
            (text.replace("san", "cn"), "line 3"),
        ] {
            let error = Roster::parse(&text).err().unwrap().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        let secret = "rlk_a-token-that-was-pasted-in";
        let good = written("ci", "one", &["*:"]);
        for (text, said) in [
            (String::new(), "no token and no certificate in it"),
            (good.replace("sha256", "sha265"), "line 3"),
            (good.replace("[[token]]", "[[tokens]]"), "line 1"),
            (good.replace(&Digest::of("one").to_string(), secret), "token 1 (ci): sha256 must be 64 hexadecimal digits"),
            (format!("{good}{good}"), "token 2 (ci) is there a second time"),
            (good.replace("\"*:\"", ""), "token 1 (ci) allows nothing"),
            (good.replace("*:", "steal:"), "token 1 (ci): grant 1: \"steal\" is not an action"),
            (good.replace("\"ci\"", "\"\""), "token 1: its name"),
            (format!("{good}sha256 = {secret}"), "line 5"),
            (format!("token = \"{secret}\""), "line 1"),
            (good.replace("*:", secret), "token 1 (ci): grant 1: a grant is ACTIONS:PREFIX"),
            (good.replace("*:", &format!("{secret}:")), "token 1 (ci): grant 1: this is a token"),
            (good.replace("ci", secret).replace("*:", ""), "token 1: its name is a token"),
            (good.replace("[\"*:\"]", &format!("\"{secret}\"")), "line 4"),
        ] {
            let error = Roster::parse(&text).err().unwrap().to_string();
            assert!(error.contains(said) && !error.contains(secret), "{error}");
        }
        assert_eq!(
            Roster::parse(&(0..10_001).map(|n| written("n", &n.to_string(), &["*:"])).collect::<String>()).err(),
            Some(RosterError::TooMany(10_001))
        );
    }
}
