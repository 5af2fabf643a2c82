//! A row of a table: a configuration, and what it must show of the two properties.

use std::collections::BTreeSet;

use super::configuration::Configuration;
use super::exploring::{EXCLUSION, ORDER};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expectation {
    Holds,
    Fails,
    NotClaimed,
}

/// How far a row is explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effort {
    /// Every state that can be reached.
    ToTheEnd,
    /// So many random walks, which prove nothing where they find nothing.
    Walks(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The protocol within what it promises.
    Protocol,
    /// The protocol beyond what it promises.
    Beyond,
    /// One rule broken.
    Mutant,
}

#[derive(Clone)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub configuration: Configuration,
    pub exclusion: Expectation,
    pub order: Expectation,
    pub effort: Effort,
}

impl Row {
    pub fn protocol(name: &'static str, configuration: Configuration) -> Self {
        let (exclusion, order) = (Expectation::Holds, Expectation::Holds);
        Self { name, kind: Kind::Protocol, configuration, exclusion, order, effort: Effort::ToTheEnd }
    }

    /// A mutant that must be caught breaking exclusion.
    pub fn breaks_exclusion(name: &'static str, configuration: Configuration) -> Self {
        Self { kind: Kind::Mutant, exclusion: Expectation::Fails, order: Expectation::NotClaimed, ..Self::protocol(name, configuration) }
    }

    /// A mutant that must be caught breaking the order of tokens.
    pub fn breaks_order(name: &'static str, configuration: Configuration) -> Self {
        Self { kind: Kind::Mutant, exclusion: Expectation::NotClaimed, order: Expectation::Fails, ..Self::protocol(name, configuration) }
    }

    /// The protocol where only the order of tokens is promised.
    pub fn keeps_order(name: &'static str, configuration: Configuration) -> Self {
        Self { exclusion: Expectation::NotClaimed, ..Self::protocol(name, configuration) }
    }

    /// Breaks both.
    pub fn breaks_everything(name: &'static str, configuration: Configuration) -> Self {
        Self { kind: Kind::Mutant, exclusion: Expectation::Fails, order: Expectation::Fails, ..Self::protocol(name, configuration) }
    }

    /// A rule that neither property needs: another one takes its place, or it only spares waiting.
    pub fn harmless(name: &'static str, configuration: Configuration) -> Self {
        Self { kind: Kind::Mutant, ..Self::protocol(name, configuration) }
    }

    /// Not a broken rule, but more than the protocol promises to stand.
    pub fn beyond(self) -> Self {
        Self { kind: Kind::Beyond, ..self }
    }

    pub fn with(self, effort: Effort) -> Self {
        Self { effort, ..self }
    }

    pub fn must_fail(&self) -> BTreeSet<&'static str> {
        let properties = [(self.exclusion, EXCLUSION), (self.order, ORDER)];
        properties.into_iter().filter(|(expectation, _)| *expectation == Expectation::Fails).map(|(_, property)| property).collect()
    }
}
