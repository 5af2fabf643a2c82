"""The rules, each broken in one place."""
from typing import NamedTuple

STATE = "src/node/state/mod.rs"
ACQUIRING = "src/node/state/acquiring.rs"
EXTENDING = "src/node/state/extending.rs"
FREEING = "src/node/state/freeing.rs"
LIFETIME = "src/lease/lifetime.rs"
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
    Mutant("ballots may be ahead", ACQUIRING, "if batch.now_us + super::micros(batch.agreement.window) < acquire.ballot.micros() {", "if u64::MAX < acquire.ballot.micros() {"),
    Mutant("ballots may be old", STATE, ".below(mode).max(batch.too_old())", ".below(mode).max(batch.too_old().min(Ballot::default()))"),
    Mutant("an equal ballot is not stale", ACQUIRING, "                if acquire.ballot <= floor {", "                if acquire.ballot < floor {"),
    Mutant("fences are not kept", "src/node/marker.rs", "2 * self.window + Self::STEP_BACK + Self::HIGH_WATER_LAG\n    }\n\n    /// `4W", "Duration::from_millis(1)\n    }\n\n    /// `4W"),
    Mutant("a lock that is held is written over", ACQUIRING, "let is_own = old.lease == acquire.lease &&", "let is_own = (old.lease == acquire.lease || left_ms != u64::MAX) &&"),
    Mutant("a repeat does not make the record firm", ACQUIRING, "Record::Alone(LockRecord { attempt: None, ..old }), held.expires_ms)", "Record::Alone(old), held.expires_ms)"),
    Mutant("a raised record stays cancellable", ACQUIRING, "Finding::Clear(Clear { left_ms, is_firm: !own })", "Finding::Clear(Clear { left_ms, is_firm: false })"),
    Mutant("an extended record stays cancellable", EXTENDING, "self.set_lock(key, Record::Alone(LockRecord { attempt: None, ..record }), expires_ms);", "self.set_lock(key, Record::Alone(record), expires_ms);"),
    Mutant("a cancel frees by lease", FREEING, "record.lease == *lease && record.attempt == Some(attempt)", "record.lease == *lease && attempt.0 != u64::MAX"),
    Mutant("a release frees whatever is there", FREEING, "Some(Record::Alone(record)) if !of_lease(&record) => {", "Some(Record::Alone(record)) if !of_lease(&record) && up_to.micros() == 0 => {"),
    Mutant("a release raises no fence", FREEING, "        self.raise_fence(batch, key, up_to);\n        vote\n", "        vote\n"),
    Mutant("a cancel raises no fence", FREEING, "        self.raise_fence(batch, key, up_to);\n        freed\n", "        freed\n"),
    Mutant("an extend shortens", EXTENDING, "held.expires_ms.max(lifetime.extended(now_ms, ttl_ms, max_ttl_ms))", "lifetime.extended(now_ms, ttl_ms, max_ttl_ms).min(held.expires_ms)"),
    Mutant("an acquire shortens", ACQUIRING, "millis(*ttl).max(left_ms)", "millis(*ttl).min(left_ms.max(1))"),
    Mutant("votes of earlier rounds count", ATTEMPT, "self.votes.clear();", ""),
    Mutant("accepted and mine are added up", ATTEMPT, "let accepted = self.votes.count(|vote| *vote == AcquireVote::Accepted);", "let accepted = self.votes.count(|vote| matches!(vote, AcquireVote::Accepted | AcquireVote::Mine { .. }));"),
    Mutant("a repeat counts across ballots", ATTEMPT, "whole().filter(|other| *other == ballot).count()))", "whole().count()))"),
    Mutant("one vote less is enough", "src/lease/quorum.rs", "self.nodes / 2 + 1", "self.nodes.div_ceil(2).max(2) - 1"),
    Mutant("one node counts twice", "src/lease/votes.rs", "if let Some(slot @ None) = self.answers.get_mut(node) {", "let node = if self.answers[node].is_some() { (node + 1) % self.answers.len() } else { node };\n        if let Some(slot @ None) = self.answers.get_mut(node) {"),
    Mutant("validity is the whole ttl", "src/lease/ttl.rs", "ttl.saturating_sub(ttl / DRIFT_SHARE).saturating_sub(DRIFT_BASE).saturating_sub(margin)", "(ttl + 0 * (ttl / DRIFT_SHARE) + 0 * DRIFT_BASE).saturating_sub(margin)"),
    Mutant("an extend overlooks what is gone", EXTENDING, "let Some(held) = self.live(batch, key) else { return Some(ExtendVote::Gone) };", "let held = self.live(batch, key)?;"),
    Mutant("what is over lives until it is swept", STATE, "self.locks.get(key).filter(|lock| batch.now_ms() <= lock.expires_ms)", "self.locks.get(key)"),
    Mutant("a release is complete after any answer", "src/lease/release.rs", "if required <= not_held && !may_be_anothers && !may_be_newer {", "if 0 < not_held && !may_be_anothers && !may_be_newer {"),
    Mutant("a clock seen only while it was refused is forgotten", HANDSHAKE, "if self.marker.is_some() && self.high_water_us < now_us {", "if self.marker.is_none() && self.high_water_us < now_us {"),
    Mutant("a repeated grant is valid for the whole ttl", ATTEMPT, "let valid_for = validity(left[self.votes.quorum().required() - 1], self.terms.margin);", "let valid_for = validity(left[0].max(self.terms.ttl.get()), self.terms.margin);"),
    Mutant("an extend counts across ballots", EXTENSION, "self.live().filter(|(other, _)| *other == ballot).count())).max_by_key", "self.live().count())).max_by_key"),
    Mutant("a lost attempt is not undone", FLIGHT, "self.outstanding == 0 && (self.accepted || self.doubtful)", "self.outstanding == 0 && self.accepted && self.doubtful"),
    Mutant("silence is taken for a no", "src/lease/votes.rs", "matches!(self, Self::Silent | Self::Failed(_))", "matches!(self, Self::Failed(_))"),
    Mutant("a node belongs to any list", HANDSHAKE, "if hello.agreement != old.agreement {", "if (Agreement { members: old.agreement.members, ..hello.agreement }) != old.agreement {"),
    Mutant("a clock that is behind may be its own judge", "src/node/clock.rs", "((known - 1) / 2).max(minority).min(known - 1)", "((known - 1) / 2).min((known - 1).saturating_sub(minority))"),
    Mutant("a release by force takes whoever comes next", "src/redlock/force.rs", "release(cluster, key, None, Some(FencingToken::of(newest))).await?;", "let _ = newest;\n    release(cluster, key, None, None).await?;"),
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
    Mutant("a writer ignores readers", ACQUIRING, "return if is_held { Finding::Refused", "return if is_held && longest().ballot.is_none() { Finding::Refused"),
    Mutant("a reader ignores a writer", ACQUIRING, "if !is_own || acquire.mode != Mode::Exclusive || is_other_set {", "if !is_own && acquire.mode == Mode::Exclusive || is_other_set {"),
    Mutant("a reader raises no fence", ACQUIRING, "Mode::Shared => self.set_fence(batch, key, Fence { high: *ballot, ..fence }),", "Mode::Shared => {}"),
    Mutant("a reader minds the fence of other readers", STATE, ".below(mode).max(batch.too_old())", ".below(Mode::Exclusive).max(batch.too_old())"),
    Mutant("a waiting writer holds nobody back", ACQUIRING, "None if now_ms <= together.awaited_ms => {", "None if now_ms <= together.awaited_ms && together.limit == u16::MAX => {"),
    Mutant("a slot that is taken is given", ACQUIRING, "&& taken().contains(acquire.mode.slot())", "&& taken().contains(acquire.mode.slot() + 256)"),
    Mutant("any limit will do", ACQUIRING, "if is_held && together.limit != acquire.mode.limit() {", "if is_held && together.limit == u16::MAX {"),
    Mutant("a lease moves to another slot", ACQUIRING, "|| slot != acquire.mode.slot())", "|| slot == u16::MAX)"),
    Mutant("a sharer that is released takes all with it", FREEING, "together.sharers.retain(|sharer| !of_lease(&sharer.record) || up_to < sharer.record.ballot);", "together.sharers.clear();"),
    Mutant("a lock of a set may be another's", ACQUIRING, "return AcquireVote::Busy(Holder { member, ..holder });", "clear.push(Clear { left_ms: member.map_or(0, |_| 0 * holder.ballot.map_or(0, |ballot| ballot.micros())), is_firm: false });"),
    Mutant("a part of a set is a repeat", ACQUIRING, "let is_whole = mine.len() == keys.len() && mine.iter().all(|mine| mine.ballot == newest);", "let is_whole = true;"),
    Mutant("a set is extended in part", EXTENDING, "members.iter().find_map(|member| self.why_not_extended(batch, member, lease, Some(of)))", "members.iter().take(0).find_map(|member| self.why_not_extended(batch, member, lease, Some(of)))"),
    Mutant("a set that is released leaves its locks", FREEING, "            if matches!(self.live(batch, member)", "            if set.members.is_empty() && matches!(self.live(batch, member)"),
    Mutant("an extend goes beyond the end of a lease", LIFETIME, "until.min(self.ends_ms.max(now_ms))", "until.max(self.ends_ms.min(now_ms))"),
    Mutant("the delay after a lease counts as its own", EXTENDING, "(expires_ms - now_ms).saturating_sub(delay_ms)", "(expires_ms - now_ms).saturating_sub(0 * delay_ms)"),
    Mutant("what is released too early is free", FREEING, "if until_ms <= batch.now_ms() {", "if until_ms <= u64::MAX {"),
    Mutant("a lease goes on in its delay", LIFETIME, "0 < self.delay_ms && left_ms <= self.delay_ms", "0 < self.delay_ms && left_ms == u64::MAX"),
    Mutant("an extend with a delay outlasts max_ttl", LIFETIME, "ttl_ms.min(max_ttl_ms.saturating_sub(self.delay_ms))", "ttl_ms.min(max_ttl_ms.max(ttl_ms))"),
    Mutant("a full semaphore is a crowd", "src/node/record.rs", "self.limit == 0 && usize::from(Mode::MAX_TOGETHER)", "usize::from(Mode::MAX_TOGETHER)"),
    Mutant("who waits briefly ends the wait of another", ACQUIRING, "together.awaited_ms.max(batch.now_ms() + how_long_ms)", "batch.now_ms() + how_long_ms"),
    Mutant("a set is extended whose lock was had anew", EXTENDING, "of.is_some_and(|of| of != record.ballot)", "of.is_some_and(|of| of.micros() == 0)"),
    Mutant("a set is extended whose lock is shared", EXTENDING, "(own.is_none() || of.is_some()).then_some(ExtendVote::Gone)", "own.is_none().then_some(ExtendVote::Gone)"),
    Mutant("a waiting set holds nobody back", ACQUIRING, "                    self.hold_back_others(batch, key, acquire);\n                    // The", "                    // The"),
    Mutant("a copy outlasts what bounds its lease", FLIGHT, ".min(bounds.max_lifetime.unwrap_or(Duration::MAX))", ".max(bounds.max_lifetime.unwrap_or_default())"),
    Mutant("whoever asks with a lease id of its own asks out of turn", "src/redlock/wait.rs", "known.is_anything() || known.doubt.is_some()", "known.doubt.is_none()"),
    Mutant("whoever a lock is kept for is not told", "src/redlock/wait.rs", "cluster.neighbours().tell_freed(&of);", ""),
]
