//! Who holds a lock, in the eyes of a majority. Never from the first answer.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::votes::{Answer, Shortage, Vote, Votes};
use super::{Holder, LeaseId, LockKey, Quorum};

/// What one node holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InspectVote {
    Free,
    /// The lease tells two holders of one ballot apart; it never leaves the gateway.
    /// None if another program wrote the record.
    Held {
        lease: Option<LeaseId>,
        holder: Holder,
        /// The locks that are held with it, if it is the record of a set.
        members: Arc<[LockKey]>,
    },
    /// Some hold it together. `limit` is the number of slots, 0 where they are not numbered.
    Together {
        limit: u16,
        sharers: Vec<Sharing>,
    },
}

/// One of those who hold a lock together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sharing {
    /// It never leaves the gateway.
    pub lease: LeaseId,
    /// 0 where slots are not numbered.
    pub slot: u16,
    pub holder: Holder,
}

impl InspectVote {
    /// Free if nobody is left of those who held it together.
    pub fn of_together(limit: u16, sharers: Vec<Sharing>) -> Self {
        if sharers.is_empty() { Self::Free } else { Self::Together { limit, sharers } }
    }
}

impl Vote for InspectVote {
    fn label(&self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Held { .. } | Self::Together { .. } => "held",
        }
    }
}

/// What the nodes' views add up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InspectionVerdict {
    Pending,
    Free,
    Held {
        holder: Holder,
    },
    /// These hold it together, each on a majority, in the order of their slots and ballots.
    Together {
        limit: u16,
        sharers: Vec<Sharing>,
    },
    /// No majority agrees: attempts are under way, or a failed one left something on a few nodes.
    Contended,
    Undecided {
        shortage: Shortage,
        votes: Vec<&'static str>,
    },
}

/// The state of one inspection.
#[derive(Debug)]
pub struct Inspection {
    votes: Votes<InspectVote>,
}

impl Inspection {
    pub fn new(quorum: Quorum) -> Self {
        Self { votes: Votes::new(quorum) }
    }

    pub fn vote(&mut self, node: usize, answer: Answer<InspectVote>) -> InspectionVerdict {
        self.votes.record(node, answer);
        let required = self.votes.quorum().required();
        if let Some(verdict) = self.together() {
            return verdict;
        }
        let most = self.votes.cast().map(|vote| (vote, self.votes.count(|other| same(vote, other)))).max_by_key(|(_, same)| *same);
        let (vote, agreed) = match most {
            Some((vote, agreed)) => (Some(vote), agreed),
            None => (None, 0),
        };
        match vote {
            Some(InspectVote::Free) if required <= agreed => InspectionVerdict::Free,
            Some(held @ InspectVote::Held { .. }) if required <= agreed => InspectionVerdict::Held { holder: self.lasting(held) },
            _ if 0 < self.votes.pending() && (required <= agreed + self.votes.pending() || self.some_share()) => InspectionVerdict::Pending,
            _ if self.votes.quorum().blocking() <= self.votes.abstained() => {
                InspectionVerdict::Undecided { shortage: self.votes.shortage(agreed), votes: self.votes.labels() }
            }
            _ => InspectionVerdict::Contended,
        }
    }

    /// Those whom a majority names; none as long as one more answer could name another.
    fn together(&self) -> Option<InspectionVerdict> {
        let required = self.votes.quorum().required();
        // In the order of their slots and ballots.
        let mut named: BTreeMap<_, Vec<&Sharing>> = BTreeMap::new();
        for (limit, sharing) in self.sharings() {
            named.entry((sharing.slot, sharing.holder.ballot, sharing.lease.reveal(), limit)).or_default().push(sharing);
        }
        let is_decided = self.votes.pending() == 0 || named.values().all(|seen| required <= seen.len());
        named.retain(|_, seen| required <= seen.len());
        let limit = named.keys().next().map_or(0, |(.., limit)| *limit);
        let lasting = |mut seen: Vec<&Sharing>| {
            // For as long as a majority of the records last.
            seen.sort_by_key(|sharing| Reverse(sharing.holder.left));
            seen[required - 1].clone()
        };
        let sharers: Vec<_> = named.into_values().map(lasting).collect();
        (is_decided && !sharers.is_empty()).then_some(InspectionVerdict::Together { limit, sharers })
    }

    fn some_share(&self) -> bool {
        self.sharings().next().is_some() && self.votes.count(|vote| *vote == InspectVote::Free) < self.votes.quorum().required()
    }

    /// Each with the number of slots.
    fn sharings(&self) -> impl Iterator<Item = (u16, &Sharing)> {
        let together = self.votes.cast().filter_map(|vote| match vote {
            InspectVote::Together { limit, sharers } => Some((*limit, sharers)),
            InspectVote::Free | InspectVote::Held { .. } => None,
        });
        together.flat_map(|(limit, sharers)| sharers.iter().map(move |sharing| (limit, sharing)))
    }

