//! What the nodes have answered so far in one round.

use std::time::Duration;

use super::Quorum;

/// A node's answer to one command: its vote, or why it did not vote.
pub type Answer<V> = Result<V, Abstention>;

/// Why a node's answer counts for nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Abstention {
    /// The node may have forgotten grants and waits until every lease it may have known is over.
    Quarantined { left: Duration },
    /// The node is not the incarnation, or not under the settings, that this gateway shook hands with.
    Epoch,
    /// The node's clock stepped back below its high-water mark.
    ClockBack,
    /// Nothing was sent: the node is known to be down, or can't be connected to.
    Unreachable,
    /// Nothing was sent: the node must not be used as it is.
    Refused,
    /// Nothing was sent: the queue in front of the node is full.
    Overloaded,
    /// No answer, or an unusable one. The node may still have granted.
    Silent,
    /// The node could not carry out this command (a key of a foreign type, out of memory). Says what the node said.
    Failed(String),
}

/// A vote or an abstention has one word for metrics and for error bodies.
pub trait Vote {
    /// One word in lower case, from a small fixed set.
    fn label(&self) -> &'static str;
}

impl Abstention {
    /// Whether the command may have taken effect although the answer counts for nothing.
    pub fn may_have_written(&self) -> bool {
        matches!(self, Self::Silent | Self::Failed(_))
    }
}

impl Vote for Abstention {
    fn label(&self) -> &'static str {
        match self {
            Self::Quarantined { .. } => "quarantined",
            Self::Epoch => "epoch",
            Self::ClockBack => "clock_back",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Overloaded => "overloaded",
            Self::Silent => "silent",
            Self::Failed(_) => "failed",
        }
    }
}

impl<V: Vote> Vote for Answer<V> {
    fn label(&self) -> &'static str {
        match self {
            Ok(vote) => vote.label(),
            Err(abstention) => abstention.label(),
        }
    }
}

/// Why too few nodes voted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shortage {
    /// Too few nodes could vote, and those that are lost surely make no majority.
    NoQuorum,
    /// Answers are missing that could have made the majority.
    Indeterminate,
}

/// The answers of one round: at most one per node.
#[derive(Debug)]
pub struct Votes<V> {
    quorum: Quorum,
    answers: Vec<Option<Answer<V>>>,
}

impl<V> Votes<V> {
    pub fn new(quorum: Quorum) -> Self {
        Self { quorum, answers: std::iter::repeat_with(|| None).take(quorum.nodes()).collect() }
    }

    pub fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// Forgets the answers: a new round begins.
    pub fn clear(&mut self) {
        self.answers.fill_with(|| None);
    }

    /// Takes a node's answer. Only its first one in a round counts.
    pub fn record(&mut self, node: usize, answer: Answer<V>) {
        if let Some(slot @ None) = self.answers.get_mut(node) {
            *slot = Some(answer);
        }
    }

    /// The votes that are in.
    pub fn cast(&self) -> impl Iterator<Item = &V> {
        self.answers.iter().filter_map(|answer| answer.as_ref()?.as_ref().ok())
    }

    pub fn count(&self, holds: impl Fn(&V) -> bool) -> usize {
        self.cast().filter(|vote| holds(vote)).count()
    }

    /// How many nodes have not answered yet.
    pub fn pending(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_none()).count()
    }

    /// How many nodes answered without voting, or did not answer in time.
    pub fn abstained(&self) -> usize {
        self.answers.iter().filter(|answer| matches!(answer, Some(Err(_)))).count()
    }

    /// How many answers are lost.
    pub fn silent(&self) -> usize {
        self.answers.iter().filter(|answer| matches!(answer, Some(Err(Abstention::Silent)))).count()
    }

    /// Names the failure of a round in which `yes` nodes said yes but no majority can.
    pub fn shortage(&self, yes: usize) -> Shortage {
        let possible = 0 < self.silent() && self.quorum.required() <= yes + self.silent();
        if possible { Shortage::Indeterminate } else { Shortage::NoQuorum }
    }
}

impl<V: Vote> Votes<V> {
    /// One word per node, in the order of the configuration; `pending` where the verdict did not wait.
    pub fn labels(&self) -> Vec<&'static str> {
        self.answers.iter().map(|answer| answer.as_ref().map_or("pending", Vote::label)).collect()
    }
}
