//! What one run of the model explores: who asks for what, what may go wrong, and which rule is broken.
//!
//! Time is counted in ticks. A ballot is a tick too, so that a window of 1 lets a ballot be one tick from a clock.

pub type Ticks = i16;

/// When every run begins; high enough that no clock and no ballot falls below zero.
pub const START: Ticks = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    Acquire,
    /// Also by a client that never heard of its grant: the lease id is all it takes.
    Extend {
        ttl: Ticks,
    },
    Release {
        names_token: bool,
    },
}

impl Verb {
    pub fn can_grant(self) -> bool {
        !matches!(self, Self::Release { .. })
    }
}

/// One request of a client, made at most once, through a gateway whose estimate of the time is off by `skew`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    pub lease: u8,
    pub verb: Verb,
    pub skew: Ticks,
    /// Its lease shares the lock, as do all requests of that lease.
    pub shares: bool,
}

impl Request {
    fn of(lease: u8, verb: Verb, skew: Ticks) -> Self {
        Self { lease, verb, skew, shares: false }
    }

    pub fn sharing(self) -> Self {
        Self { shares: true, ..self }
    }
}

pub fn acquire(lease: u8, skew: Ticks) -> Request {
    Request::of(lease, Verb::Acquire, skew)
}

pub fn extend(lease: u8, ttl: Ticks) -> Request {
    Request::of(lease, Verb::Extend { ttl }, 0)
}

pub fn release(lease: u8, skew: Ticks) -> Request {
    Request::of(lease, Verb::Release { names_token: false }, skew)
}

pub fn release_of_token(lease: u8) -> Request {
    Request::of(lease, Verb::Release { names_token: true }, 0)
}

/// A rule that is switched off or turned around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    AcceptedCountsAcrossRounds,
    AcceptedAndMineAddUp,
    MineCountsAcrossBallots,
    ReplayWithoutMajority,
    OneNodeCountsTwice,
    CancelByLease,
    NothingBecomesFirm,
    RaisedRecordStaysCancellable,
    NoTombstone,
    CancelThatFreesRaisesNoFence,
    ReleaseRaisesNoFence,
    ReuseBeforeReleaseIsAnswered,
    GrantSurvivesItsRelease,
    ExtendShortens,
    ExtendCreates,
    ExtendCountsAcrossBallots,
    ExtendLeavesRecordCancellable,
    LostExtendFreesWhatItProlonged,
    EqualBallotIsNotStale,
    AheadIsNotRefused,
    NothingIsTooOld,
    ValidityFromTheEnd,
    ReplayValidForTheWholeTtl,
    EarlierRoundMakesFirm,
    NoHighWaterMark,
    QuarantineStartsAtAnyClock,
    CanaryIsTrustedAfterSilence,
    WriterIgnoresReaders,
    ReaderIgnoresWriter,
    ReaderRaisesNoFence,
    ReaderIgnoresFence,
    ReadersAreOneRecord,
}

#[derive(Clone, Debug)]
pub struct Configuration {
    pub nodes: usize,
    pub requests: Vec<Request>,
    /// The last tick.
    pub until: Ticks,
    pub rounds: u8,
    /// How many requests, from the first on, may be given up by their gateway.
    pub aborts: usize,
    /// Clients wait for each answer, and extend only what they were granted.
    pub careful: bool,
    pub lost_replies: u8,
    pub duplicates: u8,
    pub ttl: Ticks,
    pub margin: Ticks,
    /// W: how far a ballot may be from a node's clock.
    pub window: Ticks,
    /// B: how far a clock may step back unnoticed.
    pub step_back: Ticks,
    /// g: how far the high-water mark may lag.
    pub high_water_lag: Ticks,
    /// How long a fence is kept after it was written.
    pub fence_keep: Ticks,
    /// P: how long a node that may have forgotten does not vote.
    pub quarantine: Ticks,
    pub crashes: u8,
    /// A crash may bring back what was there before the last write, instead of nothing.
    pub old_data: bool,
    /// What the nodes' clocks are off at first; zero where none is given.
    pub offsets: Vec<Ticks>,
    /// How many nodes, from the first on, have clocks that jump.
    pub jumpers: usize,
    pub jumps: u8,
    pub jump_by: Vec<Ticks>,
    /// How often such a clock runs ahead and comes back between two scripts, while Redis expires keys.
    pub excursions: u8,
    pub excursion_by: Vec<Ticks>,
    /// How long after the high-water mark a canary expires, where there is one.
    pub canary: Option<Ticks>,
    /// Redis expires keys by sampling, so an excursion may take the lock and leave the canary.
    pub canary_may_survive: bool,
    pub mutant: Option<Mutant>,
}

impl Configuration {
    /// Clocks that agree, a window that stands in nobody's way, and nothing that goes wrong but delay and loss of requests.
    pub fn of(requests: &[Request]) -> Self {
        Self {
            nodes: 3,
            requests: requests.to_vec(),
            until: 0,
            rounds: 1,
            aborts: 0,
            careful: false,
            lost_replies: 0,
            duplicates: 0,
            ttl: 1,
            margin: 0,
            window: 0,
            step_back: 0,
            high_water_lag: 0,
            fence_keep: 0,
            quarantine: 0,
            crashes: 0,
            old_data: false,
            offsets: Vec::new(),
            jumpers: 0,
            jumps: 0,
            jump_by: Vec::new(),
            excursions: 0,
            excursion_by: Vec::new(),
            canary: None,
            canary_may_survive: false,
            mutant: None,
        }
        .with_window(5, 0, 0)
    }

    /// Sets W, B and g, and what the nodes derive from them.
    pub fn with_window(self, window: Ticks, step_back: Ticks, high_water_lag: Ticks) -> Self {
        let fence_keep = 2 * window + step_back + high_water_lag;
        // The tick more than the ttl stands for the hundredth more.
        let quarantine = (self.ttl + 1).max(6 * window + step_back);
        Self { window, step_back, high_water_lag, fence_keep, quarantine, ..self }
    }

    pub fn with_ttl(self, ttl: Ticks) -> Self {
        let (window, step_back, high_water_lag) = (self.window, self.step_back, self.high_water_lag);
        Self { ttl, ..self }.with_window(window, step_back, high_water_lag)
    }

    pub fn broken(self, mutant: Mutant) -> Self {
        Self { mutant: Some(mutant), ..self }
    }

    pub fn breaks(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub fn majority(&self) -> usize {
        self.nodes / 2 + 1
    }

    pub fn lease(&self, request: u8) -> u8 {
        self.requests[request as usize].lease
    }

    pub fn shares(&self, request: u8) -> bool {
        self.requests[request as usize].shares
    }
}
