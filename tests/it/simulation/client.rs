//! A client: acquires one lock alone or with others, a slot or several locks, waits, works, extends, releases, repeats itself, loses answers, hangs up, dies.

use std::sync::Arc;
use std::time::Duration;

use redlockd::lease::{FencingToken, LeaseId, LockKey, Mode, Slot, Ttl, TtlBounds};
use redlockd::redlock::{AcquireError, AcquireRequest, ExtendError, LeaseBounds, Locks, WaitError};
use tokio::time::{sleep, timeout};

use super::world::{Gateway, World};
use crate::history::{Grant, Way};
use crate::support::lock_key;

pub struct Client {
    world: Arc<World>,
    /// Of its next lease id.
    next_lease: u64,
}

/// What a client wants.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Wish {
    Alone(u64),
    Shared(u64),
    Slot {
        semaphore: u64,
        limit: u16,
    },
    /// All of these locks.
    All(Vec<u64>),
}

/// Tells apart the grants of a lease id that is used again, which are not repeats of each other.
#[derive(Clone, Copy)]
enum Use {
    First { asked: Duration },
    Again,
}

/// What a client knows of its lease.
struct Held {
    lease: u64,
    wish: Wish,
    grant: Grant,
}

impl Wish {
    fn locks(&self) -> Locks {
        match self {
            Self::Alone(lock) | Self::Shared(lock) => key_of(*lock).into(),
            Self::Slot { semaphore, .. } => LockKey::of_semaphore(&key_of(*semaphore)).into(),
            Self::All(locks) => Locks::of_set(locks.iter().map(|lock| key_of(*lock)).collect()),
        }
    }

    fn mode(&self) -> Mode {
        match self {
            Self::Alone(_) | Self::All(_) => Mode::Exclusive,
            Self::Shared(_) => Mode::Shared,
            Self::Slot { limit, .. } => Mode::Slot(Slot { number: 0, limit: *limit }),
        }
    }

    /// As the history calls what was granted.
    fn names(&self) -> Vec<String> {
        match self {
            Self::Alone(lock) | Self::Shared(lock) => vec![format!("lock-{lock}")],
            Self::Slot { semaphore, .. } => vec![format!("semaphore-{semaphore}")],
            Self::All(locks) => locks.iter().map(|lock| format!("lock-{lock}")).collect(),
        }
    }
}

/// How the history tells a grant in this mode.
fn way_of(mode: Mode) -> Way {
    match mode {
        Mode::Exclusive => Way::Alone,
        Mode::Shared => Way::Shared,
        Mode::Slot(Slot { number, limit }) => Way::Slot { number: number.into(), limit: limit.into() },
    }
}

impl Client {
    pub fn new(world: &Arc<World>, index: usize) -> Self {
        Self { world: Arc::clone(world), next_lease: (index as u64) << 32 }
    }

    pub async fn run(mut self) {
        while !self.world.is_over() {
            let wish = self.wish();
            self.next_lease += 1;
            match self.ask_until_answered(&wish).await {
                Some(held) => self.use_up(held).await,
                None => self.pause(80).await,
            }
        }
    }

    fn wish(&self) -> Wish {
        let locks = self.world.scenario.locks;
        let lock = self.below(locks);
        match self.below(10) {
            0..=4 => Wish::Alone(lock),
            5..=6 => Wish::Shared(lock),
            // Hardly anybody counts otherwise than the others.
            7..=8 => Wish::Slot { semaphore: lock, limit: if self.happens(20) { 3 } else { 2 } },
            _ => {
                let first = self.below(locks);
                Wish::All((first..=first + self.below(locks - first)).collect())
            }
        }
    }

    /// Mostly none, and none in the calm at the end, when every lock is to be had.
    fn bounds(&self, wish: &Wish, ttl: Ttl) -> LeaseBounds {
        if self.world.is_calm() || !self.happens(5) {
            return LeaseBounds::default();
        }
        let (ttl_ms, max_ttl_ms) = (ttl.as_millis(), self.world.scenario.agreement.max_ttl.as_millis() as u64);
        let some = |longest_ms: u64| if self.happens(2) { Duration::from_millis(self.below(longest_ms + 1)) } else { Duration::ZERO };
        LeaseBounds {
            max_lifetime: self.happens(2).then(|| ttl.get() + some(ttl_ms)),
            min_hold: if matches!(wish, Wish::Alone(_)) { some(ttl_ms) } else { Duration::ZERO },
            lock_delay: some(max_ttl_ms - ttl_ms),
        }
    }

