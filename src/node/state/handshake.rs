//! The handshake: is a node certified to vote, and from when.

use super::{Change, State, micros, millis};
use crate::node::{Agreement, Marker};

/// What a gateway says of itself and of the node in a handshake.
#[derive(Clone, Debug)]
pub struct Hello {
    pub agreement: Agreement,
    pub node: String,
    /// Which start of the server this is, and what its memory has been through since, as the handshake's script says it.
    pub run_id: String,
    /// What most of the nodes' clocks show, by [`ClusterClock::reference_us`](crate::node::ClusterClock::reference_us).
    pub reference_us: u64,
    /// Whether every change is on disk before it is answered; none if that can't be told.
    pub durable: Option<bool>,
    /// The operator's word that this cluster has never granted anything.
    pub fresh: bool,
}

/// Why a node is not certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeRefusal {
    ClockOff { ahead_us: i64 },
    NewerGeneration(Marker),
    OtherNode(Marker),
    OtherSettings(Marker),
    Corrupt,
}

impl HandshakeRefusal {
    /// What is wrong, and what the operator has to do about it, where `ours` are this gateway's settings.
    pub fn advice(&self, ours: &Agreement) -> String {
        match self {
            Self::ClockOff { ahead_us } => {
                let (ms, way) = (ahead_us.abs() / 1000, if 0 < *ahead_us { "ahead of" } else { "behind" });
                format!(
                    "its clock is {ms} ms {way} what most of the nodes that were heard show, {} ms are allowed; fix the time synchronisation, its own or theirs",
                    ours.window.as_millis()
                )
            }
            Self::NewerGeneration(marker) => format!(
                "it belongs to generation {} and this gateway is configured for {}; give this gateway the newer list of nodes and its generation",
                marker.agreement.generation, ours.generation
            ),
            Self::OtherNode(marker) => format!(
                "it already votes as {:?}: two entries reach one server, or the node was renamed; give every node one entry, or raise generation for a new list",
                marker.node
            ),
            Self::OtherSettings(marker) if marker.agreement.members != ours.members => {
                "other gateways use another list of nodes, other names for them, another lock_prefix, clock_jump_margin or trust_persistence; use the same everywhere, or raise generation to change it"
                    .to_owned()
            }
            Self::OtherSettings(marker) => format!(
                "other gateways use other settings: max_ttl {} and clock_window {} there, {} and {} here; use the same everywhere, or raise generation",
                humantime::format_duration(marker.agreement.max_ttl),
                humantime::format_duration(marker.agreement.window),
                humantime::format_duration(ours.max_ttl),
                humantime::format_duration(ours.window)
            ),
            Self::Corrupt => {
                "its key \"redlockd:node\" was not written by this version of redlockd; delete it only if no gateway uses the node".to_owned()
            }
        }
    }
}

/// Which start of a server it was, without what its memory has been through since.
fn process(run_id: &str) -> &str {
    run_id.split(['+', '-']).next().unwrap_or_default()
}

/// The node rounds its clock to milliseconds when it compares expiries; this covers the rounding.
const QUARANTINE_SLACK_MS: u64 = 10;

impl State {
    /// Certifies the node for a gateway, and starts a quarantine if the node may have forgotten.
    pub fn handshake(&mut self, now_us: u64, hello: &Hello) -> Result<Marker, HandshakeRefusal> {
        let ahead_us = now_us as i64 - hello.reference_us as i64;
        if micros(hello.agreement.window) < ahead_us.unsigned_abs() {
            // Nobody asks it anything until its clock is right, so this is what notices that it comes back.
            if self.marker.is_some() && self.high_water_us < now_us {
                self.set_high_water(now_us);
            }
            return Err(HandshakeRefusal::ClockOff { ahead_us });
        }
        let back_us = self.high_water_us.saturating_sub(now_us);
        let stepped_back = micros(Agreement::STEP_BACK) < back_us;
        let mut ready_at_ms = None;
        let mut agreement = hello.agreement;
        if let Some(old) = &self.marker {
            if hello.agreement.generation < old.agreement.generation {
                return Err(HandshakeRefusal::NewerGeneration(old.clone()));
            }
            if hello.agreement.generation == old.agreement.generation {
                if hello.node != old.node {
                    return Err(HandshakeRefusal::OtherNode(old.clone()));
                }
                if hello.agreement != old.agreement {
                    return Err(HandshakeRefusal::OtherSettings(old.clone()));
                }
                if !stepped_back && hello.run_id == old.run_id {
                    let marker = Marker { durable: hello.durable.unwrap_or(old.durable), ..old.clone() };
                    return Ok(self.certify(marker, now_us.max(self.high_water_us)));
                }
                // Restarted with nothing lost: it wrote every change to disk then, and does so now. The same process has lost
                // what it lost in its memory.
                let is_restarted = process(&hello.run_id) != process(&old.run_id);
                let nothing_lost = !stepped_back && is_restarted && old.durable && hello.durable == Some(true);
                ready_at_ms = nothing_lost.then_some(old.ready_at_ms);
            }
            agreement = agreement.stricter(&old.agreement);
        } else if hello.fresh {
            ready_at_ms = Some(now_us / 1000);
        }
        let high_water_us = if stepped_back { now_us } else { now_us.max(self.high_water_us) };
        let ready_at_ms = ready_at_ms.unwrap_or_else(|| {
            let stepped_ms = if stepped_back { back_us.div_ceil(1000).min(2 * millis(agreement.window)) } else { 0 };
            now_us / 1000 + millis(agreement.quarantine()) + QUARANTINE_SLACK_MS + stepped_ms
        });
        let durable = hello.durable == Some(true);
        let marker = Marker { agreement: hello.agreement, node: hello.node.clone(), run_id: hello.run_id.clone(), ready_at_ms, durable };
        Ok(self.certify(marker, high_water_us))
    }

    fn certify(&mut self, marker: Marker, high_water_us: u64) -> Marker {
        if self.marker.as_ref() != Some(&marker) {
            self.marker = Some(marker.clone());
            self.changes.insert(Change::Marker);
        }
        if self.high_water_us != high_water_us {
            self.set_high_water(high_water_us);
        }
        marker
    }

    /// Takes over the settings of the only gateway there is, so that an embedded node may be restarted with others.
    ///
    /// Nothing is forgotten, so a longer `max_ttl` needs no quarantine. Another window does: fences were kept for the old one.
    pub fn adopt(&mut self, agreement: Agreement, now_us: u64) {
        let Some(old) = self.marker.clone().filter(|old| old.agreement != agreement) else { return };
        let between = old.agreement.stricter(&agreement);
        let windows_ms = millis(6 * between.window + Agreement::STEP_BACK) + QUARANTINE_SLACK_MS;
        let quarantined_ms = if old.agreement.window == agreement.window { 0 } else { now_us / 1000 + windows_ms };
        self.marker = Some(Marker { agreement, ready_at_ms: old.ready_at_ms.max(quarantined_ms), ..old });
        self.changes.insert(Change::Marker);
    }
}
