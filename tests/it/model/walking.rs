//! Random walks through a configuration that is too large to explore. A walk finds what breadth misses, and proves nothing.

use stateright::Model;

use super::configuration::Configuration;
use super::exploring::Action;
use super::message::Message;
use super::running::Findings;
use super::world::{Fate, World};

type Way = Vec<(World, Option<Action>)>;

const LONGEST: usize = 200;

pub fn walk(c: &Configuration, seeds: u64) -> Findings {
    let mut findings = Findings { exclusion: None, order: None, grants_both: false, states: 0 };
    for seed in 1..=seeds {
        let way = one_walk(c, &mut Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
        let Some((last, _)) = way.last() else { continue };
        let (is_exclusive, is_disordered) = (last.is_exclusive(c), last.history.is_disordered);
        findings.states += way.len();
        findings.grants_both |= last.history.token(0).is_some() && last.history.has_granted_to_another();
        if !is_exclusive {
            keep_shorter(&mut findings.exclusion, &way);
        }
        if is_disordered {
            keep_shorter(&mut findings.order, &way);
        }
    }
    findings
}

fn keep_shorter(kept: &mut Option<Way>, way: &Way) {
    if kept.as_ref().is_none_or(|kept| way.len() < kept.len()) {
        *kept = Some(way.clone());
    }
}

/// Ends at the first violation.
fn one_walk(c: &Configuration, chance: &mut Chance) -> Way {
    let temper = Temper { ticks: chance.below(30) + 1, aborts: chance.below(30), undoing: chance.below(100) + 1, faults: chance.below(40) };
    let mut way: Way = Vec::new();
    let mut world = World::new(c);
    let mut actions = Vec::new();
    while way.len() < LONGEST && world.is_exclusive(c) && !world.history.is_disordered {
        actions.clear();
        c.actions(&world, &mut actions);
        let total: u64 = actions.iter().map(|action| temper.weight(action)).sum();
        if total == 0 {
            break;
        }
        let mut at = chance.below(total);
        let chosen = actions.iter().find(|action| at.checked_sub(temper.weight(action)).map(|rest| at = rest).is_none());
        let Some((action, next)) = chosen.and_then(|action| Some((*action, c.next_state(&world, *action)?))) else { break };
        way.push((std::mem::replace(&mut world, next), Some(action)));
    }
    way.push((world, None));
    way
}

/// How a walk leans: one that ticks seldom meets other things than one that aborts often.
struct Temper {
    ticks: u64,
    aborts: u64,
    undoing: u64,
    faults: u64,
}

impl Temper {
    fn weight(&self, action: &Action) -> u64 {
        match action {
            Action::Tick => self.ticks,
            Action::Abort { .. } => self.aborts,
            Action::Start { .. } => 15,
            Action::NextRound { .. } | Action::ShakeHands { .. } => 50,
            Action::Probe { .. } => 5,
            Action::Deliver { fate: Fate::ReplyLost | Fate::Duplicated, .. } => self.faults,
            Action::Deliver { message: Message::Acquire { .. } | Message::Extend { .. }, .. } => 50,
            Action::Deliver { .. } => self.undoing,
            Action::Crash { .. } | Action::Jump { .. } | Action::Excursion { .. } => self.faults,
        }
    }
}

/// Xorshift: small, and the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }
}
