//! A batch of commands as one `EVALSHA`, and its array as replies. The other side is `scripts/batch.lua`.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Value};

use crate::lease::{Abstention, AcquireVote, Answer, Ballot, ExtendVote, Holder, InspectVote, LeaseId, LockKey, ReleaseVote};
use crate::node::{Agreement, BatchReply, Command, Epoch, LockRecord, Page, Reply};

pub const SCRIPT: &str = include_str!("scripts/batch.lua");
pub const MARKER: &str = "redlockd:node";
pub const HIGH_WATER: &str = "redlockd:hw";
const FENCE_PREFIX: &str = "redlockd:fence:";

/// Answers that fit no reply: another script, or another program in between.
#[derive(Debug)]
pub struct Garbled;

/// Writes the call for `commands`.
pub fn encode(sha: &str, epoch: &Epoch, agreement: &Agreement, lock_prefix: &str, commands: &[Arc<Command>]) -> Cmd {
    let keys = 2 + commands.iter().map(|command| if lock_of(command).is_some() { 2 } else { 0 }).sum::<usize>();
    let mut call = Cmd::with_capacity(9 + 8 * commands.len(), 256 + 256 * commands.len());
    call.arg("EVALSHA").arg(sha).arg(keys).arg(MARKER).arg(HIGH_WATER);
    let mut name = String::with_capacity(64);
    for key in commands.iter().filter_map(|command| lock_of(command)) {
        for prefix in [lock_prefix, FENCE_PREFIX] {
            name.clear();
            name.push_str(prefix);
            name.push_str(key.as_str());
            call.arg(name.as_str());
        }
    }
    call.arg(&*epoch.text).arg(epoch.ready_at_ms);
    for duration in [agreement.window, Agreement::STEP_BACK, Agreement::HIGH_WATER_LAG] {
        call.arg(duration.as_micros() as u64);
    }
    call.arg(agreement.fence_keep().as_millis() as u64);
    for command in commands {
        arguments(&mut call, command, lock_prefix, &mut name);
    }
    call
}

fn lock_of(command: &Command) -> Option<&LockKey> {
    match command {
        Command::Acquire { key, .. } | Command::Extend { key, .. } | Command::Release { key, .. } => Some(key),
        Command::Cancel { key, .. } | Command::Inspect { key } => Some(key),
        Command::Scan { .. } => None,
    }
}

