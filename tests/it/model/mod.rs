//! The protocol as a model, explored to the end: every order of messages, every loss, every fault within the bounds.
//!
//! A row of a table is a configuration and what it must show of two properties: M, leases exclude each other, and
//! F, tokens grow in the order of the grants. Mutants break one rule each, and must be caught where they do harm.

mod certifying;
mod clocks_that_jump;
mod configuration;
mod exploring;
mod gateway;
mod history;
mod larger;
mod message;
mod node;
mod row;
mod running;
mod sharing;
mod votes_and_undoing;
mod walking;
mod windows_and_quarantine;
mod world;

use row::Row;
use running::Report;

#[test]
fn small_configurations_and_mutants() {
    check([votes_and_undoing::rows(), windows_and_quarantine::rows(), clocks_that_jump::rows(), sharing::rows()].concat());
}

#[test]
#[ignore = "a quarter of an hour of exploring; run with: cargo test --release --test it model::large -- --ignored --nocapture"]
fn large_configurations() {
    check(larger::rows());
}

/// MODEL_ONLY=words checks only the rows that say these words; MODEL_WAYS=1 prints how a mutant was caught.
fn check(rows: Vec<Row>) {
    let only = std::env::var("MODEL_ONLY").unwrap_or_default();
    let mut report = Report::default();
    rows.iter().filter(|row| row.name.contains(&only)).for_each(|row| report.check(row));
    println!("{report}");
}
