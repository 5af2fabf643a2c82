//! Rows about a lock that some share.
//!
//! Slots and sets need no rows of their own: what a node says of a slot is what it says of a lock that one lease has alone,
//! under a fence that other slots raise as well, and what it says of each lock of a set is what it says of that lock, with more
//! refusals.

use super::configuration::{Configuration, Mutant, Request, acquire, extend, release, release_of_token};
use super::row::Row;

fn of(requests: &[Request]) -> Configuration {
    Configuration::of(requests)
}

fn reader(lease: u8, skew: i16) -> Request {
    acquire(lease, skew).sharing()
}

pub fn rows() -> Vec<Row> {
    let two_and_a_writer = of(&[reader(0, 1), reader(1, 0), acquire(2, 2)]);
    let one_of_each = of(&[reader(0, 0), acquire(1, 1)]);
    let leaving = of(&[reader(0, 0), reader(1, 1), release(1, 1).sharing(), acquire(2, 2)]);
    let by_token = of(&[reader(0, 0), release_of_token(0).sharing(), acquire(1, 1)]);
    let repeated = of(&[reader(0, 0), reader(0, 1), acquire(1, 2)]);
    let extended = of(&[reader(0, 0), extend(0, 2).sharing(), acquire(1, 1)]);
    let reader_first = Configuration { until: 2, ..of(&[reader(0, 2), acquire(1, 0)]).with_ttl(0) };
    let writer_first = Configuration { until: 2, ..of(&[acquire(0, 2), reader(1, 0)]).with_ttl(0) };
    let crashing = Configuration { until: 3, crashes: 1, ..of(&[reader(0, 0), acquire(1, 0)]).with_ttl(1).with_window(1, 0, 0) };
    vec![
        Row::protocol("two readers and a writer", Configuration { until: 1, aborts: 3, ..two_and_a_writer }),
        Row::protocol(
            "a reader and a writer abort, lose a reply and try twice",
            Configuration { until: 2, lost_replies: 1, rounds: 2, aborts: 2, ..one_of_each.clone() },
        ),
        Row::protocol("a reader and a writer whose messages come twice", Configuration { until: 1, duplicates: 2, ..one_of_each.clone() }),
        Row::protocol("a reader leaves, another stays, a writer comes", leaving.clone()),
        Row::protocol("a reader leaves by its token", Configuration { until: 1, duplicates: 1, ..by_token }),
        Row::protocol("a reader repeats itself while it is cancelled", Configuration { aborts: 3, ..repeated }),
        Row::protocol("a reader extends its lease while it is cancelled", Configuration { until: 1, aborts: 1, ..extended }),
        Row::protocol("a writer whose clock is behind comes after a reader", reader_first.clone()),
        Row::protocol("a reader whose clock is behind comes after a writer", writer_first.clone()),
        Row::protocol("a node forgets a reader", crashing),
        Row::breaks_exclusion("a writer ignores readers", one_of_each.broken(Mutant::WriterIgnoresReaders)),
        Row::breaks_exclusion("a reader ignores a writer", of(&[acquire(0, 0), reader(1, 1)]).broken(Mutant::ReaderIgnoresWriter)),
        Row::breaks_exclusion("readers have one record", leaving.broken(Mutant::ReadersAreOneRecord)),
        Row::breaks_order("a reader raises no fence", reader_first.broken(Mutant::ReaderRaisesNoFence)),
        Row::breaks_order("a reader ignores the fence", writer_first.broken(Mutant::ReaderIgnoresFence)),
    ]
}
