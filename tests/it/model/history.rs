//! What was granted so far, and whether its order was ever wrong.

use super::configuration::Ticks;
use super::gateway::Bounds;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct History {
    /// Every lease with every token that it was granted, sorted.
    tokens: Vec<(u8, Ticks)>,
    pub is_disordered: bool,
}

impl History {
    /// What a request of `lease` that begins now has to exceed.
    pub fn bounds(&self, lease: u8) -> Bounds {
        let greatest = |own: bool| self.tokens.iter().filter(|(of, _)| (*of == lease) == own).map(|(_, token)| *token).max().unwrap_or_default();
        Bounds { own: greatest(true), others: greatest(false) }
    }

    /// A repeat may be given the same token again; nobody else may.
    pub fn grant(&mut self, lease: u8, token: Ticks, bounds: Bounds) {
        let is_late = token < bounds.own || token <= bounds.others;
        let is_shared = self.tokens.iter().any(|(of, other)| *of != lease && *other == token);
        self.is_disordered |= is_late || is_shared;
        if let Err(place) = self.tokens.binary_search(&(lease, token)) {
            self.tokens.insert(place, (lease, token));
        }
    }

    pub fn token(&self, lease: u8) -> Option<Ticks> {
        self.tokens.iter().filter(|(of, _)| *of == lease).map(|(_, token)| *token).max()
    }

    pub fn has_granted_to_another(&self) -> bool {
        self.tokens.iter().any(|(lease, _)| *lease != 0)
    }

    pub fn has_granted(&self) -> bool {
        !self.tokens.is_empty()
    }
}
