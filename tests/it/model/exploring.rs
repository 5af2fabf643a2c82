//! The model that stateright explores: every action in every state, and the two properties.

use std::fmt;

use stateright::{Model, Property};

use super::configuration::{Configuration, Mutant, Ticks, Verb};
use super::gateway::Phase;
use super::message::Message;
use super::node::Kept;
use super::world::{Fate, World};

/// At most one lease of the lock is valid at an instant.
pub const EXCLUSION: &str = "M: leases exclude each other";
/// A token granted later is greater, and no two leases share one.
pub const ORDER: &str = "F: tokens grow";
/// Without both of these a run would show nothing.
pub const FIRST: &str = "the first lease is granted";
pub const RIVAL: &str = "another lease is granted";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Tick,
    Start { request: usize },
    NextRound { request: usize },
    Abort { request: usize },
    Deliver { node: usize, message: Message, fate: Fate },
    ShakeHands { node: usize },
    Probe { node: usize },
    Crash { node: usize, with_old_data: bool },
    Jump { node: usize, by: Ticks },
    Excursion { node: usize, by: Ticks, canary_survives: bool },
}

impl Model for Configuration {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if is_decided(world, self) {
            return;
        }
        let has_begun = 0 < self.jumps || world.phases.iter().any(|phase| *phase != Phase::Waiting);
        if has_begun && world.now < super::configuration::START + self.until {
            actions.push(Action::Tick);
        }
        (0..self.requests.len()).for_each(|request| actions_of_request(world, request, self, actions));
        for node in 0..self.nodes {
            // Nodes in the same state behave the same.
            if node == 0 || world.nodes[node - 1] != world.nodes[node] {
                deliveries(world, node, actions);
                faults(world, node, self, actions);
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Tick => world.tick(),
            Action::Start { request } => world.start(request, self),
            Action::NextRound { request } => world.begin_next_round(request, self),
            Action::Abort { request } => world.abort(request),
            Action::Deliver { node, message, fate } => world.deliver(node, message, fate, self),
            Action::ShakeHands { node } => {
                let now = world.clock(node);
                world.nodes[node].shake_hands(now, self);
            }
            Action::Probe { node } => {
                let now = world.clock(node);
                world.nodes[node].may_vote(now, self);
            }
            Action::Crash { node, with_old_data } => {
                world.left.crashes -= 1;
                world.nodes[node].crash(with_old_data);
            }
            Action::Jump { node, by } => {
                world.left.jumps -= 1;
                world.nodes[node].offset += by;
            }
            Action::Excursion { node, by, canary_survives } => {
                world.left.excursions -= 1;
                let highest = world.clock(node) + by;
                let node = &mut world.nodes[node];
                node.expire_keys(highest);
                node.canary = node.canary.filter(|expires| canary_survives || highest <= *expires);
            }
        }
        world.settle(self);
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXCLUSION, |c: &Self, world: &World| world.is_exclusive(c)),
            Property::always(ORDER, |_, world: &World| !world.history.is_disordered),
            Property::sometimes(FIRST, |_, world: &World| world.history.token(0).is_some()),
            Property::sometimes(RIVAL, |_, world: &World| world.history.has_granted_to_another()),
        ]
    }
}

/// Nothing can be granted any more that could go wrong.
fn is_decided(world: &World, c: &Configuration) -> bool {
    let asks = |request: &usize| match world.phases[*request] {
        Phase::Waiting => c.requests[*request].verb.can_grant(),
        Phase::Asking(asking) => !asking.void && c.requests[*request].verb.can_grant(),
        _ => false,
    };
    match (0..c.requests.len()).filter(asks).count() {
        0 => true,
        1 => !world.history.has_granted(),
        _ => false,
    }
}

fn actions_of_request(world: &World, request: usize, c: &Configuration, actions: &mut Vec<Action>) {
    let verb = c.requests[request].verb;
    match world.phases[request] {
        Phase::Waiting if may_start(world, request, c) => actions.push(Action::Start { request }),
        Phase::Asking(_) => {
            if world.next_round(request, c).is_some() {
                actions.push(Action::NextRound { request });
            }
            if request < c.aborts && verb == Verb::Acquire {
                actions.push(Action::Abort { request });
            }
        }
        _ => {}
    }
}

