//! The nodes, the requests under way, and how each thing that happens changes them.

use super::configuration::{Configuration, Mutant, START, Ticks, Verb};
use super::gateway::{self, Asking, Grant, Phase};
use super::history::History;
use super::message::{Message, Vote};
use super::node::Node;

/// Nodes are kept sorted: which of them is called the first makes no difference.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    /// True time, which gateways and holders measure without error.
    pub now: Ticks,
    pub nodes: Vec<Node>,
    pub phases: Vec<Phase>,
    pub history: History,
    pub left: Left,
}

/// How much may still go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Left {
    pub lost_replies: u8,
    pub duplicates: u8,
    pub crashes: u8,
    pub jumps: u8,
    pub excursions: u8,
}

/// What becomes of a message that is delivered. One that never is needs no action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Answered,
    ReplyLost,
    /// Answered, and delivered again later.
    Duplicated,
    /// Sent before the node's epoch changed. Only an undoing does anything then.
    OfEarlierEpoch,
}

impl World {
    pub fn new(c: &Configuration) -> Self {
        let mut nodes: Vec<Node> = (0..c.nodes).map(|index| Node::new(index, c)).collect();
        nodes.sort_unstable();
        let left = Left { lost_replies: c.lost_replies, duplicates: c.duplicates, crashes: c.crashes, jumps: c.jumps, excursions: c.excursions };
        Self { now: START, nodes, phases: vec![Phase::Waiting; c.requests.len()], history: History::default(), left }
    }

    pub fn clock(&self, node: usize) -> Ticks {
        self.now + self.nodes[node].offset
    }

    /// The median of the nodes' clocks.
    pub fn reference(&self) -> Ticks {
        let mut clocks: Vec<_> = (0..self.nodes.len()).map(|node| self.clock(node)).collect();
        clocks.sort_unstable();
        clocks[clocks.len() / 2]
    }

    /// The leases that are valid now exclude each other, but for those that share the lock.
    pub fn is_exclusive(&self, c: &Configuration) -> bool {
        let holders = (0..self.phases.len()).filter(|request| matches!(self.phases[*request], Phase::Holding { .. }));
        let mut holders = holders.map(|request| c.requests[request]);
        let Some(first) = holders.next() else { return true };
        holders.all(|other| other.lease == first.lease || other.shares && first.shares)
    }

    pub fn tick(&mut self) {
        self.now += 1;
        for phase in &mut self.phases {
            if matches!(phase, Phase::Holding { until } if *until < self.now) {
                *phase = Phase::Over;
            }
        }
    }

    pub fn start(&mut self, request: usize, c: &Configuration) {
        let asked = c.requests[request];
        let mut ballot = self.now + asked.skew;
        if let Verb::Release { names_token } = asked.verb {
            self.stop_using(asked.lease, c);
            ballot = self.history.token(asked.lease).filter(|_| names_token).unwrap_or(ballot);
        }
        let bounds = self.history.bounds(asked.lease, asked.shares);
        self.phases[request] = Phase::Asking(Asking { ballot, started: self.now, round: 1, void: false, bounds });
        self.ask_all(request, ballot, 0, c);
    }

    /// A client that releases its lease stops, and uses no answer that is still under way.
    fn stop_using(&mut self, lease: u8, c: &Configuration) {
        for (phase, request) in self.phases.iter_mut().zip(&c.requests).filter(|(_, request)| request.lease == lease) {
            match phase {
                Phase::Holding { .. } => *phase = Phase::Over,
                Phase::Asking(asking) if request.verb.can_grant() => asking.void = !c.breaks(Mutant::GrantSurvivesItsRelease),
                _ => {}
            }
        }
    }

    fn ask_all(&mut self, request: usize, ballot: Ticks, over: Ticks, c: &Configuration) {
        let of = request as u8;
        let message = match c.requests[request].verb {
            Verb::Acquire => Message::Acquire { request: of, ballot, over },
            Verb::Extend { .. } => Message::Extend { request: of },
            Verb::Release { .. } => Message::Release { request: of, up_to: ballot },
        };
        self.nodes.iter_mut().for_each(|node| node.send(message));
    }

    /// What the next round of a request would ask for: its ballot, and the highest ballot that it may raise.
    pub fn next_round(&self, request: usize, c: &Configuration) -> Option<(Ticks, Ticks)> {
        let Phase::Asking(asking) = &self.phases[request] else { return None };
        match c.requests[request].verb {
            Verb::Acquire => gateway::next_round(&self.nodes, request, asking, self.now + c.requests[request].skew, c),
            Verb::Release { names_token: false } => gateway::next_release(&self.nodes, request, asking).map(|up_to| (up_to, 0)),
            _ => None,
        }
    }

