//! When a lease is renewed, and when a command has to end if that fails.

use std::time::Duration;

use tokio::time::Instant;

use super::gateway::Lease;

/// What follows from a ttl.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    ttl: Duration,
    /// From the word to end to the end by force.
    pub grace: Duration,
    /// From the end by force to the end of the validity: for the kernel to do it, and for clocks.
    spare: Duration,
    /// After a renewal that failed.
    pub retry: Duration,
}

/// The moments of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    pub renew_at: Instant,
    /// From here on it is too late to be renewed: the command is told to end.
    pub ends_at: Instant,
    /// And here it is killed.
    pub kill_at: Instant,
}

const LONGEST_GRACE: Duration = Duration::from_secs(5);

impl Timing {
    /// Without a `grace` it is a sixth of the ttl, 5 s at most. It must not be more than half of the ttl, which would leave no time for
    /// renewals.
    pub fn new(ttl: Duration, grace: Option<Duration>) -> Self {
        Self {
            ttl,
            grace: grace.unwrap_or((ttl / 6).min(LONGEST_GRACE)),
            spare: (ttl / 20).clamp(Duration::from_millis(10), Duration::from_secs(1)),
            retry: (ttl / 30).clamp(Duration::from_millis(10), Duration::from_secs(1)),
        }
    }

    pub fn of(&self, lease: &Lease) -> Moments {
        let kill_at = lease.valid_until - self.spare;
        let ends_at = kill_at - self.grace;
        // Sooner if less is left, as after a repeat.
        let renew_in = (self.ttl / 3).min(ends_at.saturating_duration_since(lease.asked) / 2);
        Moments { renew_at: lease.asked + renew_in, ends_at, kill_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_time_to_renew_to_end_and_to_be_ended_before_the_validity_is_over() {
        for (ttl_ms, grace) in [(100, None), (1000, None), (30_000, None), (300_000, None), (30_000, Some(Duration::from_secs(15)))] {
            let ttl = Duration::from_millis(ttl_ms);
            let asked = Instant::now();
            // As the gateway has it: 1 % and 2 ms for drift.
            let lease = Lease { asked, valid_until: asked + ttl - ttl / 100 - Duration::from_millis(2), fencing_token: 1 };
            let Moments { renew_at, ends_at, kill_at } = Timing::new(ttl, grace).of(&lease);
            assert!(asked < renew_at && renew_at < ends_at && ends_at < kill_at && kill_at < lease.valid_until, "{ttl:?} {grace:?}");
        }
    }
}
