//! What goes wrong on real servers, one thing after the other, and its mending.

use std::time::{Duration, Instant};

use super::site::{Server, Site};
use crate::support::Chance;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// SIGKILL; what was not on the disk is gone.
    Crash,
    /// SIGSTOP for longer than a call may take.
    Pause,
    Flush,
    /// SCRIPT FLUSH.
    ScriptsLost,
    /// A gateway and a server can't hear each other, or only in one way.
    Partition,
    /// A reply is lost after its effect, or ends in the middle.
    ReplyLost,
    /// SIGKILL of a gateway.
    GatewayDies,
    /// The clock of one of a minority jumps, and later back.
    ClockJumps,
}

impl Fault {
    pub const ALL: &[Self] =
        &[Self::Crash, Self::Pause, Self::Flush, Self::ScriptsLost, Self::Partition, Self::ReplyLost, Self::GatewayDies, Self::ClockJumps];
    pub const WITH_RIGHT_CLOCKS: &[Self] =
        &[Self::Crash, Self::Pause, Self::Flush, Self::ScriptsLost, Self::Partition, Self::ReplyLost, Self::GatewayDies];
}

/// What makes servers forget.
pub const FORGETFUL: &[Fault] = &[Fault::Crash, Fault::Flush];

pub struct Injector<'a> {
    site: &'a mut Site,
    faults: &'a [Fault],
    chance: Chance,
}

impl<'a> Injector<'a> {
    pub fn new(site: &'a mut Site, faults: &'a [Fault], seed: u64) -> Self {
        Self { site, faults, chance: Chance::new(seed) }
    }

    /// One fault after the other, each with a calm behind it. How many there were.
    pub fn run(mut self, duration: Duration) -> usize {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < duration {
            let fault = self.chance.pick(self.faults);
            self.inject(fault);
            count += 1;
            let calm = self.some_time(1500);
            std::thread::sleep(calm);
        }
        count
    }

    fn inject(&mut self, fault: Fault) {
        let some_time = self.some_time(400);
        let nodes = self.site.servers.len() as u64;
        match fault {
            Fault::Crash => {
                // One, or most of them, so that no majority remembers.
                let how_many = if self.chance.one_in(2) { 1 } else { nodes / 2 + 1 };
                let first = self.chance.below(nodes - how_many + 1) as usize;
                let servers = &mut self.site.servers[first..first + how_many as usize];
                std::thread::scope(|scope| servers.iter_mut().for_each(|server| drop(scope.spawn(move || server.crash(some_time / 4)))));
            }
            Fault::Pause => {
                let server = self.some_server();
                server.process.pause();
                std::thread::sleep(some_time);
                server.process.resume();
            }
            Fault::Flush => {
                let how_many = 1 + self.chance.below(nodes) as usize;
                self.site.servers[..how_many].iter().for_each(|server| server.process.run::<()>(&["FLUSHALL"]));
            }
            Fault::ScriptsLost => self.some_server().process.run::<()>(&["SCRIPT", "FLUSH"]),
            Fault::Partition => {
                let (requests, replies) = self.chance.pick(&[(true, true), (true, false), (false, true)]);
                let gateway = self.chance.below(self.site.gateways.len() as u64) as usize;
                let cut_off = 1 + self.chance.below(nodes) as usize;
                let cut =
                    |site: &Site, requests, replies| site.servers[..cut_off].iter().for_each(|server| server.proxies[gateway].cut(requests, replies));
                cut(self.site, requests, replies);
                std::thread::sleep(some_time);
                cut(self.site, false, false);
            }
            Fault::ReplyLost => {
                let breaks = self.chance.one_in(2);
                for server in &self.site.servers {
                    for proxy in &server.proxies {
                        if breaks { proxy.break_reply_to("EVALSHA") } else { proxy.lose_reply_to("EVALSHA") }
                    }
                }
            }
            Fault::GatewayDies => {
                let index = self.chance.below(self.site.gateways.len() as u64) as usize;
                self.site.gateways[index].restart();
            }
            Fault::ClockJumps => {
                let jumpers = (nodes - 1) / 2;
                let index = self.chance.below(jumpers) as usize;
                let furthest_us = self.chance.pick(&[100_000, 400_000, 3_000_000]);
                let ahead_us = self.chance.below(2 * furthest_us + 1) as i64 - furthest_us as i64;
                self.site.servers[index].clock.set_ahead(ahead_us);
                std::thread::sleep(some_time);
                self.site.servers[index].clock.set_ahead(0);
            }
        }
    }

    fn some_server(&mut self) -> &mut Server {
        let index = self.chance.below(self.site.servers.len() as u64) as usize;
        &mut self.site.servers[index]
    }

    fn some_time(&mut self, longest_ms: u64) -> Duration {
        Duration::from_millis(1 + self.chance.below(longest_ms))
    }
}