    pub fn begin_next_round(&mut self, request: usize, c: &Configuration) {
        let Some((ballot, over)) = self.next_round(request, c) else { return };
        let Phase::Asking(asking) = &mut self.phases[request] else { return };
        asking.ballot = ballot;
        asking.round += 1;
        for node in &mut self.nodes {
            let is_kept = c.breaks(Mutant::AcceptedCountsAcrossRounds) && matches!(node.heard[request], Vote::Accepted { .. });
            if !is_kept {
                node.heard[request] = Vote::Unheard;
            }
        }
        self.ask_all(request, ballot, over, c);
    }

    /// The gateway gives up, and undoes what it may have written.
    pub fn abort(&mut self, request: usize) {
        let Phase::Asking(asking) = self.phases[request] else { return };
        self.phases[request] = Phase::Over;
        let cancel = Message::Cancel { request: request as u8, up_to: asking.ballot };
        self.nodes.iter_mut().for_each(|node| node.send(cancel));
    }

    pub fn deliver(&mut self, node: usize, message: Message, fate: Fate, c: &Configuration) {
        let now = self.clock(node);
        if fate == Fate::Duplicated {
            self.left.duplicates -= 1;
        } else {
            self.nodes[node].take(message);
        }
        let vote = self.nodes[node].answer(message, now, fate == Fate::OfEarlierEpoch, c);
        if fate == Fate::ReplyLost {
            self.left.lost_replies -= 1;
        } else {
            self.hear(node, message, vote, c);
        }
    }

    fn hear(&mut self, node: usize, message: Message, vote: Vote, c: &Configuration) {
        let request = message.request() as usize;
        match (self.phases[request], message) {
            (Phase::Asking(asking), Message::Acquire { ballot, .. } | Message::Release { up_to: ballot, .. }) if asking.ballot == ballot => {
                self.count(node, request, asking, vote, c);
            }
            (Phase::Asking(asking), Message::Extend { .. }) => self.count(node, request, asking, vote, c),
            (Phase::Lost, Message::Extend { .. }) => self.free_what_was_prolonged(node, request, vote),
            _ => {}
        }
    }

    fn count(&mut self, node: usize, request: usize, asking: Asking, vote: Vote, c: &Configuration) {
        match &mut self.nodes[node].heard[request] {
            heard @ Vote::Unheard => *heard = vote,
            Vote::Accepted { times } if vote == (Vote::Accepted { times: 1 }) && c.breaks(Mutant::OneNodeCountsTwice) => *times += 1,
            _ => return,
        }
        let grant = match c.requests[request].verb {
            Verb::Acquire => gateway::acquired(&self.nodes, request, &asking, self.now, c),
            Verb::Extend { .. } if gateway::is_lost(&self.nodes, request, c) => return self.lose(request, c),
            Verb::Extend { .. } => gateway::extended(&self.nodes, request, &asking, c),
            Verb::Release { names_token } if gateway::released(&self.nodes, request, &asking, names_token, c) => {
                self.phases[request] = Phase::Over;
                None
            }
            Verb::Release { .. } => None,
        };
        grant.into_iter().for_each(|grant| self.grant(request, asking, grant, c));
    }

    fn grant(&mut self, request: usize, asking: Asking, grant: Grant, c: &Configuration) {
        if asking.void {
            self.phases[request] = Phase::Over;
        } else if self.now <= grant.until {
            self.phases[request] = Phase::Holding { until: grant.until };
            let asked = c.requests[request];
            self.history.grant(asked.lease, asked.shares, grant.token, asking.bounds);
        }
    }

    fn lose(&mut self, request: usize, c: &Configuration) {
        self.phases[request] = Phase::Over;
        if c.breaks(Mutant::LostExtendFreesWhatItProlonged) {
            self.phases[request] = Phase::Lost;
            (0..self.nodes.len()).for_each(|node| self.free_what_was_prolonged(node, request, self.nodes[node].heard[request]));
        }
    }

    fn free_what_was_prolonged(&mut self, node: usize, request: usize, vote: Vote) {
        if let Vote::Extended { ballot, .. } = vote {
            self.nodes[node].send(Message::Release { request: request as u8, up_to: ballot });
        }
    }

    /// Brings states that can't be told apart into one form.
    pub fn settle(&mut self, c: &Configuration) {
        for index in 0..self.nodes.len() {
            let now = self.clock(index);
            let node = &mut self.nodes[index];
            let may_come_back = node.may_jump && (0 < self.left.jumps || 0 < self.left.excursions || c.canary.is_some());
            if !may_come_back && !node.is_suspicious(now, c) {
                node.forget_what_is_over(now, c);
            }
            for (heard, phase) in node.heard.iter_mut().zip(&self.phases) {
                if !matches!(phase, Phase::Asking(_)) {
                    *heard = Vote::Unheard;
                }
            }
        }
        self.nodes.sort_unstable();
    }
}
