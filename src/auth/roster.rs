//! The tokens that a gateway knows: TOML, in a file or in the environment.
//!
//! ```toml
//! [[token]]
//! name = "worker-7"
//! sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
//! allow = ["acquire,extend,release,inspect:orders/", "list:"]
//! ```
//!
//! A name may be there more than once: that is how a token is replaced without a moment in which neither is known.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use super::caller::Principal;
use super::{BearerToken, Digest, DigestError, GrantError};
use crate::lease::{OwnerError, OwnerLabel};

/// Who may ask, by the digests of their tokens.
#[derive(Default)]
pub struct Roster {
    /// By the first bytes of the digest; the rest is compared in constant time.
    by_start: HashMap<u64, Vec<(Digest, Arc<Principal>)>>,
}

/// Why a text is no roster. Never repeats a digest or what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// With the number of the line, where it is known.
    #[error("line {line} is not part of a roster, which is made of [[token]] with name, sha256 and allow (a list of grants)")]
    Form { line: usize },
    #[error("there are {0} tokens; at most {max} are kept", max = Roster::MAX_TOKENS)]
    TooMany(usize),
    #[error("there is no token in it, so that nobody could do anything")]
    Empty,
    #[error("token {at}: its name: {error}")]
    Name { at: usize, error: OwnerError },
    #[error("token {at} ({name}): {error}")]
    Digest { at: usize, name: OwnerLabel, error: DigestError },
    #[error("token {at} ({name}) is there a second time")]
    Twice { at: usize, name: OwnerLabel },
    #[error("token {at} ({name}) allows nothing")]
    NothingAllowed { at: usize, name: OwnerLabel },
    #[error("token {at} ({name}): grant {nth}: {error}")]
    Grant { at: usize, name: OwnerLabel, nth: usize, error: GrantError },
    #[error("token {at}: its name is a token; write whose it is")]
    NameIsToken { at: usize },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    token: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    allow: Vec<String>,
}

impl Roster {
    /// Far more than a gateway has callers with names of their own.
    pub const MAX_TOKENS: usize = 10_000;

    /// Reads a roster. It must hold a token.
    pub fn parse(text: &str) -> Result<Self, RosterError> {
        let written: Written = toml::from_str(text).map_err(|error| RosterError::Form {
            // Where, and not what: the parser's own sentence may repeat a token that stands in the wrong place.
            line: error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1),
        })?;
        if written.token.is_empty() {
            return Err(RosterError::Empty);
        }
        if Self::MAX_TOKENS < written.token.len() {
            return Err(RosterError::TooMany(written.token.len()));
        }
        let mut roster = Self::default();
        for (index, entry) in written.token.into_iter().enumerate() {
            roster.add(index + 1, entry)?;
        }
        Ok(roster)
    }

    fn add(&mut self, at: usize, entry: Entry) -> Result<(), RosterError> {
        let name = OwnerLabel::new(&entry.name).map_err(|error| RosterError::Name { at, error })?;
        if BearerToken::looks_like(&entry.name) {
            return Err(RosterError::NameIsToken { at });
        }
        let digest: Digest = entry.sha256.parse().map_err(|error| RosterError::Digest { at, name: name.clone(), error })?;
        if self.find(&digest).is_some() {
            return Err(RosterError::Twice { at, name });
        }
        if entry.allow.is_empty() {
            return Err(RosterError::NothingAllowed { at, name });
        }
        let grant =
            |(index, text): (usize, String)| text.parse().map_err(|error| RosterError::Grant { at, name: name.clone(), nth: index + 1, error });
        let grants = entry.allow.into_iter().enumerate().map(grant).collect::<Result<_, _>>()?;
        self.by_start.entry(digest.start()).or_default().push((digest, Arc::new(Principal { name, grants })));
        Ok(())
    }

    /// Who has this digest.
    pub fn find(&self, digest: &Digest) -> Option<&Arc<Principal>> {
        let candidates = self.by_start.get(&digest.start())?;
        candidates.iter().find(|(known, _)| known.is(digest)).map(|(_, principal)| principal)
    }

    pub fn len(&self) -> usize {
        self.by_start.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }
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
        assert_eq!((roster.len(), one.name.as_str()), (2, "wor\"ker"));
        assert!(one.grants[0].covers(Action::Acquire, "a b/c"));
        assert!(roster.find(&Digest::of("two")).unwrap().grants[0].allows(Action::Admin));
        assert!(roster.find(&Digest::of("three")).is_none());
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        let secret = "rlk_a-token-that-was-pasted-in";
        let good = written("ci", "one", &["*:"]);
        for (text, said) in [
            (String::new(), "no token in it"),
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
