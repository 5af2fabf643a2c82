//! What travels between gateways and nodes.

use super::configuration::Ticks;

/// A command on its way to a node, and the request that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Message {
    Acquire { request: u8, ballot: Ticks, over: Ticks },
    Extend { request: u8 },
    Release { request: u8, up_to: Ticks },
    Cancel { request: u8, up_to: Ticks },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Vote {
    Unheard,
    /// Counted once, however often it is heard.
    Accepted {
        times: u8,
    },
    Mine {
        ballot: Ticks,
        left: Ticks,
    },
    Stale {
        floor: Ticks,
    },
    Extended {
        ballot: Ticks,
        left: Ticks,
    },
    /// The lease is not held here, or not any more.
    NotHeld,
    /// Held by this lease under a ballot above the end of the release.
    Newer {
        ballot: Ticks,
    },
    /// Busy, ahead, quarantined, or under another epoch.
    Refused,
}

impl Message {
    pub fn request(self) -> u8 {
        match self {
            Self::Acquire { request, .. } | Self::Extend { request } | Self::Release { request, .. } | Self::Cancel { request, .. } => request,
        }
    }

    pub fn is_voting(self) -> bool {
        matches!(self, Self::Acquire { .. } | Self::Extend { .. })
    }
}
