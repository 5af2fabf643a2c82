//! A set of nodes, by their places in the configuration.

use super::Quorum;

/// Some of at most [`Quorum::MAX_NODES`] nodes, a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NodeSet(u32);

impl NodeSet {
    pub fn all(quorum: Quorum) -> Self {
        (0..quorum.nodes()).collect()
    }

    pub fn contains(self, node: usize) -> bool {
        self.0 & 1 << node != 0
    }

    pub fn insert(&mut self, node: usize) {
        self.0 |= 1 << node;
    }

    pub fn remove(&mut self, node: usize) {
        self.0 &= !(1 << node);
    }

    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// In the order of the configuration.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Quorum::MAX_NODES).filter(move |node| self.contains(*node))
    }
}

impl FromIterator<usize> for NodeSet {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        nodes.into_iter().fold(Self::default(), |mut set, node| {
            set.insert(node);
            set
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_not_taken_out() {
        let all = NodeSet::all(Quorum::of(5));
        let mut some: NodeSet = [4, 1, 4].into_iter().collect();
        assert_eq!((all.len(), some.len()), (5, 2));
        assert_eq!(all.without(some).iter().collect::<Vec<_>>(), [0, 2, 3]);
        some.remove(4);
        assert!(some.contains(1) && !some.contains(4) && !some.is_empty());
        assert!(all.without(all).is_empty());
        assert_eq!(NodeSet::all(Quorum::of(Quorum::MAX_NODES)).len(), Quorum::MAX_NODES);
    }
}