fn may_start(world: &World, request: usize, c: &Configuration) -> bool {
    let asked = c.requests[request];
    let same_lease = || (0..c.requests.len()).filter(|other| c.requests[*other].lease == asked.lease);
    if (0..request).any(|other| c.requests[other] == asked && world.phases[other] == Phase::Waiting) {
        return false;
    }
    let is_being_released =
        same_lease().any(|other| matches!((c.requests[other].verb, world.phases[other]), (Verb::Release { .. }, Phase::Asking(_))));
    let is_known = same_lease().any(|other| c.requests[other].verb == Verb::Acquire && world.phases[other] != Phase::Waiting);
    let is_held = same_lease().any(|other| matches!(world.phases[other], Phase::Holding { .. }));
    if c.careful && same_lease().any(|other| matches!(world.phases[other], Phase::Asking(_))) {
        return false;
    }
    match asked.verb {
        Verb::Acquire => !is_being_released || c.breaks(Mutant::ReuseBeforeReleaseIsAnswered),
        Verb::Extend { .. } => is_known && (!c.careful || world.history.token(asked.lease).is_some()) && !is_being_released,
        Verb::Release { names_token } => is_known && (is_held || !names_token),
    }
}

fn deliveries(world: &World, node: usize, actions: &mut Vec<Action>) {
    let to = &world.nodes[node];
    let mut last = None;
    for message in to.inbox.iter().copied() {
        if last.replace(message) == Some(message) {
            continue;
        }
        let mut deliver = |fate| actions.push(Action::Deliver { node, message, fate });
        deliver(Fate::Answered);
        if 0 < world.left.lost_replies && message.is_voting() {
            deliver(Fate::ReplyLost);
        }
        if 0 < world.left.duplicates {
            deliver(Fate::Duplicated);
        }
        if to.has_changed_epoch && !message.is_voting() {
            deliver(Fate::OfEarlierEpoch);
        }
    }
}

fn faults(world: &World, node: usize, c: &Configuration, actions: &mut Vec<Action>) {
    let (of, now) = (&world.nodes[node], world.clock(node));
    let is_close = (now - world.reference()).abs() <= c.window || c.breaks(Mutant::QuarantineStartsAtAnyClock);
    if is_close && (of.ready_at.is_none() || of.is_suspicious(now, c)) {
        actions.push(Action::ShakeHands { node });
    }
    if 0 < world.left.crashes && of.kept != Kept::default() {
        actions.push(Action::Crash { node, with_old_data: false });
        if of.before.is_some() {
            actions.push(Action::Crash { node, with_old_data: true });
        }
    }
    if !of.may_jump {
        return;
    }
    actions.push(Action::Probe { node });
    if 0 < world.left.jumps {
        actions.extend(c.jump_by.iter().map(|by| Action::Jump { node, by: *by }));
    }
    if 0 < world.left.excursions {
        for by in c.excursion_by.iter().copied() {
            actions.push(Action::Excursion { node, by, canary_survives: false });
            if c.canary_may_survive {
                actions.push(Action::Excursion { node, by, canary_survives: true });
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tick => write!(f, "a tick passes"),
            Self::Start { request } => write!(f, "request {request} asks every node"),
            Self::NextRound { request } => write!(f, "request {request} begins its next round"),
            Self::Abort { request } => write!(f, "request {request} gives up and cancels"),
            Self::Deliver { node, message, fate } => write!(f, "node {node} gets {message:?}, {fate:?}"),
            Self::ShakeHands { node } => write!(f, "node {node} is certified and begins its quarantine"),
            Self::Probe { node } => write!(f, "node {node} is probed"),
            Self::Crash { node, with_old_data: false } => write!(f, "node {node} restarts with nothing"),
            Self::Crash { node, with_old_data: true } => write!(f, "node {node} restarts without its last write"),
            Self::Jump { node, by } => write!(f, "the clock of node {node} jumps by {by}"),
            Self::Excursion { node, by, .. } => write!(f, "the clock of node {node} runs ahead by {by} and comes back unseen"),
        }
    }
}
