//! How a lock is held: by one alone, by many together, or in one of several places.

use std::fmt;

/// What a holder lets others do beside it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Nobody else holds the lock.
    #[default]
    Exclusive,
    /// Others may hold it in this mode as well.
    Shared,
    /// Others may hold the other slots.
    Slot(Slot),
}

/// A place in a semaphore.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slot {
    /// From 1 to `limit`.
    pub number: u16,
    /// How many places there are.
    pub limit: u16,
}

/// Some slots of a semaphore.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Slots([u64; 4]);

impl Mode {
    /// How many may hold a lock together. One text on a node says who they are, and is read with every change.
    pub const MAX_TOGETHER: u16 = 256;

    /// How many places there are; 0 unless they are numbered.
    pub fn limit(self) -> u16 {
        match self {
            Self::Slot(slot) => slot.limit,
            Self::Exclusive | Self::Shared => 0,
        }
    }

    /// The number of the place; 0 unless they are numbered.
    pub fn slot(self) -> u16 {
        match self {
            Self::Slot(slot) => slot.number,
            Self::Exclusive | Self::Shared => 0,
        }
    }

    /// The same, in another place.
    pub fn at(self, number: u16) -> Self {
        match self {
            Self::Slot(Slot { limit, .. }) => Self::Slot(Slot { number, limit }),
            other => other,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
            Self::Slot(_) => "slot",
        })
    }
}

impl Slots {
    /// Numbers that no semaphore has are left out.
    pub fn insert(&mut self, number: u16) {
        if let Some((word, bit)) = Self::place(number) {
            self.0[word] |= bit;
        }
    }

    pub fn contains(&self, number: u16) -> bool {
        Self::place(number).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    pub fn union(self, other: Self) -> Self {
        let mut words = self.0;
        words.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
        Self(words)
    }

    /// The others of a semaphore with so many.
    pub fn others(&self, limit: u16) -> impl Iterator<Item = u16> {
        (1..=limit.min(Mode::MAX_TOGETHER)).filter(|number| !self.contains(*number))
    }

    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (1..=Mode::MAX_TOGETHER).filter(|number| self.contains(*number))
    }

    fn place(number: u16) -> Option<(usize, u64)> {
        let at = usize::from(number.checked_sub(1)?);
        (at < usize::from(Mode::MAX_TOGETHER)).then_some((at / 64, 1 << (at % 64)))
    }
}

impl FromIterator<u16> for Slots {
    fn from_iter<T: IntoIterator<Item = u16>>(numbers: T) -> Self {
        let mut slots = Self::default();
        numbers.into_iter().for_each(|number| slots.insert(number));
        slots
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_a_set_of_the_numbers_that_there_are() {
        let slots: Slots = [1, 3, 64, 65, 256, 0, 257].into_iter().collect();
        assert_eq!(slots.iter().collect::<Vec<_>>(), [1, 3, 64, 65, 256]);
        assert_eq!(slots.others(5).collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!(slots.union([2].into_iter().collect()).others(5).collect::<Vec<_>>(), [4, 5]);
        assert!(!slots.contains(0) && !slots.contains(257));
    }
}
