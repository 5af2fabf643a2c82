//! What a node remembers of a held lock, as text: what Redis and the embedded node store.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::lease::{AttemptId, Ballot, LeaseId, Lifetime, LockKey, Mode, OwnerLabel};

/// Whoever holds a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    Alone(LockRecord),
    Together(Together),
}

/// `ballot attempt-or-dash lease_id owner`, the ballot and the attempt 16 characters wide. A dash means firm: no
/// cancel can free it. Behind that, after a tabulator, `ends kept delay`, if one of them is not 0; and of a set the locks
/// that it is of, each after a line break.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRecord {
    pub ballot: Ballot,
    /// The attempt that wrote it; none once a repeat was told that it stands.
    pub attempt: Option<AttemptId>,
    pub lease: LeaseId,
    pub owner: Option<OwnerLabel>,
    pub lifetime: Lifetime,
    /// The locks that are held with it; none unless it is the record of a set.
    pub members: Arc<[LockKey]>,
}

/// `shared limit awaited`, then a line for each that has it: `expires slot` and its record. The times are milliseconds
/// since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Together {
    /// How many slots there are; 0 where they are not numbered.
    pub limit: u16,
    /// Until when nobody is let in besides, for the sake of one who wants the lock alone.
    pub awaited_ms: u64,
    /// In the order in which they were last written.
    pub sharers: Vec<Sharer>,
}

/// One of those who hold a lock together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sharer {
    /// Live up to and including this one, as in Redis.
    pub expires_ms: u64,
    /// 0 where slots are not numbered.
    pub slot: u16,
    pub record: LockRecord,
}

impl Record {
    /// Reads a record; none if another program wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with(Together::BEGINS_WITH) {
            return Together::parse(text).map(Self::Together);
        }
        LockRecord::parse(text).map(Self::Alone)
    }
}

impl LockRecord {
    /// Reads a record; none if another program wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let mut fields = lines.next()?.splitn(4, ' ');
        let wide = |field: &&str| field.len() == 16;
        let ballot = Ballot::from_micros(fields.next().filter(wide)?.parse().ok()?);
        let attempt = match fields.next()? {
            "-" => None,
            hex => Some(AttemptId(u64::from_str_radix(Some(hex).filter(wide)?, 16).ok()?)),
        };
        let lease = LeaseId::stored(fields.next()?).ok()?;
        let rest = fields.next()?;
        let (owner, lifetime) = rest.split_once('\t').map_or((rest, None), |(owner, lifetime)| (owner, Some(lifetime)));
        let owner = OwnerLabel::new(owner).ok();
        let lifetime = lifetime.map_or(Some(Lifetime::default()), lifetime_of)?;
        let members = lines.map(|name| LockKey::new(name).ok()).collect::<Option<_>>()?;
        Some(Self { ballot, attempt, lease, owner, lifetime, members })
    }
}

fn lifetime_of(text: &str) -> Option<Lifetime> {
    let mut numbers = text.split(' ').map(|number| number.parse().ok());
    let lifetime = Lifetime { ends_ms: numbers.next()??, kept_ms: numbers.next()??, delay_ms: numbers.next()?? };
    numbers.next().is_none().then_some(lifetime)
}

impl Together {
    const BEGINS_WITH: &str = "shared ";

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_prefix(Self::BEGINS_WITH)?.split_terminator('\n');
        let (limit, awaited_ms) = lines.next()?.split_once(' ')?;
        let sharers = lines.map(Sharer::parse).collect::<Option<_>>()?;
        Some(Self { limit: limit.parse().ok()?, awaited_ms: awaited_ms.parse().ok()?, sharers })
    }

    /// Those whose leases are not over.
    pub fn live(&self, now_ms: u64) -> impl Iterator<Item = &Sharer> {
        self.sharers.iter().filter(move |sharer| now_ms <= sharer.expires_ms)
    }

    /// The one who keeps it longest; of several the one who was written first.
    pub fn longest(&self, now_ms: u64) -> Option<&Sharer> {
        self.live(now_ms).reduce(|longest, next| if longest.expires_ms < next.expires_ms { next } else { longest })
    }

    pub fn of(&self, lease: &LeaseId, now_ms: u64) -> Option<&Sharer> {
        self.live(now_ms).find(|sharer| sharer.record.lease == *lease)
    }

    /// As many have it as may. Where slots are numbered there are no more than that of them.
    pub fn is_crowded(&self, now_ms: u64) -> bool {
        self.limit == 0 && usize::from(Mode::MAX_TOGETHER) <= self.live(now_ms).count()
    }

    /// In place of what the same lease had.
    pub fn put(&mut self, sharer: Sharer) {
        self.sharers.retain(|other| other.record.lease != sharer.record.lease);
        self.sharers.push(sharer);
    }

    /// Forgets whose leases are over.
    pub fn reap(&mut self, now_ms: u64) {
        self.sharers.retain(|sharer| now_ms <= sharer.expires_ms);
    }

    /// When there is nothing left of it.
    pub fn ends_ms(&self) -> u64 {
        self.sharers.iter().map(|sharer| sharer.expires_ms).max().unwrap_or_default().max(self.awaited_ms)
    }
}

impl Sharer {
    /// Its lease is over, and its place is nobody's for a while.
    pub fn is_over(&self, now_ms: u64) -> bool {
        self.record.lifetime.is_over(self.expires_ms.saturating_sub(now_ms))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, ' ');
        let (expires_ms, slot) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { expires_ms, slot, record: LockRecord::parse(fields.next()?)? })
    }
}

