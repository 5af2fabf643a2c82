//! What bounds a lease beside its ttl.

/// By the nodes' time, in milliseconds; 0 where there is no such bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Lifetime {
    /// No extend lets it last beyond this moment.
    pub ends_ms: u64,
    /// Released before this moment, the lock is nobody's until then.
    pub kept_ms: u64,
    /// Unless it is released the lock is nobody's for so long after its end.
    pub delay_ms: u64,
}

impl Lifetime {
    /// Until when a record stays that is extended for `ttl_ms` at `now_ms`, if it is not there for longer already. With the
    /// delay it is there for `max_ttl_ms` at most: a node that forgot everything waits no longer.
    pub fn extended(self, now_ms: u64, ttl_ms: u64, max_ttl_ms: u64) -> u64 {
        let until = now_ms + ttl_ms.min(max_ttl_ms.saturating_sub(self.delay_ms));
        let capped = if self.ends_ms == 0 { until } else { until.min(self.ends_ms.max(now_ms)) };
        capped + self.delay_ms
    }

    /// Whether nothing is left of the lease whose record is there for `left_ms` more: it is nobody's for the rest of them.
    pub fn is_over(self, left_ms: u64) -> bool {
        0 < self.delay_ms && left_ms <= self.delay_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extend_ends_where_the_lease_does_and_leaves_the_delay() {
        let lifetime = |ends_ms, delay_ms| Lifetime { ends_ms, kept_ms: 0, delay_ms };
        assert_eq!(Lifetime::default().extended(100, 50, 60), 150);
        assert_eq!(lifetime(0, 7).extended(100, 50, 60), 157);
        assert_eq!(lifetime(0, 17).extended(100, 50, 60), 160);
        assert_eq!(lifetime(120, 7).extended(100, 50, 60), 127);
        assert_eq!(lifetime(90, 0).extended(100, 50, 60), 100);
        assert_eq!([8, 7].map(|left_ms| lifetime(0, 7).is_over(left_ms)), [false, true]);
        assert!(!lifetime(0, 0).is_over(0));
    }
}
