//! What a node says of itself, and whether it is fit to vote.

use std::fmt::Write;

/// What an operator has to know about a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFacts {
    /// `Redis 7.0.15`, or what it calls itself.
    pub version: String,
    /// Which start of the server this is.
    pub run_id: String,
    /// `standalone`, `sentinel` or `cluster`.
    pub mode: String,
    /// `master` or `slave`.
    pub role: String,
    /// Its maxmemory-policy.
    pub eviction: String,
    pub persistence: Persistence,
    pub replicas: u32,
    /// Keys that it has evicted since it was started.
    pub evicted: u64,
    /// The history that it followed as a replica, if it was promoted: what it knows is what its last master knew.
    pub followed: Option<String>,
    /// How much of its maxmemory is in use; none where there is no limit.
    pub memory_percent: Option<u64>,
}

/// What is on disk when a change is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Persistence {
    /// Every change: a restart forgets nothing.
    EveryChange,
    /// Not every change, or nothing.
    Some,
    /// Nobody asked, an AOF is being rewritten for the first time, or the settings can't be read.
    #[default]
    Unknown,
}

impl Persistence {
    /// The word for it in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EveryChange => "every_change",
            Self::Some => "not_every_change",
            Self::Unknown => "unknown",
        }
    }

    /// Whether every change is on disk before it is answered; none if that can't be told.
    pub fn is_durable(self) -> Option<bool> {
        match self {
            Self::EveryChange => Some(true),
            Self::Some => Some(false),
            Self::Unknown => None,
        }
    }
}

impl NodeFacts {
    /// What the memory of this process has been through: its start, evictions, and promotions. The handshake script makes
    /// the same of the same answers.
    pub fn memory(&self) -> String {
        let mut memory = self.run_id.clone();
        if 0 < self.evicted {
            let _ = write!(memory, "+{}", self.evicted);
        }
        if let Some(history) = &self.followed {
            let _ = write!(memory, "-{}", history.get(..16).unwrap_or(history));
        }
        memory
    }

    /// Why this server must not be used, and what to do, if so.
    pub fn unfit(&self) -> Option<String> {
        match (self.mode.as_str(), self.role.as_str(), self.eviction.as_str()) {
            ("sentinel", ..) => Some("it is a Sentinel; name each independent master itself".into()),
            ("cluster", ..) => Some("it runs in cluster mode, where shards fail over; use independent masters".into()),
            (_, role, _) if role != "master" => Some(format!("its role is {role}, not master; name an independent master")),
            (.., policy) if policy != "noeviction" => Some(format!("its maxmemory-policy is {policy}, so it may evict locks; set it to noeviction")),
            _ => None,
        }
    }
}