    /// One try, as somebody who only wants to know whether locks can be had at all.
    pub async fn has_once(&mut self, gateway: &Gateway, lock: u64) -> bool {
        for wish in [Wish::Alone(lock), Wish::Shared(lock), Wish::Slot { semaphore: lock, limit: 2 }, Wish::All(vec![lock])] {
            self.next_lease += self.world.now().as_millis() as u64 + 1;
            let Some(held) = self.ask(gateway, &wish, self.next_lease, Use::First { asked: self.world.now() }).await.ok().flatten() else {
                return false;
            };
            let until = self.world.now();
            self.let_go(held, until, true).await;
        }
        true
    }

    /// Repeats a request whose answer was lost, with the same lease id, perhaps through another gateway.
    async fn ask_until_answered(&self, wish: &Wish) -> Option<Held> {
        let first = self.world.now();
        for _ in 0..3 {
            let gateway = self.world.some_gateway();
            if self.happens(20) {
                // It hangs up before the answer.
                let patience = Duration::from_millis(self.below(60));
                let outcome = timeout(patience, self.ask(&gateway, wish, self.next_lease, Use::First { asked: first })).await;
                if outcome.is_err() {
                    self.world.history().add_unknown();
                }
                return outcome.ok()?.ok()?;
            }
            match self.ask(&gateway, wish, self.next_lease, Use::First { asked: first }).await {
                Ok(outcome) => return outcome,
                Err(Unknown) => self.world.history().add_unknown(),
            }
        }
        None
    }

    async fn ask(&self, gateway: &Gateway, wish: &Wish, lease: u64, use_of_it: Use) -> Result<Option<Held>, Unknown> {
        let scenario = &self.world.scenario;
        let ttl_ms = scenario.ttl_ms.start + self.below(scenario.ttl_ms.end - scenario.ttl_ms.start);
        let bounds = TtlBounds::new(scenario.agreement.max_ttl, scenario.clock_jump_margin);
        let ttl = Ttl::new(Duration::from_millis(ttl_ms), bounds).unwrap();
        if !gateway.is_alive() {
            // It refuses connections.
            self.pause(20).await;
            return Ok(None);
        }
        let wait = if self.happens(3) { Duration::from_millis(self.below(200)) } else { Duration::ZERO };
        self.world.history().add_call();
        let asked = self.world.now();
        let request =
            AcquireRequest { mode: wish.mode(), bounds: self.bounds(wish, ttl), ..AcquireRequest::of(wish.locks(), Some(id_of(lease)), ttl, None) };
        let outcome = gateway.redlock.wait_for(request, wait).await;
        if !gateway.is_alive() {
            return Err(Unknown);
        }
        match outcome {
            Ok(acquired) => {
                let way = way_of(acquired.grant.mode);
                let (valid_for, fencing_token) = (acquired.waited + acquired.grant.valid_for, acquired.grant.fencing_token.get());
                acquired.keep();
                // The answer is on its way, and may be late or lost.
                sleep(Duration::from_millis(self.below(4))).await;
                if !self.world.is_calm() && self.happens(12) {
                    return Err(Unknown);
                }
                let (answered, ended) = (self.world.now(), asked + valid_for);
                let (lease_of_use, first) = match use_of_it {
                    Use::First { asked } => (lease, asked),
                    Use::Again => (lease | 1 << 63, asked),
                };
                let grant = Grant { way, lease: lease_of_use, asked: way.asked(first, asked), answered, ended, fencing_token };
                Ok(Some(Held { lease, wish: wish.clone(), grant }))
            }
            Err(WaitError::Acquire(AcquireError::Indeterminate(_))) => Err(Unknown),
            Err(_) => Ok(None),
        }
    }

