//! A batch of commands as one `EVALSHA`, and its array as replies. The other side is `scripts/batch.lua`.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::lease::{Abstention, AcquireVote, Answer, Ballot, ExtendVote, Holder, InspectVote, LeaseId, LockKey, Mode, ReleaseVote, Sharing};
use crate::node::{Acquire, Agreement, BatchReply, Command, Epoch, LockRecord, Page, Record, Reply, Sharer, Together};

pub const MARKER: &str = "redlockd:node";
pub const HIGH_WATER: &str = "redlockd:hw";
const FENCE_PREFIX: &str = "redlockd:fence:";

/// The only script that votes, with the settings of this gateway in it.
pub struct VotingScript {
    pub text: String,
    /// The name under which a server knows it.
    pub sha: String,
    lock_prefix: String,
}

/// Answers that fit no reply: another script, or another program in between.
#[derive(Debug)]
pub struct Garbled;

impl VotingScript {
    pub fn new(agreement: &Agreement, lock_prefix: String) -> Self {
        let [window, step_back, lag] = [agreement.window, Agreement::STEP_BACK, Agreement::HIGH_WATER_LAG].map(|duration| duration.as_micros());
        let (keep, locks) = (agreement.fence_keep().as_millis(), lock_prefix.len());
        let (longest, together) = (agreement.max_ttl.as_millis(), Mode::MAX_TOGETHER);
        let settings = format!(
            "local W, B, G, KEEP, FENCES, LOCKS, LONGEST, TOGETHER = {window}, {step_back}, {lag}, '{keep}', '{FENCE_PREFIX}', {locks}, {longest}, {together}\n{}",
            include_str!("scripts/batch.lua")
        );
        let sha = redis::Script::new(&settings).get_hash().to_owned();
        Self { text: settings, sha, lock_prefix }
    }

    /// Writes the call for `commands`.
    pub fn encode(&self, epoch: &Epoch, commands: &[Arc<Command>]) -> Cmd {
        let keys = commands.iter().map(|command| keys_of(command)).sum::<usize>();
        let mut call = Cmd::with_capacity(9 + 6 * commands.len(), 256 + 192 * commands.len());
        call.arg("EVALSHA").arg(&self.sha).arg(2 + keys).arg(MARKER).arg(HIGH_WATER);
        let mut text = String::with_capacity(64);
        for command in commands {
            for key in locks_of(command) {
                for prefix in &[&*self.lock_prefix, FENCE_PREFIX][..keys_of_lock(command)] {
                    text.clear();
                    text.push_str(prefix);
                    text.push_str(key.as_str());
                    call.arg(text.as_str());
                }
            }
        }
        call.arg(&*epoch.text).arg(epoch.ready_at_ms);
        for run in commands.chunk_by(belongs_with).flat_map(distinct) {
            call.arg(verb(&run[0])).arg(run.len());
            for command in run {
                self.arguments(&mut call, command, &mut text);
            }
        }
        call
    }

    fn arguments(&self, call: &mut Cmd, command: &Arc<Command>, text: &mut String) {
        match &**command {
            Command::Acquire(Acquire { lease, attempt, ballot, over, ttl, owner, lifetime, mode, holds_back, members, .. }) => {
                let of = |members: Arc<[LockKey]>| LockRecord {
                    ballot: *ballot,
                    attempt: Some(*attempt),
                    lease: lease.clone(),
                    owner: owner.clone(),
                    lifetime: *lifetime,
                    members,
                };
                call.arg(written(text, format_args!("{}", of(Arc::clone(members)))));
                if !members.is_empty() {
                    call.arg(written(text, format_args!("{}", of(Arc::default()))));
                }
                call.arg(ttl.as_millis() as u64);
                let verb = verb(command);
                if verb != "A" {
                    call.arg(over.map_or("", |over| digits(text, over)));
                }
                match verb {
                    "O" => drop(call.arg(holds_back.as_millis() as u64)),
                    "T" => drop(call.arg(mode.slot()).arg(mode.limit())),
                    "M" => drop(call.arg(holds_back.as_millis() as u64).arg(members.len())),
                    _ => {}
                }
            }
            Command::Extend { lease, ttl, .. } => drop(call.arg(with_blank(text, lease)).arg(ttl.as_millis() as u64)),
            Command::Release { lease, up_to, .. } => {
                call.arg(lease.as_ref().map_or("", |lease| with_blank(text, lease))).arg(digits(text, *up_to));
            }
            Command::Cancel { lease, attempt, up_to, .. } => {
                call.arg(with_blank(text, lease)).arg(written(text, format_args!("{attempt}"))).arg(digits(text, *up_to));
            }
            Command::Inspect { .. } => {}
            Command::Scan { prefix, cursor, limit } => {
                let cursor = if cursor.is_empty() { "0" } else { cursor };
                call.arg(cursor).arg(glob(&self.lock_prefix, prefix)).arg(*limit);
            }
        }
    }

