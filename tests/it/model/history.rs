//! What was granted so far, and whether its order was ever wrong.

use super::configuration::Ticks;
use super::gateway::Bounds;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct History {
    /// Every lease with every token that it was granted, sorted, and whether it shares the lock.
    tokens: Vec<(u8, Ticks, bool)>,
    pub is_disordered: bool,
}

impl History {
    /// What a request of `lease` that begins now has to exceed. Those who share the lock are in no order among themselves.
    pub fn bounds(&self, lease: u8, shares: bool) -> Bounds {
        let greatest = |own: bool| {
            let of = self.tokens.iter().filter(|(of, _, _)| (*of == lease) == own);
            of.filter(|(_, _, other)| own || !(shares && *other)).map(|(_, token, _)| *token).max().unwrap_or_default()
        };
        Bounds { own: greatest(true), others: greatest(false) }
    }

    /// A repeat may be given the same token again; nobody else may, but for others who share the lock.
    pub fn grant(&mut self, lease: u8, shares: bool, token: Ticks, bounds: Bounds) {
        let is_late = token < bounds.own || token <= bounds.others;
        let is_shared = self.tokens.iter().any(|(of, known, other)| *of != lease && *known == token && !(shares && *other));
        self.is_disordered |= is_late || is_shared;
        if let Err(place) = self.tokens.binary_search(&(lease, token, shares)) {
            self.tokens.insert(place, (lease, token, shares));
        }
    }

    pub fn token(&self, lease: u8) -> Option<Ticks> {
        self.tokens.iter().filter(|(of, _, _)| *of == lease).map(|(_, token, _)| *token).max()
    }

    pub fn has_granted_to_another(&self) -> bool {
        self.tokens.iter().any(|(lease, _, _)| *lease != 0)
    }

    pub fn has_granted(&self) -> bool {
        !self.tokens.is_empty()
    }
}