    /// Holds the lock for a while, in one of the ways in which clients do.
    async fn use_up(&mut self, mut held: Held) {
        let works_until = self.world.now() + Duration::from_millis(self.below(30));
        match self.below(10) {
            // It dies, or forgets to release: nobody acts after the deadline.
            0 => self.record(&held, held.grant.ended),
            1 => {
                // Somebody guesses a lease id; nothing may come of it.
                let guess = self.next_lease + (1 << 31);
                let _ = self.world.some_gateway().redlock.release(held.wish.locks(), id_of(guess), None).await;
                self.let_go(held, works_until, true).await;
            }
            2..=3 => {
                self.extend(&mut held).await;
                self.let_go(held, works_until, true).await;
            }
            // It extends too late, hears that the lease is gone, and asks for it again.
            4 => {
                let (lease, wish, ended) = (held.lease, held.wish.clone(), held.grant.ended);
                self.record(&held, ended);
                let late = Duration::from_millis(self.below(30));
                sleep((ended + late).saturating_sub(self.world.now())).await;
                match self.extend(&mut held).await {
                    Some(Gone) => self.use_again(wish, lease).await,
                    None => drop(self.let_go(held, works_until, true).await),
                }
            }
            // It oversleeps; it does not act after its deadline, but releases all the same.
            5 => {
                let late = held.grant.ended + Duration::from_millis(self.below(100));
                self.let_go(held, late, false).await;
            }
            6 => {
                let (lease, wish) = (held.lease, held.wish.clone());
                if self.let_go(held, works_until, true).await {
                    self.use_again(wish, lease).await;
                }
            }
            _ => drop(self.let_go(held, works_until, self.happens(2)).await),
        }
    }

    /// A lease id may be used again once its release was answered.
    async fn use_again(&self, wish: Wish, lease: u64) {
        let gateway = self.world.some_gateway();
        if let Ok(Some(held)) = self.ask(&gateway, &wish, lease, Use::Again).await {
            let until = self.world.now() + Duration::from_millis(self.below(300));
            self.let_go(held, until, false).await;
        }
    }

    /// Whether it was told that the lease is gone.
    async fn extend(&self, held: &mut Held) -> Option<Gone> {
        let gateway = self.world.some_gateway();
        let scenario = &self.world.scenario;
        let ttl = Ttl::new(scenario.agreement.max_ttl, TtlBounds::new(scenario.agreement.max_ttl, scenario.clock_jump_margin)).unwrap();
        self.world.history().add_call();
        let asked = self.world.now();
        let extended = gateway.redlock.extend(held.wish.locks(), id_of(held.lease), ttl).await;
        if !gateway.is_alive() {
            return None;
        }
        if let Ok(extended) = &extended {
            assert_eq!(extended.fencing_token.get(), held.grant.fencing_token, "an extend is of the same grant");
            // It counts from before the request. Between the old deadline and a late answer the client does nothing.
            let (answered, ended) = (self.world.now(), asked + extended.valid_for);
            if answered < held.grant.ended {
                held.grant.ended = held.grant.ended.max(ended);
            } else {
                self.record(held, held.grant.ended);
                let asked = held.grant.way.asked(held.grant.asked, asked);
                held.grant = Grant { asked, answered, ended, ..held.grant };
            }
        }
        matches!(extended, Err(ExtendError::Expired | ExtendError::HeldByOther)).then_some(Gone)
    }

    /// Acts until then or until its deadline, then releases. True if the release was answered.
    async fn let_go(&self, held: Held, until: Duration, names_token: bool) -> bool {
        sleep(until.saturating_sub(self.world.now())).await;
        let ended = held.grant.ended.min(self.world.now());
        self.record(&held, ended);
        let gateway = self.world.some_gateway();
        let token = FencingToken::parse(&held.grant.fencing_token.to_string()).unwrap();
        self.world.history().add_call();
        let released = gateway.redlock.release(held.wish.locks(), id_of(held.lease), names_token.then_some(token)).await;
        released.is_ok() && gateway.is_alive()
    }

    fn record(&self, held: &Held, ended: Duration) {
        held.wish.names().iter().for_each(|name| self.world.history().add(name, Grant { ended, ..held.grant }));
    }

    async fn pause(&self, longest_ms: u64) {
        let pause = Duration::from_millis(self.below(longest_ms));
        sleep(pause).await;
    }

    fn below(&self, end: u64) -> u64 {
        self.world.chance().below(end)
    }

    fn happens(&self, one_in: u64) -> bool {
        self.world.chance().one_in(one_in)
    }
}

/// The lease is over, says a majority.
#[derive(PartialEq, Eq)]
struct Gone;

/// No answer came, or one that leaves it open.
struct Unknown;

fn key_of(lock: u64) -> LockKey {
    lock_key(&format!("lock-{lock}"))
}

fn id_of(lease: u64) -> LeaseId {
    LeaseId::new(&format!("lease-{lease:016x}")).unwrap()
}