    /// The holder, for as long as a majority of the records last.
    fn lasting(&self, held: &InspectVote) -> Holder {
        let mut holders: Vec<_> = self.votes.cast().filter(|other| same(held, other)).filter_map(holder).collect();
        holders.sort_by_key(|holder| Reverse(holder.left));
        holders[self.votes.quorum().required() - 1].clone()
    }
}

fn holder(vote: &InspectVote) -> Option<&Holder> {
    match vote {
        InspectVote::Held { holder, .. } => Some(holder),
        InspectVote::Free | InspectVote::Together { .. } => None,
    }
}

fn same(one: &InspectVote, other: &InspectVote) -> bool {
    match (one, other) {
        (InspectVote::Free, InspectVote::Free) => true,
        (InspectVote::Held { lease: a, holder: x, .. }, InspectVote::Held { lease: b, holder: y, .. }) => a == b && x.ballot == y.ballot,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ballot;
    use super::super::votes::Abstention;
    use super::*;
    use std::time::Duration;

    fn held(lease: &str, token: u64, left_s: u64) -> InspectVote {
        let holder = Holder { ballot: Some(Ballot::from_micros(token)), left: Some(Duration::from_secs(left_s)), ..Holder::default() };
        InspectVote::Held { lease: Some(LeaseId::new(&lease.repeat(16)).unwrap()), holder, members: [].into() }
    }

    fn after(nodes: usize, views: Vec<Answer<InspectVote>>) -> InspectionVerdict {
        let mut inspection = Inspection::new(Quorum::of(nodes));
        let mut verdict = InspectionVerdict::Pending;
        for (node, answer) in views.into_iter().enumerate() {
            assert_eq!(verdict, InspectionVerdict::Pending, "decided before node {node} answered");
            verdict = inspection.vote(node, answer);
        }
        verdict
    }

    #[test]
    fn a_majority_of_equal_views_decides() {
        assert_eq!(after(3, vec![Ok(InspectVote::Free), Ok(InspectVote::Free)]), InspectionVerdict::Free);
        let InspectionVerdict::Held { holder, .. } = after(3, vec![Ok(held("a", 7, 3)), Ok(InspectVote::Free), Ok(held("a", 7, 9))]) else {
            panic!("not held")
        };
        assert_eq!((holder.ballot, holder.left), (Some(Ballot::from_micros(7)), Some(Duration::from_secs(3))));
    }

    #[test]
    fn two_leases_under_one_ballot_are_not_one_holder() {
        let views = vec![Ok(held("a", 7, 3)), Ok(held("b", 7, 3)), Ok(held("a", 7, 3)), Ok(held("b", 7, 3)), Ok(InspectVote::Free)];
        assert_eq!(after(5, views), InspectionVerdict::Contended);
    }

    #[test]
    fn those_who_share_a_lock_are_those_whom_a_majority_names() {
        let share = |leases: &[(&str, u64)]| {
            let sharing = |(lease, left_s): &(&str, u64)| {
                let InspectVote::Held { lease, holder, .. } = held(lease, 7, *left_s) else { unreachable!() };
                Sharing { lease: lease.unwrap(), slot: 0, holder }
            };
            Ok(InspectVote::of_together(0, leases.iter().map(sharing).collect()))
        };
        let left = |verdict| match verdict {
            InspectionVerdict::Together { sharers, .. } => {
                sharers.iter().map(|sharing| (sharing.lease.reveal()[..1].to_owned(), sharing.holder.left.unwrap().as_secs())).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let found = |pairs: &[(&str, u64)]| pairs.iter().map(|(lease, left_s)| ((*lease).to_owned(), *left_s)).collect::<Vec<_>>();
        assert_eq!(left(after(3, vec![share(&[("a", 5), ("b", 9)]), share(&[("b", 8), ("a", 6)])])), found(&[("a", 5), ("b", 8)]));
        // One more answer could name the second as well.
        assert_eq!(left(after(3, vec![share(&[("a", 5), ("b", 9)]), share(&[("a", 6)]), Ok(InspectVote::Free)])), found(&[("a", 5)]));
        assert_eq!(after(3, vec![share(&[("a", 5)]), Ok(InspectVote::Free), Ok(InspectVote::Free)]), InspectionVerdict::Free);
        assert_eq!(after(3, vec![share(&[("a", 5)]), share(&[("b", 5)]), Ok(InspectVote::Free)]), InspectionVerdict::Contended);
        assert_eq!(share(&[]), Ok(InspectVote::Free));
    }

    #[test]
    fn too_few_views_decide_nothing() {
        let gone = || Err(Abstention::Unreachable);
        let verdict = after(3, vec![gone(), gone()]);
        assert_eq!(verdict, InspectionVerdict::Undecided { shortage: Shortage::NoQuorum, votes: vec!["unreachable", "unreachable", "pending"] });
    }
}
