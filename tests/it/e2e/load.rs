//! Many clients that want a few locks, and the history of what they were granted.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::history::{Grant, History};
use crate::support::{Gateway, HttpClient};

pub struct Load {
    pub clients: usize,
    pub locks: usize,
    pub duration: Duration,
}

impl Load {
    /// Client k asks gateway k modulo their number. Returns when the last client is done.
    pub fn run(&self, gateways: &[&Gateway]) -> History {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let client = |index: usize| {
                let client = Client::new(gateways[index % gateways.len()].address(), begun, index as u64, self.locks);
                scope.spawn(move || client.run(self.duration))
            };
            let running: Vec<_> = (0..self.clients).map(client).collect();
            let mut history = History::default();
            running.into_iter().for_each(|client| history.merge(client.join().unwrap()));
            history
        })
    }
}

struct Client {
    http: HttpClient,
    begun: Instant,
    chance: SmallRng,
    locks: usize,
    history: History,
}

impl Client {
    fn new(gateway: SocketAddr, begun: Instant, seed: u64, locks: usize) -> Self {
        Self { http: HttpClient::new(gateway), begun, chance: SmallRng::seed_from_u64(seed), locks, history: History::default() }
    }

    fn run(mut self, duration: Duration) -> History {
        while self.begun.elapsed() < duration {
            if !self.try_once() {
                // The others work meanwhile; without it most answers are refusals.
                self.pause(10);
            }
        }
        self.history
    }

    fn try_once(&mut self) -> bool {
        let lock = format!("load/{}", self.chance.random_range(0..self.locks));
        // A tenth of the leases are short and left to expire.
        let is_left = self.chance.random_bool(0.1);
        let ttl_ms = if is_left { 150 } else { 5000 };
        let asked = self.begun.elapsed();
        let answer = self.http.ask("POST", &format!("/locks/{lock}?ttl={ttl_ms}ms"), &[]).expect("the gateway answers");
        let answered = self.begun.elapsed();
        if answer.status != 200 {
            assert!(matches!(answer.status, 423 | 503), "{answer:?}");
            return false;
        }
        let deadline = asked + Duration::from_millis(answer.number("waited_ms") + answer.number("valid_for_ms"));
        let lease = answer.text("lease_id");
        let mut grant = Grant { lease: number_of(&lease), asked, answered, ended: deadline, fencing_token: answer.number("fencing_token") };
        if !is_left {
            self.pause(3);
            grant.ended = deadline.min(self.begun.elapsed());
            self.release(&lock, &lease, grant.fencing_token);
        }
        self.history.add(&lock, grant);
        true
    }

    /// Every other client names its token.
    fn release(&mut self, lock: &str, lease_id: &str, fencing_token: u64) {
        let token = fencing_token.to_string();
        let headers = [("Lease-Id", lease_id), ("Fencing-Token", &token)];
        let named = 1 + usize::from(self.chance.random_bool(0.5));
        let answer = self.http.ask("DELETE", &format!("/locks/{lock}"), &headers[..named]).expect("the gateway answers");
        // A lease may have ended meanwhile, and a release may be lost; neither breaks a promise.
        assert!(matches!(answer.status, 200 | 409 | 503), "{answer:?}");
    }

    /// Work, or waiting, of up to so many milliseconds.
    fn pause(&mut self, longest_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.chance.random_range(0..=longest_ms)));
    }
}

/// A lease id as the history has it.
fn number_of(lease_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    lease_id.hash(&mut hasher);
    hasher.finish()
}
