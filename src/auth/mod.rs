//! Who asks, and what they may do.
//!
//! A caller shows a bearer token or a certificate. The gateway keeps a roster of the digests of tokens and of names in
//! certificates, each with a name and grants; a grant is actions on the locks whose names begin with a prefix. Without a
//! roster everybody may do everything. A JSON Web Token of an issuer that the operator trusts brings its name and grants
//! along.

mod action;
mod bearer;
mod caller;
mod grant;
mod guard;
mod jwks;
mod jwks_source;
mod jwt;
mod pace;
mod peer;
mod roster;
mod source;

pub use action::{Action, UnknownAction};
pub use bearer::{BearerToken, Digest, DigestError};
pub use caller::{Caller, KnownBy};
pub use grant::{Grant, GrantError};
pub use guard::{Guard, NotKnown};
pub use jwks::{KeySet, KeySetError};
pub use jwks_source::{JwksError, JwksSource};
pub use jwt::{Issuer, JwtError, JwtRules};
pub use pace::{Pace, TooFast};
pub use peer::Peer;
pub use roster::{Roster, RosterError, entry};
pub use source::{RosterSource, SourceError, add_to_file};
