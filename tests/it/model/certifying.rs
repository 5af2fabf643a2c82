//! Whether a node votes: its high-water mark, its canary, and the quarantine after it may have forgotten.

use super::configuration::{Configuration, Mutant, Ticks};
use super::node::Node;

impl Node {
    /// The first lines of every batch: moves the high-water mark, and says whether this node votes now.
    pub fn may_vote(&mut self, now: Ticks, c: &Configuration) -> bool {
        let Some(ready_at) = self.ready_at else { return false };
        if self.is_suspicious(now, c) {
            return false;
        }
        if self.high_water + c.high_water_lag < now {
            self.set_high_water(now, c);
        }
        self.expire_keys(now);
        ready_at <= now
    }

    /// The clock was further ahead than it is now, as far as the high-water mark and the canary can tell.
    pub fn is_suspicious(&self, now: Ticks, c: &Configuration) -> bool {
        let stepped_back = now + c.step_back < self.high_water && !c.breaks(Mutant::NoHighWaterMark);
        stepped_back || self.canary_is_missing(now, c)
    }

    fn canary_is_missing(&self, now: Ticks, c: &Configuration) -> bool {
        let Some(keep) = c.canary.filter(|_| self.may_jump) else { return false };
        let was_silent = self.high_water + keep < now;
        let is_gone = self.canary.is_none_or(|expires| expires < now);
        is_gone && !(was_silent && c.breaks(Mutant::CanaryIsTrustedAfterSilence))
    }

    /// Starts a quarantine: this node may have forgotten.
    pub fn shake_hands(&mut self, now: Ticks, c: &Configuration) {
        let stepped_back = (self.high_water - now).clamp(0, 2 * c.window);
        self.has_changed_epoch = true;
        self.ready_at = Some(now + c.quarantine + stepped_back);
        self.set_high_water(now, c);
    }

    pub fn set_high_water(&mut self, now: Ticks, c: &Configuration) {
        self.high_water = now;
        self.canary = c.canary.filter(|_| self.may_jump).map(|keep| now + keep);
    }

    pub fn crash(&mut self, with_old_data: bool) {
        self.kept = self.before.take().filter(|_| with_old_data).unwrap_or_default();
        (self.ready_at, self.before, self.canary) = (None, None, None);
        self.high_water = 0;
    }
}