/// The ballots up to which a node refuses to accept: `high`, and `low` after a blank where it is another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fence {
    /// From whoever wants the lock alone, or a slot.
    pub high: Ballot,
    /// From whoever shares it: those may come in any order among themselves.
    pub low: Ballot,
}

impl Fence {
    /// The same for all.
    pub fn of(ballot: Ballot) -> Self {
        Self { high: ballot, low: ballot }
    }

    pub fn below(self, mode: Mode) -> Ballot {
        match mode {
            Mode::Shared => self.low,
            Mode::Exclusive | Mode::Slot(_) => self.high,
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone(record) => record.fmt(f),
            Self::Together(together) => together.fmt(f),
        }
    }
}

impl fmt::Display for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_ref().map_or("", OwnerLabel::as_str);
        match self.attempt {
            Some(attempt) => write!(f, "{:016} {attempt} {} {owner}", self.ballot, self.lease.reveal())?,
            None => write!(f, "{:016} - {} {owner}", self.ballot, self.lease.reveal())?,
        }
        if self.lifetime != Lifetime::default() {
            let Lifetime { ends_ms, kept_ms, delay_ms } = self.lifetime;
            write!(f, "\t{ends_ms} {kept_ms} {delay_ms}")?;
        }
        self.members.iter().try_for_each(|member| write!(f, "\n{member}"))
    }
}

impl fmt::Display for Together {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{} {}", Self::BEGINS_WITH, self.limit, self.awaited_ms)?;
        self.sharers.iter().try_for_each(|Sharer { expires_ms, slot, record }| writeln!(f, "{expires_ms} {slot} {record}"))
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.high == self.low { write!(f, "{:016}", self.high) } else { write!(f, "{:016} {:016}", self.high, self.low) }
    }
}

/// A text that is no fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAFence;

impl FromStr for Fence {
    type Err = NotAFence;

    fn from_str(text: &str) -> Result<Self, NotAFence> {
        let ballot = |text: &str| text.parse().map(Ballot::from_micros).map_err(|_| NotAFence);
        match text.split_once(' ') {
            Some((high, low)) => Ok(Self { high: ballot(high)?, low: ballot(low)? }),
            None => ballot(text).map(Self::of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let lease = LeaseId::new("0123456789abcdef").unwrap();
        let members = |names: &[&str]| names.iter().map(|name| LockKey::new(name).unwrap()).collect();
        let none = Lifetime::default();
        let some = Lifetime { ends_ms: 7, kept_ms: 0, delay_ms: 5 };
        for (attempt, owner, lifetime, of, text) in [
            (Some(AttemptId(0xbeef)), Some("worker 7"), none, &[][..], "1795000000000123 000000000000beef 0123456789abcdef worker 7"),
            (None, None, none, &[], "1795000000000123 - 0123456789abcdef "),
            (None, Some("me"), none, &["a b", "c/d"], "1795000000000123 - 0123456789abcdef me\na b\nc/d"),
            (None, None, some, &["a b"], "1795000000000123 - 0123456789abcdef \t7 0 5\na b"),
        ] {
            let owner = owner.map(|owner| OwnerLabel::new(owner).unwrap());
            let ballot = Ballot::from_micros(1_795_000_000_000_123);
            let record = LockRecord { ballot, attempt, lease: lease.clone(), owner, lifetime, members: members(of) };
            assert_eq!(record.to_string(), text);
            assert_eq!(LockRecord::parse(text), Some(record.clone()));
            assert_eq!(Record::parse(text), Some(Record::Alone(record)));
        }
    }

    #[test]
    fn those_who_hold_a_lock_together_are_read_back_as_they_were_written() {
        let record = |text: &str| LockRecord::parse(text).unwrap();
        let sharers = vec![
            Sharer { expires_ms: 1_795_000_000_500, slot: 3, record: record("1795000000000123 000000000000beef 0123456789abcdef worker 7") },
            Sharer { expires_ms: 1_795_000_000_400, slot: 1, record: record("1795000000000124 - 0123456789abcdeg ") },
        ];
        let together = Together { limit: 5, awaited_ms: 0, sharers };
        let text = "shared 5 0\n1795000000500 3 1795000000000123 000000000000beef 0123456789abcdef worker 7\n1795000000400 1 1795000000000124 - 0123456789abcdeg \n";
        assert_eq!(together.to_string(), text);
        assert_eq!(Record::parse(text), Some(Record::Together(together)));
        assert_eq!(Record::parse("shared 0 17\n"), Some(Record::Together(Together { awaited_ms: 17, ..Together::default() })));
    }

    #[test]
    fn a_fence_has_two_heights_where_some_share_the_lock() {
        for (high, low, text) in [(7, 7, "0000000000000007"), (7, 0, "0000000000000007 0000000000000000")] {
            let fence = Fence { high: Ballot::from_micros(high), low: Ballot::from_micros(low) };
            assert_eq!((fence.to_string().as_str(), text.parse()), (text, Ok(fence)));
        }
        assert_eq!("x".parse::<Fence>(), Err(NotAFence));
    }

    #[test]
    fn the_record_of_another_program_is_not_ours() {
        for foreign in [
            "",
            "f3a1c0de",
            "17 x",
            "17 - 0123456789abcdef ",
            "1795000000000123 beef 0123456789abcdef ",
            "1795000000000123 zz 0123456789abcdef ",
            "1795000000000123 - short ",
            "1795000000000123 - 0123456789abcdef \na//b",
            "1795000000000123 - 0123456789abcdef me\t1 2",
            "shared secret",
            "shared 0 0\nno sharer\n",
        ] {
            assert_eq!(Record::parse(foreign), None, "{foreign:?}");
        }
    }
}
