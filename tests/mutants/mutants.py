"""The rules, each broken in one place."""
from typing import NamedTuple

STATE = "src/node/state/mod.rs"
HANDSHAKE = "src/node/state/handshake.rs"
ATTEMPT = "src/lease/attempt.rs"
EXTENSION = "src/lease/extension.rs"
FLIGHT = "src/redlock/flight.rs"
COPIES = "src/redlock/copies.rs"
RELEASE = "src/redlock/release.rs"
HANDSHAKE_LUA = "src/node/redis/scripts/handshake.lua"
REDIS_HANDSHAKE = "src/node/redis/handshake.rs"


class Mutant(NamedTuple):
    name: str
    file: str
    old: str
    new: str
    # Why nobody has to notice.
    harmless: str = ""


MUTANTS = [
    Mutant("no quarantine", HANDSHAKE, "now_us / 1000 + millis(agreement.quarantine()) + QUARANTINE_SLACK_MS + stepped_ms", "now_us / 1000 + 0 * stepped_ms"),
    Mutant("a quarantine of half the time", HANDSHAKE, "millis(agreement.quarantine()) + QUARANTINE_SLACK_MS", "millis(agreement.quarantine()) / 2"),
    Mutant("a restart goes unnoticed", HANDSHAKE, "if !stepped_back && hello.run_id == old.run_id {", "if !stepped_back {"),
    Mutant("a clock that stepped back goes unnoticed", HANDSHAKE, "let stepped_back = micros(Agreement::STEP_BACK) < back_us;", "let stepped_back = u64::MAX == back_us;"),
    Mutant("the epoch is not compared", STATE, "if self.marker.as_ref().map(Marker::to_string).as_deref() != Some(&epoch.text) {", "if self.marker.is_none() && epoch.text.is_empty() {"),
    Mutant("a node in quarantine votes", STATE, "(0 < left_us).then(||", "(u64::MAX == left_us).then(||"),
    Mutant("ballots may be ahead", STATE, "if batch.now_us + micros(batch.agreement.window) < new.ballot.micros() {", "if u64::MAX < new.ballot.micros() {"),
    Mutant("ballots may be old", STATE, "fence.unwrap_or_default().max(behind)", "fence.unwrap_or_default().max(behind.min(Ballot::default()))"),
    Mutant("an equal ballot is not stale", STATE, "if new.ballot <= floor {", "if new.ballot < floor {"),
    Mutant("fences are not kept", "src/node/marker.rs", "2 * self.window + Self::STEP_BACK + Self::HIGH_WATER_LAG\n    }\n\n    /// `4W", "Duration::from_millis(1)\n    }\n\n    /// `4W"),
    Mutant("a lock that is held is written over", STATE, "if old.lease != new.lease {", "if old.lease != new.lease && left_ms == u64::MAX {"),
    Mutant("a repeat does not make the record firm", STATE, "let (ballot, firm) = (old.ballot, LockRecord { attempt: None, ..old });", "let (ballot, firm) = (old.ballot, old);"),
    Mutant("a raised record stays cancellable", STATE, "if !own {\n                new.attempt = None;\n            }", ""),
    Mutant("an extended record stays cancellable", STATE, "self.set_lock(key, LockRecord { attempt: None, ..held.value }, expires_ms);", "self.set_lock(key, held.value, expires_ms);"),
    Mutant("a cancel frees by lease", STATE, "held.value.lease == *lease && held.value.attempt == Some(attempt)", "held.value.lease == *lease && attempt.0 != u64::MAX"),
    Mutant("a release frees whatever is there", STATE, "Some(record) if lease.is_some_and(|lease| record.lease != *lease) => ReleaseVote::HeldByOther,", "Some(record) if lease.is_some_and(|lease| record.lease != *lease) && up_to.micros() == 0 => ReleaseVote::HeldByOther,"),
    Mutant("a release raises no fence", STATE, "        };\n        self.raise_fence(batch, key, up_to);\n        vote", "        };\n        vote"),
    Mutant("a cancel raises no fence", STATE, "        self.raise_fence(batch, key, up_to);\n        freed", "        freed", harmless="an acquire that its cancel overtook holds the lock for a ttl, and nobody has it"),
    Mutant("an extend shortens", STATE, "held.expires_ms.max(batch.now_ms() + ttl_ms)", "(batch.now_ms() + ttl_ms).min(held.expires_ms)"),
    Mutant("an acquire shortens", STATE, "lasts_ms = lasts_ms.max(left_ms);", "lasts_ms = lasts_ms.min(left_ms);"),
    Mutant("votes of earlier rounds count", ATTEMPT, "self.votes.clear();", ""),
    Mutant("accepted and mine are added up", ATTEMPT, "let accepted = self.votes.count(|vote| *vote == AcquireVote::Accepted);", "let accepted = self.votes.count(|vote| matches!(vote, AcquireVote::Accepted | AcquireVote::Mine { .. }));"),
    Mutant("a repeat counts across ballots", ATTEMPT, "self.mine().filter(|(other, _)| *other == ballot).count())).max_by_key", "self.mine().count())).max_by_key"),
    Mutant("one vote less is enough", "src/lease/quorum.rs", "self.nodes / 2 + 1", "self.nodes.div_ceil(2).max(2) - 1"),
    Mutant("one node counts twice", "src/lease/votes.rs", "if let Some(slot @ None) = self.answers.get_mut(node) {", "let node = if self.answers[node].is_some() { (node + 1) % self.answers.len() } else { node };\n        if let Some(slot @ None) = self.answers.get_mut(node) {"),
    Mutant("validity is the whole ttl", "src/lease/ttl.rs", "ttl.saturating_sub(ttl / DRIFT_SHARE).saturating_sub(DRIFT_BASE).saturating_sub(margin)", "(ttl + 0 * (ttl / DRIFT_SHARE) + 0 * DRIFT_BASE).saturating_sub(margin)"),
    Mutant("an extend creates", STATE, "else { return ExtendVote::Gone };", "else {\n            let expires_ms = batch.now_ms() + ttl_ms;\n            let record = LockRecord { ballot: Ballot::from_micros(batch.now_us), attempt: None, lease: lease.clone(), owner: None };\n            self.set_lock(key, record, expires_ms);\n            return ExtendVote::Gone;\n        };"),
    Mutant("what is over lives until it is swept", STATE, "self.locks.get(key).filter(|lock| batch.now_ms() <= lock.expires_ms)", "self.locks.get(key)"),
    Mutant("a release is complete after any answer", "src/lease/release.rs", "if required <= not_held && !may_be_anothers && !may_be_newer {", "if 0 < not_held && !may_be_anothers && !may_be_newer {"),
    Mutant("a clock seen only while it was refused is forgotten", HANDSHAKE, "if self.marker.is_some() && self.high_water_us < now_us {", "if self.marker.is_none() && self.high_water_us < now_us {"),
    Mutant("a repeated grant is valid for the whole ttl", ATTEMPT, "let valid_for = validity(left[self.votes.quorum().required() - 1], self.terms.margin);", "let valid_for = validity(left[0].max(self.terms.ttl.get()), self.terms.margin);"),
    Mutant("an extend counts across ballots", EXTENSION, "self.live().filter(|(other, _)| *other == ballot).count())).max_by_key", "self.live().count())).max_by_key"),
    Mutant("a lost attempt is not undone", FLIGHT, "self.outstanding == 0 && (self.accepted || self.doubtful)", "self.outstanding == 0 && self.accepted && self.doubtful"),
    Mutant("silence is taken for a no", "src/lease/votes.rs", "matches!(self, Self::Silent | Self::Failed(_))", "matches!(self, Self::Failed(_))"),
    Mutant("a node belongs to any list", HANDSHAKE, "if hello.agreement != old.agreement {", "if (Agreement { members: old.agreement.members, ..hello.agreement }) != old.agreement {"),
    Mutant("a clock that is behind may be its own judge", "src/node/clock.rs", "((known - 1) / 2).max(minority).min(known - 1)", "((known - 1) / 2).min((known - 1).saturating_sub(minority))"),
    Mutant("a release by force takes whoever comes next", "src/redlock/force.rs", "release(cluster, key, None, Some(token)).await?;", "let _ = token;\n    release(cluster, key, None, None).await?;"),
    Mutant("what was given back is copied all the same", COPIES, "waiting.by_lease.remove(&lease).map(|(_, flight)| flight)", "waiting.by_lease.get_mut(&lease).map(|(_, flight)| Arc::clone(flight))"),
    Mutant("a fresh lease is never copied", FLIGHT, "if left.as_millis() == 0 || !matches!", "if left.as_millis() != 0 || !matches!"),
    Mutant("the first majority is waited for to the end", FLIGHT, "self.started + self.cluster.patience().within(self.call_timeout)", "self.started + self.call_timeout"),
    Mutant("after a refusal among the first the others wait", FLIGHT, "Verdict::Pending if progress.has_heard_all_asked() => self.widen(progress),", "Verdict::Pending if progress.has_heard_all_asked() && progress.unasked.is_empty() => self.widen(progress),"),
    Mutant("what was evicted is forgotten", HANDSHAKE_LUA, "if evicted ~= '0' then run = run .. '+' .. evicted end", ""),
    Mutant("a promotion is nothing", HANDSHAKE_LUA, "if string.match(before, '[^0]') then run = run .. '-' .. string.sub(before, 1, 16) end", ""),
    Mutant("a disk is believed that was seen to lack something", REDIS_HANDSHAKE, "facts.followed.is_some() || 0 < facts.evicted || greeter.last.knows_better(&facts.run_id)", "false"),
    Mutant("a disk that lacked something before the restart is believed", HANDSHAKE, "is_restarted && old.durable && hello.durable == Some(true)", "is_restarted && hello.durable == Some(true)"),
    Mutant("a release reaches beyond the nodes' time", RELEASE, "up_to: up_to.min(now) });", "up_to });"),
    Mutant("a margin for clocks that jump is not taken", ATTEMPT, "let valid_for = validity(ttl, self.terms.margin);", "let valid_for = validity(ttl, Duration::ZERO);"),
]