fn arguments(call: &mut Cmd, command: &Command, lock_prefix: &str, text: &mut String) {
    match command {
        Command::Acquire { lease, attempt, ballot, over, ttl, owner, .. } => {
            let record = LockRecord { ballot: *ballot, attempt: Some(*attempt), lease: lease.clone(), owner: owner.clone() };
            match over {
                None => call.arg("A"),
                Some(over) => call.arg("O").arg(digits(text, *over)),
            };
            call.arg(written(text, format_args!("{record}"))).arg(ttl.as_millis() as u64)
        }
        Command::Extend { lease, ttl, .. } => call.arg("E").arg(with_blank(text, lease)).arg(ttl.as_millis() as u64),
        Command::Release { lease, up_to, .. } => call.arg("R").arg(with_blank(text, lease)).arg(digits(text, *up_to)),
        Command::Cancel { lease, attempt, up_to, .. } => {
            call.arg("C").arg(with_blank(text, lease)).arg(written(text, format_args!("{attempt}"))).arg(digits(text, *up_to))
        }
        Command::Inspect { .. } => call.arg("I"),
        Command::Scan { prefix, cursor, limit } => {
            let cursor = if cursor.is_empty() { "0" } else { cursor };
            call.arg("S").arg(cursor).arg(glob(lock_prefix, prefix)).arg(*limit)
        }
    };
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

/// Reads the answer to [`encode`] of the same `commands`.
pub fn decode(value: Value, lock_prefix: &str, commands: &[Arc<Command>]) -> Result<BatchReply, Garbled> {
    let Value::Array(replies) = value else { return Err(Garbled) };
    let mut replies = replies.into_iter();
    let Some(Value::Int(now_us)) = replies.next() else { return Err(Garbled) };
    let answers: Vec<_> = commands.iter().zip(replies).map(|(command, reply)| answer(command, &reply, lock_prefix)).collect::<Result<_, _>>()?;
    if answers.len() != commands.len() {
        return Err(Garbled);
    }
    Ok(BatchReply { now_us: now_us as u64, answers })
}

fn answer(command: &Command, reply: &Value, lock_prefix: &str) -> Result<Answer<Reply>, Garbled> {
    let (code, details) = match reply {
        Value::Int(code) => (*code, &[][..]),
        Value::Array(items) => match (command, &items[..]) {
            // An abstention of two parts begins with its code instead.
            (Command::Scan { .. }, [cursor @ Value::BulkString(_), names]) => return Ok(Ok(Reply::Page(page(cursor, names, lock_prefix)?))),
            (_, [Value::Int(code), details @ ..]) => (*code, details),
            _ => return Err(Garbled),
        },
        _ => return Err(Garbled),
    };
    if code < 0 {
        return abstention(code, details).map(Err);
    }
    let reply = match command {
        Command::Acquire { .. } if code == 5 => {
            return Ok(Err(Abstention::Failed("a Redis key of this name holds something that is not a lock".into())));
        }
        Command::Acquire { .. } => Reply::Acquire(acquire_vote(code, details)?),
        Command::Extend { .. } => Reply::Extend(match code {
            0 => ExtendVote::Gone,
            1 => ExtendVote::Extended { left: left(details)?.unwrap_or_default(), ballot: ballot(details.get(1))? },
            2 => ExtendVote::HeldByOther,
            _ => return Err(Garbled),
        }),
        Command::Release { .. } => Reply::Release(match code {
            0 => ReleaseVote::NotHeld,
            1 => ReleaseVote::Freed,
            2 => ReleaseVote::HeldByOther,
            3 => ReleaseVote::Newer { ballot: ballot(details.first())? },
            _ => return Err(Garbled),
        }),
        Command::Cancel { .. } => Reply::Cancel { freed: code == 1 },
        Command::Inspect { .. } if code == 0 => Reply::Inspect(InspectVote::Free),
        Command::Inspect { .. } => {
            let lease = text(details.get(1))?.and_then(LockRecord::parse).map(|record| record.lease);
            Reply::Inspect(InspectVote::Held { lease, holder: holder(details)? })
        }
        Command::Scan { .. } => return Err(Garbled),
    };
    Ok(Ok(reply))
}

fn abstention(code: i64, details: &[Value]) -> Result<Abstention, Garbled> {
    match (code, details.first()) {
        (-1, _) => Ok(Abstention::Epoch),
        (-2, _) => Ok(Abstention::ClockBack),
        (-3, Some(Value::Int(left_ms))) => Ok(Abstention::Quarantined { left: Duration::from_millis(*left_ms as u64) }),
        (-4, said) => Ok(Abstention::Failed(text(said)?.unwrap_or("the command failed").to_owned())),
        _ => Err(Garbled),
    }
}

fn acquire_vote(code: i64, details: &[Value]) -> Result<AcquireVote, Garbled> {
    Ok(match (code, details) {
        (1, _) => AcquireVote::Accepted,
        (0, details) => AcquireVote::Busy(holder(details)?),
        (2, details) => AcquireVote::Mine { left: left(details)?.unwrap_or_default(), ballot: ballot(details.get(1))? },
        (3, [floor]) => AcquireVote::Stale { floor: Ballot::from_micros(text(Some(floor))?.and_then(|text| text.parse().ok()).ok_or(Garbled)?) },
        (4, _) => AcquireVote::Ahead,
        _ => return Err(Garbled),
    })
}

/// `left, record` of whoever holds the lock. A record that does not parse is another program's.
fn holder(details: &[Value]) -> Result<Holder, Garbled> {
    let left = left(details)?;
    let record = text(details.get(1))?.and_then(LockRecord::parse);
    Ok(match record {
        Some(record) => Holder { ballot: Some(record.ballot), owner: record.owner, left },
        None => Holder { ballot: None, owner: None, left },
    })
}

/// Redis says -1 of a key that never expires.
fn left(details: &[Value]) -> Result<Option<Duration>, Garbled> {
    match details.first() {
        Some(Value::Int(left_ms)) => Ok(u64::try_from(*left_ms).ok().map(Duration::from_millis)),
        _ => Err(Garbled),
    }
}

fn ballot(record: Option<&Value>) -> Result<Ballot, Garbled> {
    text(record)?.and_then(LockRecord::parse).map(|record| record.ballot).ok_or(Garbled)
}

/// The text of a bulk string; none if it is missing or not UTF-8, as another program's value may be.
fn text(value: Option<&Value>) -> Result<Option<&str>, Garbled> {
    match value {
        Some(Value::BulkString(bytes)) => Ok(std::str::from_utf8(bytes).ok()),
        Some(Value::SimpleString(text)) => Ok(Some(text)),
        _ => Err(Garbled),
    }
}

fn page(cursor: &Value, names: &Value, lock_prefix: &str) -> Result<Page, Garbled> {
    let Value::Array(names) = names else { return Err(Garbled) };
    let cursor = text(Some(cursor))?.ok_or(Garbled)?;
    let names = names.iter().filter_map(|name| text(Some(name)).ok().flatten());
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
