//! The record of a held lock, as text: what Redis and the embedded node store.

use std::fmt;

use crate::lease::{AttemptId, Ballot, LeaseId, OwnerLabel};

/// `ballot attempt-or-dash lease_id owner`, the ballot and the attempt 16 characters wide. A dash means firm: no
/// cancel can free it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRecord {
    pub ballot: Ballot,
    /// The attempt that wrote it; none once a repeat was told that it stands.
    pub attempt: Option<AttemptId>,
    pub lease: LeaseId,
    pub owner: Option<OwnerLabel>,
}

impl fmt::Display for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.as_ref().map_or("", OwnerLabel::as_str);
        match self.attempt {
            Some(attempt) => write!(f, "{:016} {attempt} {} {owner}", self.ballot, self.lease.reveal()),
            None => write!(f, "{:016} - {} {owner}", self.ballot, self.lease.reveal()),
        }
    }
}

impl LockRecord {
    /// Reads a record; none if another program wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(4, ' ');
        let wide = |field: &&str| field.len() == 16;
        let ballot = Ballot::from_micros(fields.next().filter(wide)?.parse().ok()?);
        let attempt = match fields.next()? {
            "-" => None,
            hex => Some(AttemptId(u64::from_str_radix(Some(hex).filter(wide)?, 16).ok()?)),
        };
        let lease = LeaseId::new(fields.next()?).ok()?;
        Some(Self { ballot, attempt, lease, owner: OwnerLabel::new(fields.next()?).ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let lease = LeaseId::new("0123456789abcdef").unwrap();
        for (attempt, owner, text) in [
            (Some(AttemptId(0xbeef)), Some("worker 7"), "1795000000000123 000000000000beef 0123456789abcdef worker 7"),
            (None, None, "1795000000000123 - 0123456789abcdef "),
        ] {
            let owner = owner.map(|owner| OwnerLabel::new(owner).unwrap());
            let record = LockRecord { ballot: Ballot::from_micros(1_795_000_000_000_123), attempt, lease: lease.clone(), owner };
            assert_eq!(record.to_string(), text);
            assert_eq!(LockRecord::parse(text), Some(record));
        }
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
        ] {
            assert_eq!(LockRecord::parse(foreign), None, "{foreign:?}");
        }
    }
}
