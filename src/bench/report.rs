//! What a run found out, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Serialize;

use super::Percentiles;
use super::load::Tally;

/// The result of a run. `Display` is a table of a few lines; [`Report::to_json`] has the same names with units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub connections: usize,
    /// From the first request until the last connection had finished its last cycle.
    pub duration_ms: u64,
    /// Locks that were acquired and released.
    pub cycles: u64,
    pub cycles_per_second: u64,
    /// Of the connection that had the fewest, and of the one that had the most.
    pub fewest_cycles: u64,
    pub most_cycles: u64,
    /// Of the acquires that were granted; `None` when there was none.
    pub acquire: Option<Percentiles>,
    pub release: Option<Percentiles>,
    /// Calls that came after the room for samples was used up, so that the percentiles do not know them.
    pub unrecorded_latencies: u64,
    /// Calls that failed, by code.
    pub errors: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(connections: usize, elapsed: Duration, share: RangeInclusive<u64>, total: Tally) -> Self {
        let duration_ms = elapsed.as_millis() as u64;
        Self {
            connections,
            duration_ms,
            cycles: total.cycles,
            cycles_per_second: total.cycles * 1000 / duration_ms.max(1),
            fewest_cycles: *share.start(),
            most_cycles: *share.end(),
            unrecorded_latencies: total.acquire.unrecorded() + total.release.unrecorded(),
            acquire: total.acquire.percentiles(),
            release: total.release.percentiles(),
            errors: total.errors.into_map(),
        }
    }

    /// Whether something was measured, and nothing failed but for the lock being another's.
    pub fn is_usable(&self) -> bool {
        0 < self.cycles && self.errors.keys().all(|code| code == "locked")
    }

    /// One JSON object on one line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("integers and maps with text keys always have a JSON form")
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "connections   {}", self.connections)?;
        writeln!(f, "duration      {}.{} s", self.duration_ms / 1000, self.duration_ms % 1000 / 100)?;
        writeln!(f, "cycles        {}  ({}/s)", self.cycles, self.cycles_per_second)?;
        writeln!(f, "per connection {} to {}", self.fewest_cycles, self.most_cycles)?;
        writeln!(f, "              {:<9}{:<9}{:<9}{:<9}(us)", "p50", "p99", "p999", "max")?;
        write_row(f, "acquire", self.acquire)?;
        write_row(f, "release", self.release)?;
        if 0 < self.unrecorded_latencies {
            writeln!(f, "              without the last {} calls: no room for more samples", self.unrecorded_latencies)?;
        }
        let errors: Vec<_> = self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
        write!(f, "errors        {}", if errors.is_empty() { "none".to_owned() } else { errors.join(", ") })
    }
}

fn write_row(f: &mut Formatter<'_>, name: &str, row: Option<Percentiles>) -> fmt::Result {
    match row {
        Some(Percentiles { p50_us, p99_us, p999_us, max_us }) => writeln!(f, "{name:<14}{p50_us:<9}{p99_us:<9}{p999_us:<9}{max_us}"),
        None => writeln!(f, "{name:<14}{:<9}{:<9}{:<9}-", "-", "-", "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            connections: 64,
            duration_ms: 10_099,
            cycles: 154_321,
            cycles_per_second: 15_280,
            fewest_cycles: 2400,
            most_cycles: 2500,
            acquire: Some(Percentiles { p50_us: 1890, p99_us: 4100, p999_us: 9200, max_us: 15_000 }),
            release: None,
            unrecorded_latencies: 0,
            errors: BTreeMap::new(),
        }
    }

    #[test]
    fn a_report_is_a_table() {
        let expected = "connections   64\n\
                        duration      10.0 s\n\
                        cycles        154321  (15280/s)\n\
                        per connection 2400 to 2500\n\
                        \x20             p50      p99      p999     max      (us)\n\
                        acquire       1890     4100     9200     15000\n\
                        release       -        -        -        -\n\
                        errors        none";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn a_report_names_errors_and_what_it_did_not_record() {
        let errors = BTreeMap::from([("locked".to_owned(), 123), ("no_quorum".to_owned(), 4)]);
        let text = Report { errors, unrecorded_latencies: 7, ..report() }.to_string();
        assert!(text.ends_with("without the last 7 calls: no room for more samples\nerrors        locked 123, no_quorum 4"), "{text}");
    }

    #[test]
    fn a_report_with_failures_is_no_measurement() {
        let with = |code: &str| Report { errors: BTreeMap::from([(code.to_owned(), 1)]), ..report() };
        assert!(report().is_usable() && with("locked").is_usable());
        assert!(!with("no_quorum").is_usable() && !Report { cycles: 0, ..report() }.is_usable());
    }

    #[test]
    fn json_has_the_units_in_its_names() {
        let json = report().to_json();
        assert!(json.starts_with(r#"{"connections":64,"duration_ms":10099,"cycles":154321,"cycles_per_second":15280,"fewest_cycles":2400,"most_cycles":2500,"acquire":{"p50_us":1890"#));
    }
}
