//! What a lease has left on the nodes: whether it is known there, and of which locks it is if it is of a set. Their names are
//! nowhere but in its records.

use std::sync::Arc;

use super::votes::{Answer, Shortage, Votes};
use super::{Ballot, InspectVote, LeaseId, LockKey, Quorum};

/// A grant of the lease, or an attempt at one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    pub ballot: Option<Ballot>,
    /// The locks of a set; none if it is none.
    pub members: Arc<[LockKey]>,
}

/// What the nodes know of the lease: all that they hold, since what a majority holds may be the lesser part of what a lost
/// attempt wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TracesVerdict {
    Pending,
    /// What a majority knows, and so among it what was granted last, if that is not over.
    Heard(Vec<Trace>),
    /// Too few answered; these know so much.
    Undecided {
        shortage: Shortage,
        votes: Vec<&'static str>,
        traces: Vec<Trace>,
    },
}

/// The state of one search for them.
#[derive(Debug)]
pub struct Traces {
    lease: LeaseId,
    votes: Votes<InspectVote>,
}

impl Traces {
    pub fn new(quorum: Quorum, lease: LeaseId) -> Self {
        Self { lease, votes: Votes::new(quorum) }
    }

    pub fn vote(&mut self, node: usize, answer: Answer<InspectVote>) -> TracesVerdict {
        self.votes.record(node, answer);
        let heard = self.votes.cast().count();
        if self.votes.quorum().required() <= heard {
            return TracesVerdict::Heard(self.known());
        }
        if 0 < self.votes.pending() {
            return TracesVerdict::Pending;
        }
        TracesVerdict::Undecided { shortage: self.votes.shortage(heard), votes: self.votes.labels(), traces: self.known() }
    }

    /// Each once.
    fn known(&self) -> Vec<Trace> {
        let mut known: Vec<Trace> = Vec::new();
        for vote in self.votes.cast() {
            let trace = match vote {
                InspectVote::Held { lease: Some(lease), holder, members } if *lease == self.lease => {
                    Some(Trace { ballot: holder.ballot, members: Arc::clone(members) })
                }
                InspectVote::Together { sharers, .. } => {
                    let own = sharers.iter().find(|sharing| sharing.lease == self.lease);
                    own.map(|own| Trace { ballot: own.holder.ballot, members: Arc::default() })
                }
                InspectVote::Held { .. } | InspectVote::Free => None,
            };
            known.extend(trace.filter(|trace| !known.contains(trace)));
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::super::votes::Abstention;
    use super::super::{Holder, Sharing};
    use super::*;

    fn lease(name: &str) -> LeaseId {
        LeaseId::new(&name.repeat(16)).unwrap()
    }

    fn trace(micros: u64, names: &[&str]) -> Trace {
        Trace { ballot: Some(Ballot::from_micros(micros)), members: names.iter().map(|name| LockKey::new(name).unwrap()).collect() }
    }

    fn held(by: &str, micros: u64, names: &[&str]) -> Answer<InspectVote> {
        let Trace { ballot, members } = trace(micros, names);
        Ok(InspectVote::Held { lease: Some(lease(by)), holder: Holder { ballot, ..Holder::default() }, members })
    }

    fn after(answers: Vec<Answer<InspectVote>>) -> TracesVerdict {
        let mut traces = Traces::new(Quorum::of(3), lease("a"));
        let mut verdict = TracesVerdict::Pending;
        for (node, answer) in answers.into_iter().enumerate() {
            assert_eq!(verdict, TracesVerdict::Pending, "decided before node {node} answered");
            verdict = traces.vote(node, answer);
        }
        verdict
    }

    #[test]
    fn all_that_a_majority_knows_of_the_lease_is_heard() {
        let gone = || Err(Abstention::Unreachable);
        assert_eq!(after(vec![held("a", 7, &["x", "y"]), held("a", 9, &["z"])]), TracesVerdict::Heard(vec![trace(7, &["x", "y"]), trace(9, &["z"])]));
        assert_eq!(after(vec![held("a", 7, &["x"]), gone(), held("a", 7, &["x"])]), TracesVerdict::Heard(vec![trace(7, &["x"])]));
        assert_eq!(after(vec![Ok(InspectVote::Free), held("b", 7, &["x"])]), TracesVerdict::Heard(Vec::new()));
        let votes = vec!["unreachable", "held", "unreachable"];
        let undecided = TracesVerdict::Undecided { shortage: Shortage::NoQuorum, votes, traces: vec![trace(7, &["x"])] };
        assert_eq!(after(vec![gone(), held("a", 7, &["x"]), gone()]), undecided);
    }

    #[test]
    fn it_may_be_one_of_several_that_share_a_lock() {
        let sharing = |by: &str, micros| {
            let holder = Holder { ballot: Some(Ballot::from_micros(micros)), ..Holder::default() };
            Sharing { lease: lease(by), slot: 0, holder }
        };
        let shared = |sharers: &[(&str, u64)]| Ok(InspectVote::of_together(0, sharers.iter().map(|(by, micros)| sharing(by, *micros)).collect()));
        assert_eq!(after(vec![shared(&[("b", 3), ("a", 7)]), shared(&[("b", 3)])]), TracesVerdict::Heard(vec![trace(7, &[])]));
    }
}
