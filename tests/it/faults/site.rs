//! Servers, gateways, and a network between them that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Settings;
use crate::support::{Gateway, Proxy, RedisServer, TestClock};

/// How a server keeps what it knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persistence {
    None,
    /// Written down every second: its end is lost with the power.
    EverySecond,
    /// Written down before it answers.
    Always,
}

const PERSISTENCE: [Persistence; 3] = [Persistence::None, Persistence::EverySecond, Persistence::Always];

pub struct Server {
    pub process: RedisServer,
    pub clock: TestClock,
    pub persistence: Persistence,
    /// Before it, one for each gateway.
    pub proxies: Vec<Proxy>,
}

pub struct Site {
    pub servers: Vec<Server>,
    pub gateways: Vec<Gateway>,
    /// Ends the thread that undoes quarantines, where one runs.
    is_closed: Arc<AtomicBool>,
}

impl Site {
    pub fn open(settings: &Settings, gateways: usize, quarantine: bool) -> Self {
        let servers: Vec<Server> = (0..settings.nodes).map(|index| Server::start(PERSISTENCE[index % PERSISTENCE.len()], gateways)).collect();
        let text = |name: &str, duration: Duration| format!("--{name}={}ms", duration.as_millis());
        let arguments = [
            text("max-ttl", settings.max_ttl),
            text("default-ttl", settings.max_ttl),
            text("clock-window", settings.window),
            text("clock-jump-margin", settings.clock_jump_margin),
            "--drain-delay=0s".to_owned(),
            "--trust-persistence".to_owned(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let gateways = (0..gateways)
            .map(|gateway| {
                let urls: Vec<String> = servers.iter().map(|server| server.proxies[gateway].url()).collect();
                Gateway::on_urls(urls.iter().map(String::as_str), &arguments).without_bootstrap()
            })
            .collect();
        let is_closed = Arc::new(AtomicBool::new(false));
        if !quarantine {
            let ports: Vec<u16> = servers.iter().map(|server| server.process.port()).collect();
            let is_closed = Arc::clone(&is_closed);
            std::thread::spawn(move || undo_quarantines(&ports, &is_closed));
        }
        Self { servers, gateways, is_closed }
    }

    pub fn gateway_addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(Gateway::address).collect()
    }

    /// Once all is mended every lock can be had again through every gateway, after `patience` at the latest.
    pub fn works_again(&self, locks: u64, patience: Duration) {
        for gateway in &self.gateways {
            for lock in 0..locks {
                let begun = Instant::now();
                loop {
                    let answer = gateway.post(&format!("/locks/load/{lock}"));
                    if answer.status == 200 {
                        gateway.delete(&format!("/locks/load/{lock}"), &answer.text("lease_id"));
                        break;
                    }
                    assert!(begun.elapsed() < patience, "lock {lock}: {answer:?} after {:?}, {:?}", begun.elapsed(), gateway.nodes());
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }
}

impl Server {
    fn start(persistence: Persistence, gateways: usize) -> Self {
        let clock = TestClock::real();
        let arguments: &[&str] = match persistence {
            Persistence::None => &[],
            Persistence::EverySecond => &["--appendonly", "yes", "--appendfsync", "everysec"],
            Persistence::Always => &["--appendonly", "yes", "--appendfsync", "always", "--no-appendfsync-on-rewrite", "no"],
        };
        let process = RedisServer::start_with_clock_and(&clock, arguments);
        let proxies = (0..gateways).map(|_| Proxy::before(&process)).collect();
        Self { process, clock, persistence, proxies }
    }

    /// Dies as with its machine, and comes back with what it had on the disk.
    pub fn crash(&mut self, down_for: Duration) {
        self.process.kill();
        if self.persistence == Persistence::EverySecond {
            self.process.lose_the_end_of_its_log();
        }
        std::thread::sleep(down_for);
        self.process.restart();
    }
}

/// Makes servers that have forgotten vote at once, by the marker in which they keep how long they wait.
fn undo_quarantines(ports: &[u16], is_closed: &AtomicBool) {
    let without = |marker: &str| {
        let mut fields: Vec<&str> = marker.split('|').collect();
        *fields.get_mut(3)? = "0";
        Some(fields.join("|")).filter(|fields| fields != marker)
    };
    while !is_closed.load(Ordering::Relaxed) {
        for port in ports {
            // It may be down.
            let _ = redis::Client::open(("127.0.0.1", *port)).and_then(|client| {
                let mut connection = client.get_connection_with_timeout(Duration::from_millis(100))?;
                connection.set_read_timeout(Some(Duration::from_millis(100)))?;
                let marker: Option<String> = redis::cmd("GET").arg("redlockd:node").query(&mut connection)?;
                match marker.as_deref().and_then(without) {
                    Some(voting) => redis::cmd("SET").arg("redlockd:node").arg(voting).query::<()>(&mut connection),
                    None => Ok(()),
                }
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