    /// Reads the answer to [`VotingScript::encode`] of the same `commands`.
    pub fn decode(&self, value: Value, commands: &[Arc<Command>]) -> Result<BatchReply, Garbled> {
        let Value::Array(parts) = value else { return Err(Garbled) };
        let mut parts = parts.into_iter();
        let (Some(Value::Int(now_us)), Some(Value::BulkString(letters))) = (parts.next(), parts.next()) else { return Err(Garbled) };
        if letters.len() != commands.len() {
            return Err(Garbled);
        }
        let answers = commands
            .iter()
            .zip(letters)
            .map(|(command, letter)| self.answer(command, letter, now_us as u64, &mut parts))
            .collect::<Result<_, _>>()?;
        if parts.next().is_some() {
            return Err(Garbled);
        }
        Ok(BatchReply { now_us: now_us as u64, answers })
    }

    /// Reads one answer, and as many details as it has.
    fn answer(&self, command: &Command, letter: u8, now_us: u64, details: &mut impl Iterator<Item = Value>) -> Result<Answer<Reply>, Garbled> {
        let mut detail = || details.next().ok_or(Garbled);
        let reply = match (command, letter) {
            (_, b'e') => return Ok(Err(Abstention::Epoch)),
            (_, b'b') => return Ok(Err(Abstention::ClockBack)),
            (_, b'q') => return Ok(Err(Abstention::Quarantined { left: left(&detail()?)?.ok_or(Garbled)? })),
            (_, b'f') => return Ok(Err(Abstention::Failed(text(&detail()?)?.unwrap_or("the command failed").to_owned()))),
            (Command::Acquire(_), b'5') => {
                return Ok(Err(Abstention::Failed("a Redis key of this name holds something that is not a lock".into())));
            }
            (Command::Acquire(_), b'0') => Reply::Acquire(AcquireVote::Busy(holder(&detail()?)?)),
            (Command::Acquire(_), b'1') => Reply::Acquire(AcquireVote::Accepted),
            (Command::Acquire(_), b'2') => {
                let detail = detail()?;
                let (left, ballot) = lease_of(&detail)?;
                Reply::Acquire(AcquireVote::Mine { ballot, left, slot: number(&detail, 4)? })
            }
            (Command::Acquire(_), b'3') => {
                let floor = text(&detail()?)?.and_then(|text| text.parse().ok()).ok_or(Garbled)?;
                Reply::Acquire(AcquireVote::Stale { floor: Ballot::from_micros(floor) })
            }
            (Command::Acquire(_), b'4') => Reply::Acquire(AcquireVote::Ahead),
            (Command::Acquire(_), b'6') => {
                let detail = detail()?;
                let slots = text(part(&detail, 4)?)?.ok_or(Garbled)?.split(',').map(|slot| slot.parse().map_err(|_| Garbled));
                Reply::Acquire(AcquireVote::Taken { slots: slots.collect::<Result<_, _>>()?, holder: holder(&detail)? })
            }
            (Command::Acquire(_), b'7') => {
                let detail = detail()?;
                Reply::Acquire(AcquireVote::OtherLimit { limit: number(&detail, 4)?, holder: holder(&detail)? })
            }
            (Command::Acquire(_), b'8') => Reply::Acquire(AcquireVote::Crowded(holder(&detail()?)?)),
            (Command::Extend { .. }, b'0') => Reply::Extend(ExtendVote::Gone),
            (Command::Extend { .. }, b'1') => {
                let (left, ballot) = lease_of(&detail()?)?;
                Reply::Extend(ExtendVote::Extended { ballot, left })
            }
            (Command::Extend { .. }, b'2') => Reply::Extend(ExtendVote::HeldByOther),
            (Command::Release { .. }, b'0') => Reply::Release(ReleaseVote::NotHeld),
            (Command::Release { .. }, b'1') => Reply::Release(ReleaseVote::Freed),
            (Command::Release { .. }, b'2') => Reply::Release(ReleaseVote::HeldByOther),
            (Command::Release { .. }, b'3') => Reply::Release(ReleaseVote::Newer { ballot: ballot(&detail()?)? }),
            (Command::Cancel { .. }, b'0' | b'1') => Reply::Cancel { freed: letter == b'1' },
            (Command::Inspect { .. }, b'0') => Reply::Inspect(InspectVote::Free),
            (Command::Inspect { .. }, b'1') => {
                let detail = detail()?;
                let vote = match text(part(&detail, 1)?)?.and_then(Record::parse) {
                    Some(Record::Together(together)) => together_as_seen(&together, now_us / 1000),
                    Some(Record::Alone(LockRecord { lease, members, .. })) => {
                        InspectVote::Held { lease: Some(lease), holder: holder(&detail)?, members }
                    }
                    None => InspectVote::Held { lease: None, holder: holder(&detail)?, members: [].into() },
                };
                Reply::Inspect(vote)
            }
            (Command::Scan { .. }, b'1') => {
                let detail = detail()?;
                Reply::Page(page(part(&detail, 0)?, part(&detail, 1)?, &self.lock_prefix)?)
            }
            _ => return Err(Garbled),
        };
        Ok(Ok(reply))
    }
}

