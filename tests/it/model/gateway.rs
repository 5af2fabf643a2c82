//! What a gateway makes of the votes it has heard: the rules of `lease/attempt.rs`, `extension.rs` and `release.rs`.

use super::configuration::{Configuration, Mutant, Ticks};
use super::message::Vote;
use super::node::Node;

const MAX_RELEASE_ROUNDS: u8 = 3;

/// Where a request stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Phase {
    Waiting,
    Asking(Asking),
    /// The holder relies on its lease up to and including this tick.
    Holding {
        until: Ticks,
    },
    /// An extend that found its lease gone, and undoes what a minority prolonged.
    Lost,
    Over,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Asking {
    /// The ballot of this round, or the end of a release.
    pub ballot: Ticks,
    pub started: Ticks,
    pub round: u8,
    /// The client has released the lease since it asked, so a grant is void for it.
    pub void: bool,
    pub bounds: Bounds,
}

/// The greatest tokens that were granted before a request began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bounds {
    pub own: Ticks,
    pub others: Ticks,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub token: Ticks,
    /// Until when the holder may rely on it.
    pub until: Ticks,
}

/// The grant that an acquire's votes add up to.
pub fn acquired(nodes: &[Node], request: usize, asking: &Asking, now: Ticks, c: &Configuration) -> Option<Grant> {
    let votes = || nodes.iter().map(|node| node.heard[request]);
    let began = if c.breaks(Mutant::ValidityFromTheEnd) { now } else { asking.started };
    let accepted = accepted(nodes, request, c);
    let mine: Vec<_> = votes().filter_map(mine).collect();
    let sum = if c.breaks(Mutant::AcceptedAndMineAddUp) { accepted + mine.len() } else { accepted };
    if c.majority() <= sum {
        return Some(Grant { token: asking.ballot, until: began + c.ttl - c.margin });
    }
    replayed(&mine, asking.started, c)
}

/// The same grant again: it lasts as long as a majority of the records do.
fn replayed(mine: &[(Ticks, Ticks)], started: Ticks, c: &Configuration) -> Option<Grant> {
    let required = if c.breaks(Mutant::ReplayWithoutMajority) { c.majority() - 1 } else { c.majority() };
    mine.iter().find_map(|(token, _)| {
        let same = |(ballot, _): &&(Ticks, Ticks)| ballot == token || c.breaks(Mutant::MineCountsAcrossBallots);
        let left = nth_longest(mine.iter().filter(same), required)?;
        let lasts = if c.breaks(Mutant::ReplayValidForTheWholeTtl) { c.ttl } else { left };
        Some(Grant { token: *token, until: started + lasts - c.margin })
    })
}

/// The grant that an extend's votes add up to.
pub fn extended(nodes: &[Node], request: usize, asking: &Asking, c: &Configuration) -> Option<Grant> {
    let live: Vec<_> = nodes.iter().filter_map(|node| extended_by(node.heard[request])).collect();
    live.iter().find_map(|(token, _)| {
        let same = |(ballot, _): &&(Ticks, Ticks)| ballot == token || c.breaks(Mutant::ExtendCountsAcrossBallots);
        let left = nth_longest(live.iter().filter(same), c.majority())?;
        Some(Grant { token: *token, until: asking.started + left - c.margin })
    })
}

/// So many nodes said that the lease is not there that an extend can't succeed any more.
pub fn is_lost(nodes: &[Node], request: usize, c: &Configuration) -> bool {
    let refused = nodes.iter().filter(|node| node.heard[request] == Vote::NotHeld).count();
    c.nodes - c.majority() < refused
}

/// A release is complete: a majority does not hold the lease, and no node that was heard holds more of it.
pub fn released(nodes: &[Node], request: usize, asking: &Asking, names_token: bool, c: &Configuration) -> bool {
    let newer = nodes.iter().filter(|node| matches!(node.heard[request], Vote::Newer { .. })).count();
    let not_held = nodes.iter().filter(|node| node.heard[request] == Vote::NotHeld).count();
    let ignores_newer = asking.round == MAX_RELEASE_ROUNDS;
    if names_token { c.majority() <= not_held + newer } else { c.majority() <= not_held && (newer == 0 || ignores_newer) }
}

/// The next round of an acquire, if its votes call for one: the ballot, and up to which it may raise another attempt's record.
pub fn next_round(nodes: &[Node], request: usize, asking: &Asking, estimate: Ticks, c: &Configuration) -> Option<(Ticks, Ticks)> {
    let votes = || nodes.iter().map(|node| node.heard[request]);
    let movable = accepted(nodes, request, c) + votes().filter(|vote| matches!(vote, Vote::Mine { .. } | Vote::Stale { .. })).count();
    if movable < c.majority() || c.rounds <= asking.round {
        return None;
    }
    let over = votes().filter_map(mine).map(|(ballot, _)| ballot).max().unwrap_or_default();
    let floors = votes().filter_map(|vote| match vote {
        Vote::Stale { floor } => Some(floor),
        _ => None,
    });
    let floor = floors.max().unwrap_or_default().max(over);
    let above = if floor <= estimate + c.window { floor + 1 } else { 0 };
    Some((above.max(estimate).max(asking.ballot + 1), over))
}

/// The next round of a release that names no token: it reaches to the newest ballot of its lease.
pub fn next_release(nodes: &[Node], request: usize, asking: &Asking) -> Option<Ticks> {
    let newer = nodes.iter().filter_map(|node| match node.heard[request] {
        Vote::Newer { ballot } => Some(ballot),
        _ => None,
    });
    newer.max().filter(|_| asking.round < MAX_RELEASE_ROUNDS)
}

fn accepted(nodes: &[Node], request: usize, c: &Configuration) -> usize {
    let times = nodes.iter().map(|node| match node.heard[request] {
        Vote::Accepted { times } => times as usize,
        _ => 0,
    });
    if c.breaks(Mutant::OneNodeCountsTwice) { times.sum() } else { times.filter(|times| 0 < *times).count() }
}

fn mine(vote: Vote) -> Option<(Ticks, Ticks)> {
    match vote {
        Vote::Mine { ballot, left } => Some((ballot, left)),
        _ => None,
    }
}

fn extended_by(vote: Vote) -> Option<(Ticks, Ticks)> {
    match vote {
        Vote::Extended { ballot, left } => Some((ballot, left)),
        _ => None,
    }
}

fn nth_longest<'a>(answers: impl Iterator<Item = &'a (Ticks, Ticks)>, n: usize) -> Option<Ticks> {
    let mut left: Vec<Ticks> = answers.map(|(_, left)| *left).collect();
    left.sort_unstable_by(|a, b| b.cmp(a));
    left.get(n - 1).copied()
}
