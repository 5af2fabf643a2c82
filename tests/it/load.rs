//! Many clients that want a few locks, and the history of what they were granted.
//!
//! They do what clients do: wait for their turn or don't, repeat a request whose answer was lost, extend, oversleep, hang up, forget to release.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::history::{Grant, History, Way};
use crate::support::{Chance, HttpAnswer, HttpClient};

pub struct Load {
    pub clients: usize,
    pub locks: u64,
    pub duration: Duration,
    pub ttl_ms: Range<u64>,
    pub seed: u64,
}

impl Load {
    /// Every request goes to one of the gateways. Returns when the last client is done.
    pub fn run(&self, gateways: &[SocketAddr]) -> History {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let client = |index: usize| {
                let client = Client {
                    load: self,
                    gateways: gateways.iter().map(|address| HttpClient::new(*address)).collect(),
                    chance: Chance::new(self.seed.wrapping_mul(1000) + index as u64),
                    begun,
                    history: History::default(),
                };
                scope.spawn(move || client.run())
            };
            let running: Vec<_> = (0..self.clients).map(client).collect();
            let mut history = History::default();
            running.into_iter().for_each(|client| history.merge(client.join().unwrap()));
            history
        })
    }
}

struct Client<'a> {
    load: &'a Load,
    gateways: Vec<HttpClient>,
    chance: Chance,
    begun: Instant,
    history: History,
}

/// What a client asks for.
#[derive(Clone)]
struct Wish {
    /// Where, and with which options beside those of every acquire.
    path: String,
    query: &'static str,
    body: String,
    /// As the history calls it.
    names: Vec<String>,
}

/// What a client knows of its lease.
struct Held {
    wish: Wish,
    lease_id: String,
    grant: Grant,
}

impl Wish {
    /// Half of all want a lock alone.
    fn draw(chance: &mut Chance, locks: u64) -> Self {
        let lock = format!("load/{}", chance.below(locks));
        let one = |kind: &str, query| Self { path: format!("/{kind}/{lock}"), query, body: String::new(), names: vec![format!("{kind}/{lock}")] };
        match chance.below(10) {
            0..=4 => one("locks", ""),
            5..=6 => one("locks", "&mode=shared"),
            7..=8 => one("semaphores", "&limit=2"),
            _ => {
                let first = chance.below(locks);
                let members: Vec<_> = (first..=first + chance.below((locks - first).min(3))).map(|lock| format!("load/{lock}")).collect();
                let body = format!("{{\"keys\":{members:?}}}");
                Self { path: "/locks".into(), query: "", body, names: members.iter().map(|lock| format!("locks/{lock}")).collect() }
            }
        }
    }

    fn way(&self, answer: &HttpAnswer) -> Way {
        match self.query {
            "&mode=shared" => Way::Shared,
            "&limit=2" => Way::Slot { number: answer.number("slot"), limit: answer.number("limit") },
            _ => Way::Alone,
        }
    }
}