fn verb(command: &Command) -> &'static str {
    let of = |key: &LockKey, one, set| if key.is_set() { set } else { one };
    match command {
        Command::Acquire(Acquire { members, .. }) if !members.is_empty() => "M",
        Command::Acquire(Acquire { mode: Mode::Exclusive, over: None, holds_back: Duration::ZERO, .. }) => "A",
        Command::Acquire(Acquire { mode: Mode::Exclusive, .. }) => "O",
        Command::Acquire(_) => "T",
        Command::Extend { key, .. } => of(key, "E", "F"),
        Command::Release { key, .. } => of(key, "R", "U"),
        Command::Cancel { key, .. } => of(key, "C", "G"),
        Command::Inspect { .. } => "I",
        Command::Scan { .. } => "S",
    }
}

fn belongs_with(one: &Arc<Command>, next: &Arc<Command>) -> bool {
    verb(one) == verb(next)
}

/// A run of releases in parts, none of which has a lock twice: the script looks at all of a part before it frees any.
fn distinct(run: &[Arc<Command>]) -> Vec<&[Arc<Command>]> {
    let is_release = verb(&run[0]) == "R";
    let (mut parts, mut begin, mut seen) = (Vec::with_capacity(1), 0, HashSet::new());
    for (at, command) in run.iter().enumerate().filter(|_| is_release) {
        if !seen.insert(lock_of(command)) {
            parts.push(&run[begin..at]);
            (begin, seen) = (at, HashSet::from([lock_of(command)]));
        }
    }
    parts.push(&run[begin..]);
    parts
}

/// How many Redis keys it needs.
fn keys_of(command: &Command) -> usize {
    locks_of(command).count() * keys_of_lock(command)
}

/// A release needs its lock, others a fence as well.
fn keys_of_lock(command: &Command) -> usize {
    if verb(command) == "R" { 1 } else { 2 }
}

fn lock_of(command: &Command) -> Option<&LockKey> {
    match command {
        Command::Acquire(Acquire { key, .. }) | Command::Extend { key, .. } | Command::Release { key, .. } => Some(key),
        Command::Cancel { key, .. } | Command::Inspect { key } => Some(key),
        Command::Scan { .. } => None,
    }
}

/// With those of a set that is to be acquired; what it holds then is in its own record.
fn locks_of(command: &Command) -> impl Iterator<Item = &LockKey> {
    let members: &[LockKey] = if let Command::Acquire(Acquire { members, .. }) = command { members } else { &[] };
    lock_of(command).into_iter().chain(members)
}

/// Writes into a buffer that is used again and again.
fn written<'a>(text: &'a mut String, what: fmt::Arguments<'_>) -> &'a str {
    text.clear();
    text.write_fmt(what).expect("a string takes what is written to it");
    text
}

/// A lease as it stands in a record, with the blank that ends it.
fn with_blank<'a>(text: &'a mut String, lease: &LeaseId) -> &'a str {
    written(text, format_args!("{} ", lease.reveal()))
}

