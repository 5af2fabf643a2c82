//! The marker that a node keeps, and the epoch that it stands for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::Members;

/// What all gateways of a cluster have to agree on, as the nodes remember it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// Raised by the operator whenever the list of nodes or one of the other settings changes.
    pub generation: u64,
    pub max_ttl: Duration,
    /// W: how far a ballot may be from a node's clock, either way.
    pub window: Duration,
    pub members: Members,
}

impl Agreement {
    /// B: how far a node's clock may step back unnoticed. NTP slews anything smaller than 128 ms.
    pub const STEP_BACK: Duration = Duration::from_millis(250);
    /// g: how far the high-water mark may lag behind the clock, so that it is not written with every batch.
    pub const HIGH_WATER_LAG: Duration = Duration::from_millis(100);

    /// P: how long a node that may have forgotten does not vote, so that every lease and every ballot it
    /// may have known is over. `max(1.01 max_ttl, 6W + B)`; 6W rather than 2W because the clock may step
    /// forward, within the window, in the middle of the quarantine.
    pub fn quarantine(&self) -> Duration {
        (self.max_ttl + self.max_ttl / 100).max(6 * self.window + Self::STEP_BACK)
    }

    /// How long a fence record is kept after it was written: 2W + B + g, so at least W + B + g after its ballot.
    /// From then on the window refuses what it refused.
    pub fn fence_keep(&self) -> Duration {
        2 * self.window + Self::STEP_BACK + Self::HIGH_WATER_LAG
    }

    /// `4W + B + g`: the `clock_jump_margin` under which leases exclude each other while the clocks of a minority of
    /// nodes jump. A clock may have stepped back by B + g unnoticed before it jumps, and 4W lie between two clocks that
    /// accept one ballot. The model holds with it and fails with less.
    pub fn jump_margin(&self) -> Duration {
        4 * self.window + Self::STEP_BACK + Self::HIGH_WATER_LAG
    }

    /// The stricter of two agreements, for the quarantine between them.
    pub fn stricter(&self, other: &Self) -> Self {
        let (max_ttl, window) = (self.max_ttl.max(other.max_ttl), self.window.max(other.window));
        Self { generation: self.generation.max(other.generation), max_ttl, window, members: self.members }
    }
}

/// What a node remembers of its last handshake. Its text is the node's epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    pub agreement: Agreement,
    pub node: String,
    /// Which start of the server this is; a server with old data has another one than its marker says.
    pub run_id: String,
    /// Milliseconds since 1970 by the node's own clock; before that it does not vote.
    pub ready_at_ms: u64,
    /// The node was seen to write every change to disk before it answers, so a restart forgets nothing.
    pub durable: bool,
}

/// A marker that this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the node's marker is not one of ours")]
pub struct MarkerError;

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Agreement { generation, max_ttl, window, members } = &self.agreement;
        let (max_ttl, window, step) = (max_ttl.as_millis(), window.as_millis(), Agreement::STEP_BACK.as_millis());
        let Self { node, run_id, ready_at_ms, .. } = self;
        write!(f, "{generation}|{node}|{run_id}|{ready_at_ms}|{max_ttl}|{window}|{step}|{}|{members}", u8::from(self.durable))
    }
}

impl FromStr for Marker {
    type Err = MarkerError;

    fn from_str(text: &str) -> Result<Self, MarkerError> {
        let fields: Vec<&str> = text.split('|').collect();
        let [generation, node, run_id, ready_at_ms, max_ttl, window, _step, durable, members] = fields[..] else {
            return Err(MarkerError);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| MarkerError);
        let agreement = Agreement {
            generation: number(generation)?,
            max_ttl: Duration::from_millis(number(max_ttl)?),
            window: Duration::from_millis(number(window)?),
            members: members.parse().map_err(|_| MarkerError)?,
        };
        let ready_at_ms = number(ready_at_ms)?;
        Ok(Self { agreement, node: node.into(), run_id: run_id.into(), ready_at_ms, durable: durable == "1" })
    }
}

/// The marker as a gateway knows it from its handshake: a node under any other marker does not vote for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Epoch {
    pub text: Arc<str>,
    pub ready_at_ms: u64,
}

impl From<&Marker> for Epoch {
    fn from(marker: &Marker) -> Self {
        Self { text: marker.to_string().into(), ready_at_ms: marker.ready_at_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_reads_back_what_it_wrote() {
        let agreement =
            Agreement { generation: 3, max_ttl: Duration::from_secs(300), window: Duration::from_millis(500), members: Members::of(["a"], "") };
        let marker = Marker { agreement, node: "n1:6379/0".into(), run_id: "ab12".into(), ready_at_ms: 1_795_000_000_123, durable: true };
        assert_eq!(marker.to_string(), "3|n1:6379/0|ab12|1795000000123|300000|500|250|1|089be207b544f1e4");
        assert_eq!(marker.to_string().parse(), Ok(marker));
        assert_eq!("1|x|y".parse::<Marker>(), Err(MarkerError));
    }

    #[test]
    fn quarantine_outlasts_the_longest_lease_and_six_windows() {
        let agreement = |ttl_s, window_ms| {
            let (max_ttl, window) = (Duration::from_secs(ttl_s), Duration::from_millis(window_ms));
            Agreement { generation: 1, max_ttl, window, members: Members::of([], "") }
        };
        assert_eq!(agreement(300, 500).quarantine(), Duration::from_secs(303));
        assert_eq!(agreement(1, 500).quarantine(), Duration::from_millis(3_250));
    }
}
