//! What a seed stands for: how many of everything, how long, and what goes wrong.

use std::time::Duration;

use redlockd::lease::TtlBounds;
use redlockd::node::{Agreement, Members};

use crate::support::Chance;

/// One way in which the world is unkind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A server dies and comes back with nothing.
    CrashEmpty,
    /// A server dies and comes back with what it had some time ago.
    CrashOld,
    /// A server that writes everything down dies and comes back with all of it.
    CrashDurable,
    /// A server that goes on running forgets everything: FLUSHALL.
    Flush,
    /// A server does nothing for a while, then goes on with whatever has arrived.
    Pause,
    /// Requests, replies or both are lost between a gateway and a server.
    Cut,
    /// A gateway dies with all that it has begun; another starts in its place.
    GatewayCrash,
    /// The clock of one of a minority of servers steps forward or back.
    Jump,
}

const FAULTS: [Fault; 7] = [Fault::CrashEmpty, Fault::CrashOld, Fault::CrashDurable, Fault::Flush, Fault::Pause, Fault::Cut, Fault::GatewayCrash];

#[derive(Clone, Debug)]
pub struct Scenario {
    pub nodes: usize,
    pub gateways: usize,
    pub clients: usize,
    pub locks: u64,
    /// How long clients ask and faults happen.
    pub length: Duration,
    pub agreement: Agreement,
    pub clock_jump_margin: Duration,
    pub ttl_ms: std::ops::Range<u64>,
    /// Messages that are lost, and that arrive twice: one in so many. 0 for none.
    pub lost_one_in: u64,
    pub twice_one_in: u64,
    /// Messages that take very long: one in so many.
    pub slow_one_in: u64,
    /// How far apart the servers' clocks are at first, in microseconds.
    pub skew_us: u64,
    pub faults: Vec<Fault>,
    /// The mean time between two faults.
    pub fault_every: Duration,
    /// Off only to see that the checker then finds something.
    pub quarantine: bool,
}

impl Scenario {
    pub fn of(chance: &mut Chance) -> Self {
        let jumps = chance.one_in(4);
        let mut faults: Vec<Fault> = FAULTS.into_iter().filter(|_| chance.one_in(2)).collect();
        let window = Duration::from_millis(chance.pick(&[20, 50, 100]));
        let max_ttl_ms = if jumps { 3500 } else { chance.pick(&[200, 400, 800]) };
        let agreement = Agreement { generation: 1, max_ttl: Duration::from_millis(max_ttl_ms), window, members: Members::of([], "") };
        let mut clock_jump_margin = Duration::ZERO;
        if jumps {
            faults.push(Fault::Jump);
            clock_jump_margin = agreement.jump_margin();
        }
        // The margin makes short leases impossible, so those seeds take longer.
        let shortest_ttl_ms = TtlBounds::new(agreement.max_ttl, clock_jump_margin).min.as_millis() as u64;
        let many = chance.one_in(8);
        Self {
            nodes: chance.pick(&[3, 3, 5]),
            gateways: 2 + chance.below(3) as usize,
            clients: if many { 20 + chance.below(31) } else { 5 + chance.below(8) } as usize,
            locks: 1 + chance.below(if many { 8 } else { 2 }),
            length: Duration::from_millis(if jumps { 6000 } else { 1000 + 500 * chance.below(4) }),
            agreement,
            clock_jump_margin,
            ttl_ms: shortest_ttl_ms..max_ttl_ms + 1,
            lost_one_in: chance.pick(&[0, 0, 30, 100, 300]),
            twice_one_in: chance.pick(&[0, 10, 30]),
            slow_one_in: chance.pick(&[0, 20, 100, 300]),
            skew_us: window.as_micros() as u64 * chance.below(3) / 2,
            faults,
            fault_every: Duration::from_millis(chance.pick(&[60, 150, 500])),
            quarantine: true,
        }
    }
}
