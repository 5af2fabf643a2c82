//! Majority arithmetic.

/// How many nodes there are, and how many of them decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quorum {
    nodes: usize,
}

impl Quorum {
    /// Enough for any sane deployment (7 is the practical end) and for a set of nodes to fit one machine word.
    pub const MAX_NODES: usize = 31;

    /// `nodes` is 1 to [`Quorum::MAX_NODES`], which the configuration checks.
    pub fn of(nodes: usize) -> Self {
        debug_assert!((1..=Self::MAX_NODES).contains(&nodes));
        Self { nodes }
    }

    pub fn nodes(self) -> usize {
        self.nodes
    }

    /// The smallest number of nodes of which any two sets share one.
    pub fn required(self) -> usize {
        self.nodes / 2 + 1
    }

    /// How many nodes that won't vote make a majority impossible.
    pub fn blocking(self) -> usize {
        self.nodes - self.required() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_majorities_always_share_a_node() {
        for (nodes, required, blocking) in [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 3, 2), (5, 3, 3), (7, 4, 4)] {
            let quorum = Quorum::of(nodes);
            assert_eq!((quorum.required(), quorum.blocking()), (required, blocking), "{nodes} nodes");
            assert!(nodes < 2 * quorum.required());
        }
    }
}
