//! What every node promises, whatever it is made of: one suite, run on the embedded node and on a real Redis.

mod acquiring;
mod embedded_only;
mod lifetimes;
mod redis_only;
mod sets;
mod sharing;
mod undoing;
mod viewing;

use redlockd::lease::{AcquireVote, Answer, Ballot, Holder, InspectVote, LockKey};
use redlockd::node::{Command, Reply};

use crate::support::Subject;

/// Makes a test of every rule, for every kind of node.
macro_rules! on_every_node {
    ($($module:ident: $($rule:ident),+;)+) => {
        mod embedded {
            $($(#[tokio::test] async fn $rule() { super::$module::$rule(crate::support::Subject::embedded().await).await; })+)+
        }
        mod redis {
            $($(#[tokio::test] async fn $rule() { super::$module::$rule(crate::support::Subject::redis().await).await; })+)+
        }
    };
}

on_every_node! {
    acquiring:
        a_free_lock_is_accepted,
        a_lock_of_another_lease_is_busy,
        a_duplicate_is_accepted_again,
        a_repeat_by_another_attempt_is_mine_and_firm,
        a_higher_ballot_of_the_same_attempt_raises_its_record,
        over_raises_a_foreign_attempt_and_makes_it_firm,
        over_below_the_stored_ballot_raises_nothing,
        a_raise_never_shortens,
        a_ballot_beyond_the_window_is_ahead,
        a_ballot_at_or_below_the_fence_is_stale,
        a_ballot_behind_the_window_is_stale;
    undoing:
        a_cancel_frees_its_own_attempt_and_refuses_what_it_overtook,
        a_cancel_of_another_attempt_frees_nothing,
        a_cancel_frees_nothing_that_is_firm,
        a_release_frees_what_is_firm,
        a_release_reaches_up_to_its_ballot_only,
        a_release_of_another_lease_frees_nothing,
        a_release_of_whoever_holds_it_reaches_up_to_its_ballot_only,
        a_release_raises_the_fence_in_every_case,
        a_release_cannot_poison_the_fence;
    viewing:
        an_extend_lengthens_and_never_shortens,
        an_extend_never_creates,
        an_extend_of_another_lease_is_refused,
        an_extend_makes_firm,
        an_inspection_shows_the_holder,
        a_lock_frees_itself_when_its_time_is_over,
        a_scan_pages_through_every_name_once,
        a_prefix_is_no_pattern,
        a_batch_is_answered_command_by_command_in_order;
    sharing:
        those_who_share_a_lock_come_in_any_order_and_keep_out_who_wants_it_alone,
        who_holds_it_alone_keeps_out_who_would_share_it,
        whoever_wants_it_alone_afterwards_is_above_all_who_shared_it,
        a_waiting_writer_holds_back_new_readers_but_not_those_who_are_there,
        each_sharer_extends_releases_and_cancels_its_own,
        a_release_of_whoever_shares_it_reaches_up_to_its_ballot_only,
        a_repeat_of_a_sharer_is_told_what_it_has,
        no_more_than_a_bound_share_a_lock,
        a_full_semaphore_says_which_slots_are_taken,
        the_longest_time_for_which_others_are_held_back_counts,
        a_slot_has_one_holder_and_the_others_are_told,
        slots_that_are_left_are_given_in_the_order_of_their_ballots,
        a_lease_keeps_its_slot,
        who_counts_otherwise_is_refused_while_a_slot_is_held;
    lifetimes:
        an_extend_ends_where_the_lease_does,
        a_lock_stays_after_its_lease_for_the_delay_unless_it_is_released,
        in_its_delay_a_lease_is_over,
        an_extend_leaves_room_for_the_delay,
        a_lock_that_is_released_too_early_is_kept,
        what_is_kept_ends_with_its_record,
        what_is_kept_can_be_had_by_force;
    sets:
        a_set_is_had_whole_or_not_at_all,
        whoever_has_a_lock_of_a_set_is_named,
        a_set_is_above_every_fence_of_its_locks,
        a_set_is_extended_whole_or_not_at_all,
        a_set_is_not_extended_whose_lock_was_had_anew,
        in_its_delay_a_set_is_in_its_own_way,
        a_waiting_set_holds_back_new_readers,
        a_set_is_released_and_cancelled_whole,
        a_repeat_of_a_set_is_mine_and_of_a_part_of_it_has_nothing_left,
        a_lease_that_holds_a_set_is_of_no_other;
}

const ACCEPTED: Answer<Reply> = Ok(Reply::Acquire(AcquireVote::Accepted));

fn stale(floor: Ballot) -> Answer<Reply> {
    Ok(Reply::Acquire(AcquireVote::Stale { floor }))
}

/// The holder in the way of an acquire.
fn in_the_way(answer: Answer<Reply>) -> Holder {
    match answer {
        Ok(Reply::Acquire(AcquireVote::Busy(holder))) => holder,
        other => panic!("not busy: {other:?}"),
    }
}

/// The ballot that an acquire was told to be its own already.
fn mine(answer: Answer<Reply>) -> Ballot {
    match answer {
        Ok(Reply::Acquire(AcquireVote::Mine { ballot, .. })) => ballot,
        other => panic!("not mine: {other:?}"),
    }
}

/// Who holds the lock, if anybody.
async fn holder(subject: &Subject, key: &LockKey) -> Option<Holder> {
    match subject.ask(Command::Inspect { key: key.clone() }).await {
        Ok(Reply::Inspect(InspectVote::Free)) => None,
        Ok(Reply::Inspect(InspectVote::Held { holder, .. })) => Some(holder),
        other => panic!("no view: {other:?}"),
    }
}