/// A ballot as it stands in a record: digits that compare as text as they do as numbers.
fn digits(text: &mut String, ballot: Ballot) -> &str {
    written(text, format_args!("{ballot:016}"))
}

/// A pattern that matches the names that begin with these two, whatever they are made of.
fn glob(lock_prefix: &str, prefix: &str) -> String {
    let mut pattern = String::with_capacity(lock_prefix.len() + prefix.len() + 1);
    for c in lock_prefix.chars().chain(prefix.chars()) {
        if "*?[]^-\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

/// `left, record` of whoever holds the lock, then whether it is shared and which of a set it is. A record that does not
/// parse is another program's, or nobody's.
fn holder(detail: &Value) -> Result<Holder, Garbled> {
    let left = left(part(detail, 0)?)?;
    let record = text(part(detail, 1)?)?.and_then(LockRecord::parse);
    let is_shared = part(detail, 2).ok().map(text).transpose()?.flatten() == Some("1");
    let (ballot, owner) = record.map_or((None, None), |record| (Some(record.ballot), record.owner));
    Ok(Holder { ballot, owner, left, is_shared, member: usize::from(number(detail, 3)?).checked_sub(1) })
}

/// Those who hold a lock together, whose leases are not over.
fn together_as_seen(together: &Together, now_ms: u64) -> InspectVote {
    let seen = |sharer: &Sharer| {
        let LockRecord { ballot, lease, owner, .. } = sharer.record.clone();
        let left = Some(Duration::from_millis(sharer.expires_ms - now_ms));
        Sharing { lease, slot: sharer.slot, holder: Holder { ballot: Some(ballot), owner, left, is_shared: true, member: None } }
    };
    InspectVote::of_together(together.limit, together.live(now_ms).map(seen).collect())
}

/// A small number among the details; 0 where they end before it.
fn number(detail: &Value, at: usize) -> Result<u16, Garbled> {
    match part(detail, at) {
        Err(Garbled) => Ok(0),
        Ok(Value::Int(number)) => u16::try_from(*number).map_err(|_| Garbled),
        Ok(value) => text(value)?.unwrap_or_default().parse().map_err(|_| Garbled),
    }
}

/// `left, record` of the caller's own lease: what is left of it without the delay after its end.
fn lease_of(detail: &Value) -> Result<(Duration, Ballot), Garbled> {
    let record = text(part(detail, 1)?)?.and_then(LockRecord::parse).ok_or(Garbled)?;
    let delay = Duration::from_millis(record.lifetime.delay_ms);
    Ok((left(part(detail, 0)?)?.unwrap_or_default().saturating_sub(delay), record.ballot))
}

fn part(detail: &Value, at: usize) -> Result<&Value, Garbled> {
    match detail {
        Value::Array(parts) => parts.get(at).ok_or(Garbled),
        _ => Err(Garbled),
    }
}

/// Redis says -1 of a key that never expires.
fn left(value: &Value) -> Result<Option<Duration>, Garbled> {
    match value {
        Value::Int(left_ms) => Ok(u64::try_from(*left_ms).ok().map(Duration::from_millis)),
        _ => Err(Garbled),
    }
}

fn ballot(record: &Value) -> Result<Ballot, Garbled> {
    text(record)?.and_then(LockRecord::parse).map(|record| record.ballot).ok_or(Garbled)
}

/// The text of a string; none if it is not UTF-8, as another program's value may be.
fn text(value: &Value) -> Result<Option<&str>, Garbled> {
    match value {
        Value::BulkString(bytes) => Ok(std::str::from_utf8(bytes).ok()),
        Value::SimpleString(text) => Ok(Some(text)),
        _ => Err(Garbled),
    }
}

fn page(cursor: &Value, names: &Value, lock_prefix: &str) -> Result<Page, Garbled> {
    let Value::Array(names) = names else { return Err(Garbled) };
    let cursor = text(cursor)?.ok_or(Garbled)?;
    let names = names.iter().filter_map(|name| text(name).ok().flatten());
    let keys = names.filter_map(|name| LockKey::new(name.strip_prefix(lock_prefix)?).ok()).collect();
    Ok(Page { keys, next: (cursor != "0").then(|| cursor.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_matched_to_the_letter() {
        assert_eq!(glob("redlockd:lock:", "a*[b]?\\"), "redlockd:lock:a\\*\\[b\\]\\?\\\\*");
    }
}
