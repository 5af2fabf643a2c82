//! The core: what a lease is, and when a quorum has granted, extended, released or lost it.
//!
//! Everything here is a value or a function of its arguments: no IO, no clock, no randomness. Votes and
//! elapsed time come in, a verdict comes out, so the same code decides in production and under a simulator.

mod attempt;
mod ballot;
mod extension;
mod inspection;
mod key;
mod lease_id;
mod lifetime;
mod mode;
mod node_set;
mod owner;
mod quorum;
mod release;
mod traces;
mod ttl;
mod votes;

pub use attempt::{AcquireVote, Attempt, Grant, Holder, Loss, LossCause, Terms, Verdict};
pub use ballot::{Ballot, FencingToken, FencingTokenError};
pub use extension::{ExtendVote, Extension, ExtensionVerdict};
pub use inspection::{InspectVote, Inspection, InspectionVerdict, Sharing};
pub use key::{KeyError, LockKey};
pub use lease_id::{AttemptId, LeaseId, LeaseIdError};
pub use lifetime::Lifetime;
pub use mode::{Mode, Slot, Slots};
pub use node_set::NodeSet;
pub use owner::{OwnerError, OwnerLabel};
pub use quorum::Quorum;
pub use release::{Release, ReleaseVerdict, ReleaseVote};
pub use traces::{Trace, Traces, TracesVerdict};
pub use ttl::{Ttl, TtlBounds, TtlOutOfBounds, validity};
pub use votes::{Abstention, Answer, Shortage, Vote, Votes};
