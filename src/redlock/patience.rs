//! When the majority that is asked first is no longer waited for, and which nodes are too slow to be in it.

use std::time::Duration;

use crate::node::Usual;

/// What is unusually long, by what acquires take that the majority asked first has granted.
#[derive(Default)]
pub struct Patience {
    pub usual: Usual,
}

/// Below this it is the scheduler of an idle machine that is slow, not a node.
const SHORTEST: Duration = Duration::from_millis(2);
/// How many times the usual is unusual.
const TIMES: u32 = 4;

impl Patience {
    /// At most a quarter of `call_timeout`, so that those who are asked later have most of it left.
    pub fn within(&self, call_timeout: Duration) -> Duration {
        longer_than_usual(self.usual.get()).min(call_timeout / 4)
    }
}

/// What is still usual where `usual` is.
pub fn longer_than_usual(usual: Duration) -> Duration {
    (TIMES * usual).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_is_usual_between_its_bounds() {
        let (patience, ms) = (Patience::default(), Duration::from_millis(1));
        assert_eq!(patience.within(100 * ms), SHORTEST);
        (0..200).for_each(|_| patience.usual.observe(3 * ms));
        assert!((11 * ms..=12 * ms).contains(&patience.within(100 * ms)), "{:?}", patience.within(100 * ms));
        (0..200).for_each(|_| patience.usual.observe(80 * ms));
        assert_eq!(patience.within(100 * ms), 25 * ms);
        (0..200).for_each(|_| patience.usual.observe(ms / 10));
        assert_eq!(patience.within(100 * ms), SHORTEST);
    }
}