impl Client<'_> {
    fn run(mut self) -> History {
        while self.begun.elapsed() < self.load.duration {
            match self.acquire() {
                Some(held) => self.use_up(held),
                // The others work meanwhile; without it most answers are refusals.
                None => self.pause(10),
            }
        }
        self.history
    }

    /// Repeats a request whose answer was lost, with the same lease id, perhaps through another gateway.
    fn acquire(&mut self) -> Option<Held> {
        let wish = Wish::draw(&mut self.chance, self.load.locks);
        let lease_id = format!("{:032x}", (u128::from(self.chance.below(u64::MAX)) << 64) | u128::from(self.chance.below(u64::MAX)));
        let Range { start, end } = self.load.ttl_ms;
        let ttl_ms = start + self.chance.below(end - start);
        let mut target = format!("{}?ttl={ttl_ms}ms&lease_id={lease_id}{}", wish.path, wish.query);
        if self.chance.one_in(3) {
            write!(target, "&wait={}ms", self.chance.below(500)).unwrap();
        }
        let first = self.begun.elapsed();
        for _ in 0..3 {
            if self.chance.one_in(20) {
                // It dies: nobody will read the answer.
                self.history.add_call();
                let gateway = self.some_gateway();
                let _ = gateway.send_with("POST", &target, &[], &wish.body);
                gateway.hang_up();
                self.history.add_unknown();
                return None;
            }
            self.history.add_call();
            let asked = self.begun.elapsed();
            match self.some_gateway().ask_with("POST", &target, &[], &wish.body) {
                Ok(answer) if answer.status == 200 => {
                    let (answered, ended) = (self.begun.elapsed(), asked + valid_for(&answer));
                    let (way, lease) = (wish.way(&answer), number_of(&lease_id));
                    let asked = way.asked(first, asked);
                    let grant = Grant { way, lease, asked, answered, ended, fencing_token: answer.number("fencing_token") };
                    return Some(Held { wish, lease_id, grant });
                }
                Ok(answer) if answer.status == 503 && answer.text("code") == "indeterminate" => self.history.add_unknown(),
                Ok(answer) => {
                    assert!(matches!(answer.status, 423 | 503), "{answer:?}");
                    return None;
                }
                // Nothing was sent.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(_) => self.history.add_unknown(),
            }
            self.pause(20);
        }
        None
    }

    fn use_up(&mut self, mut held: Held) {
        match self.chance.below(20) {
            // It forgets to release, and acts no longer than it may.
            0 => self.record(&held, held.grant.ended),
            // It oversleeps; it does nothing more than release.
            1 => {
                let left = held.grant.ended.saturating_sub(self.begun.elapsed());
                std::thread::sleep(left);
                self.pause(50);
                self.record(&held, held.grant.ended);
                self.release(&held);
            }
            how => {
                if how < 5 {
                    self.extend(&mut held);
                }
                self.pause(5);
                self.record(&held, held.grant.ended.min(self.begun.elapsed()));
                self.release(&held);
            }
        }
    }

    fn extend(&mut self, held: &mut Held) {
        self.history.add_call();
        let asked = self.begun.elapsed();
        let longest = self.load.ttl_ms.end - 1;
        let target = format!("{}?ttl={longest}ms", held.wish.path);
        let answer = self.some_gateway().ask("PUT", &target, &[("Lease-Id", &held.lease_id)]);
        let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else { return };
        assert_eq!(answer.number("fencing_token"), held.grant.fencing_token, "an extend is of the same grant");
        // It counts from before the request. Between the old deadline and a late answer the client does nothing.
        let (answered, ended) = (self.begun.elapsed(), asked + valid_for(&answer));
        if answered < held.grant.ended {
            held.grant.ended = held.grant.ended.max(ended);
        } else {
            self.record(held, held.grant.ended);
            let asked = held.grant.way.asked(held.grant.asked, asked);
            held.grant = Grant { asked, answered, ended, ..held.grant };
        }
    }

    /// Every other client names its token.
    fn release(&mut self, held: &Held) {
        let token = held.grant.fencing_token.to_string();
        let headers = [("Lease-Id", held.lease_id.as_str()), ("Fencing-Token", &token)];
        let named = 1 + usize::from(self.chance.one_in(2));
        self.history.add_call();
        let answer = self.some_gateway().ask("DELETE", &held.wish.path, &headers[..named]);
        // A lease may have ended meanwhile, and a release may be lost; neither breaks a promise.
        assert!(answer.as_ref().is_err() || matches!(answer, Ok(HttpAnswer { status: 200 | 409 | 503, .. })), "{answer:?}");
    }

    fn record(&mut self, held: &Held, ended: Duration) {
        held.wish.names.iter().for_each(|name| self.history.add(name, Grant { ended, ..held.grant }));
    }

    fn some_gateway(&mut self) -> &mut HttpClient {
        let index = self.chance.below(self.gateways.len() as u64);
        &mut self.gateways[index as usize]
    }

    /// Work, or waiting, of up to so many milliseconds.
    fn pause(&mut self, longest_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.chance.below(longest_ms + 1)));
    }
}

fn valid_for(answer: &HttpAnswer) -> Duration {
    Duration::from_millis(answer.number("waited_ms") + answer.number("valid_for_ms"))
}

/// A lease id as the history has it.
fn number_of(lease_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    lease_id.hash(&mut hasher);
    hasher.finish()
}
