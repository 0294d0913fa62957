//! Stories that were once wrong, or that a simpler rule gets wrong. Each is judged like those that chance makes.

mod broken;

use super::play::{Bench, Into, Played};
use super::scenario::{
    At, DAY, Deletes, Event::*, First, Flaw, Flaw::Sound, Keep, Kind::*, Order, Scenario, Sizes, Top, Uids,
    Writes,
};

const NEW: super::scenario::Event = Arrive(Normal, 0, Sound);
const WEAK: super::scenario::Event = Arrive(Weak, 0, Sound);

/// Plays a story, in which nothing may be wrong, and after which so many messages were ever delivered.
#[track_caller]
fn delivers(delivered: usize, scenario: Scenario) {
    plays(scenario, |played| {
        assert_eq!(played.delivered, delivered, "messages delivered\n{}", played.words());
    });
}

/// The same, and so many messages are on the server at the end.
#[track_caller]
fn delivers_and_leaves(delivered: usize, left: usize, scenario: Scenario) {
    plays(scenario, |played| {
        let counts = (played.delivered, played.left);
        assert_eq!(counts, (delivered, left), "messages delivered, and left\n{}", played.words());
    });
}

#[track_caller]
fn plays(scenario: Scenario, judge: impl Fn(&Played)) {
    let mut bench = Bench::new(Into::Maildir);
    for pipelining in [true, false] {
        let played = bench.play(&Scenario { pipelining, ..scenario.clone() }, true);
        assert!(played.found.is_empty(), "{:?}\n{}", played.found, played.words());
        judge(&played);
    }
}

fn none() -> Scenario {
    Scenario { keep: Keep::Nothing, ..Scenario::plain() }
}

#[test]
fn a_message_that_comes_under_the_unique_id_of_a_deleted_one_is_fetched_before_it_is_deleted() {
    // 0 and 3 are of one size, and small counters give both the same unique-id.
    let events = vec![(0, NEW), (0, NEW), (0, NEW), (2, NEW)];
    delivers(4, Scenario { uids: Uids::Small, events, ..none() });
}

#[test]
fn a_message_that_comes_under_the_unique_id_of_one_whose_deletion_was_not_answered_is_fetched() {
    for obeyed in [true, false] {
        let events = vec![(0, NEW), (0, NEW), (0, NEW), (0, LoseQuit { obeyed }), (2, NEW)];
        delivers(4, Scenario { uids: Uids::Small, events, ..none() });
    }
}

#[test]
fn a_message_that_comes_under_the_unique_id_of_one_that_another_client_deleted_is_fetched() {
    for keep in [Keep::TwoWeeks, Keep::Forever] {
        let events = vec![
            (0, NEW),
            (0, NEW),
            (0, NEW),
            (1, OtherDeletes(0)),
            (1, OtherDeletes(0)),
            (1, OtherDeletes(0)),
            (3, NEW),
        ];
        delivers(4, Scenario { uids: Uids::Small, keep, step: 3 * DAY, events, ..Scenario::plain() });
    }
}

#[test]
fn a_message_of_the_header_and_size_of_a_deleted_one_is_fetched_where_unique_ids_digest_headers() {
    let events = vec![(0, WEAK), (2, Arrive(SameSize, 0, Sound))];
    delivers(2, Scenario { uids: Uids::Header, events, ..none() });
}

#[test]
fn a_message_equal_to_a_weak_one_that_a_listing_did_not_show_is_fetched() {
    let events = vec![(0, WEAK), (2, Arrive(Equal, 0, Sound))];
    delivers(2, Scenario { uids: Uids::Header, events, ..none() });
}

#[test]
fn messages_that_share_a_unique_id_are_all_fetched_where_the_mailbox_was_replaced() {
    let mut events = vec![(0, NEW); 12];
    events.extend(vec![(2, OtherDeletes(0)); 12]);
    events.extend(vec![(2, NEW); 12]);
    delivers(24, Scenario { uids: Uids::Received, events, ..Scenario::plain() });
}

#[test]
fn messages_whose_sizes_are_estimates_until_they_are_fetched_are_not_fetched_again() {
    for keep in [Keep::Forever, Keep::TwoWeeks] {
        let events = vec![(0, NEW), (0, NEW), (1, File)];
        delivers(2, Scenario { sizes: Sizes::Estimate, keep, events, ..Scenario::plain() });
    }
}

#[test]
fn messages_whose_sizes_are_counted_otherwise_are_not_fetched_again() {
    delivers(2, Scenario { events: vec![(0, NEW), (0, NEW), (1, File), (2, Recount)], ..Scenario::plain() });
}

#[test]
fn message_numbers_as_unique_ids_name_nothing() {
    let events = vec![(0, NEW), (0, NEW), (0, NEW), (1, OtherDeletes(0)), (2, NEW)];
    for keep in [Keep::Forever, Keep::Nothing, Keep::TwoWeeks] {
        delivers(4, Scenario { uids: Uids::Numbers, keep, events: events.clone(), ..Scenario::plain() });
    }
}

#[test]
fn a_uidl_that_is_empty_for_once_repeats_nothing() {
    let events = vec![(0, NEW), (0, NEW), (1, EmptyUidl), (1, NEW)];
    delivers(3, Scenario { events, ..Scenario::plain() });
}

#[test]
fn a_uidl_with_holes_for_once_repeats_nothing() {
    let events = vec![(0, NEW), (0, NEW), (0, NEW), (1, Holes(0)), (2, Holes(1)), (2, NEW)];
    delivers(4, Scenario { events, ..Scenario::plain() });
}

#[test]
fn a_uidl_that_is_always_empty_repeats_nothing() {
    let events = vec![(0, NEW), (0, NEW), (4, OtherDeletes(0)), (5, NEW)];
    delivers(3, Scenario { uids: Uids::Empty, events: events.clone(), ..Scenario::plain() });
    delivers(3, Scenario { uids: Uids::Empty, top: Top::Nameless, events, ..Scenario::plain() });
}

#[test]
fn a_mail_of_the_same_words_in_each_poll_arrives_each_time() {
    let equal = |poll| (poll, Arrive(Equal, 0, Sound));
    delivers(4, Scenario { events: vec![(0, WEAK), equal(1), equal(2), equal(3)], ..none() });
}

#[test]
fn a_few_renumbered_messages_are_not_fetched_again() {
    for keep in [Keep::Forever, Keep::TwoWeeks] {
        let events = vec![(0, NEW), (0, NEW), (1, Renumber), (2, NEW), (3, Renumber)];
        delivers(3, Scenario { keep, events, ..Scenario::plain() });
    }
}

#[test]
fn marked_messages_are_not_fetched_when_their_sizes_change() {
    for first in [First::Marks, First::Skips] {
        for top in [Top::Works, Top::Nameless, Top::Missing] {
            for old in [NEW, WEAK] {
                let events = vec![(0, old), (1, Recount), (2, NEW)];
                delivers(1, Scenario { first, top, events, ..Scenario::plain() });
            }
        }
    }
}

#[test]
fn marked_messages_are_not_fetched_when_they_are_renumbered() {
    for first in [First::Marks, First::Skips] {
        delivers(0, Scenario { first, events: vec![(0, NEW), (0, NEW), (1, Renumber)], ..Scenario::plain() });
    }
}

#[test]
fn a_header_that_the_server_writes_into_is_the_same() {
    for writes in [Writes::Status, Writes::XUidl] {
        for uids in [Uids::Honest, Uids::Missing, Uids::Header] {
            let events = vec![(0, NEW), (0, NEW), (1, NEW)];
            delivers(3, Scenario { uids, writes, events, ..Scenario::plain() });
        }
    }
}

#[test]
fn a_message_that_a_kill_left_unrecorded_is_known_though_the_server_wrote_into_it() {
    for writes in [Writes::Nothing, Writes::Status] {
        let events = vec![(0, NEW), (0, Kill(At::Delivered(0)))];
        delivers(1, Scenario { writes, events, ..Scenario::plain() });
    }
}

#[test]
fn a_lost_state_and_other_unique_ids_together_repeat_nothing() {
    delivers(1, Scenario { events: vec![(0, NEW), (2, LoseState), (2, Renumber)], ..Scenario::plain() });
}

#[test]
fn unique_ids_that_change_in_each_session_repeat_nothing() {
    for keep in [Keep::Forever, Keep::Nothing] {
        delivers(
            2,
            Scenario { uids: Uids::Random, keep, events: vec![(0, NEW), (0, NEW)], ..Scenario::plain() },
        );
    }
}

#[test]
fn a_held_message_among_those_without_unique_id_keeps_no_other_away() {
    let refused = Arrive(Normal, 0, Flaw::Refused(0));
    delivers(
        3,
        Scenario {
            uids: Uids::Missing,
            events: vec![(0, NEW), (0, refused), (0, NEW), (1, NEW)],
            ..Scenario::plain()
        },
    );
}

#[test]
fn a_deleted_message_that_a_backup_brings_back_is_not_delivered_again() {
    for writes in [Writes::Nothing, Writes::Status] {
        delivers(1, Scenario { writes, events: vec![(0, NEW), (2, Restore)], ..none() });
    }
}

#[test]
fn a_message_whose_deletion_was_ignored_is_known_under_another_unique_id() {
    delivers(1, Scenario { deletes: Deletes::Ignored, events: vec![(0, NEW), (1, Renumber)], ..none() });
}

#[test]
fn a_weak_message_of_another_size_under_a_known_unique_id_is_fetched() {
    let events = vec![(0, WEAK), (1, OtherDeletes(0)), (1, Arrive(SameHeader, 0, Sound))];
    delivers(2, Scenario { uids: Uids::Small, events, ..Scenario::plain() });
}

#[test]
fn a_weak_message_of_the_header_and_size_of_a_deleted_one_is_fetched() {
    let same = Arrive(SameSize, 0, Sound);
    delivers(2, Scenario { uids: Uids::Small, events: vec![(0, WEAK), (2, same)], ..none() });
    for at in [At::Dele(0), At::Quit, At::Obeyed] {
        let events = vec![(0, WEAK), (0, Kill(at)), (1, OtherDeletes(0)), (2, same)];
        delivers(2, Scenario { uids: Uids::Small, events, ..none() });
    }
}

#[test]
fn what_came_without_an_octet_is_delivered_late_and_stays_on_the_server() {
    for flaw in [Flaw::Zero(0), Flaw::Short(0)] {
        delivers_and_leaves(1, 1, Scenario { events: vec![(0, Arrive(Normal, 0, flaw))], ..none() });
    }
}

#[test]
fn what_came_without_an_octet_and_comes_whole_later_is_delivered_whole() {
    for flaw in [Flaw::Zero(2), Flaw::Short(2)] {
        delivers(1, Scenario { events: vec![(0, Arrive(Normal, 0, flaw))], ..none() });
    }
}

#[test]
fn a_weak_message_equal_to_a_forgotten_one_is_fetched() {
    let events = vec![(0, WEAK), (1, Clock(40 * DAY)), (2, Clock(40 * DAY)), (3, Arrive(Equal, 0, Sound))];
    delivers(2, Scenario { uids: Uids::Header, events, ..none() });
}

#[test]
fn a_listing_without_place_or_identity_that_stays_complete_asks_nothing_at_rest() {
    let events = vec![(0, NEW), (0, NEW), (4, OtherDeletes(0))];
    delivers(2, Scenario { uids: Uids::Empty, top: Top::Nameless, events, ..Scenario::plain() });
}

#[test]
fn a_message_whose_unique_id_another_one_bears_now_is_known_by_its_content() {
    for first in [NEW, WEAK] {
        let events = vec![(0, first), (2, Renumber), (2, NEW)];
        delivers(2, Scenario { uids: Uids::Small, events, ..Scenario::plain() });
    }
}

#[test]
fn what_uidl_leaves_out_of_a_first_listing_is_marked_too() {
    for first in [First::Marks, First::Skips] {
        for event in [Holes(1), EmptyUidl] {
            let events = vec![(0, NEW), (0, NEW), (0, event)];
            delivers(0, Scenario { first, events, ..Scenario::plain() });
        }
    }
}

#[test]
fn an_end_without_its_lf_in_the_place_of_another_message_joins_nothing() {
    for order in [Order::Oldest, Order::Newest] {
        let events = vec![
            (0, Arrive(Normal, 0, Flaw::Unanswered(2))),
            (0, Arrive(Normal, 0, Flaw::Swallows(2))),
            (0, Arrive(Normal, 0, Flaw::Unanswered(2))),
        ];
        delivers(3, Scenario { order, step: DAY, events, ..Scenario::plain() });
    }
}

#[test]
fn deletions_that_are_refused_have_their_turns_within_the_limit() {
    let events = vec![(0, NEW); 4];
    let deletes = Deletes::Refused;
    delivers_and_leaves(4, 4, Scenario { top: Top::Missing, deletes, limit: Some(3), events, ..none() });
}

#[test]
fn what_came_in_the_place_of_another_message_is_not_believed_of_its_place() {
    let events = vec![(0, NEW), (0, Arrive(Equal, 0, Flaw::Unanswered(0))), (0, NEW), (0, NEW)];
    delivers(3, Scenario { uids: Uids::Holes, events, ..Scenario::plain() });
}

#[test]
fn of_two_equal_messages_that_cannot_be_had_each_is_held_in_its_place() {
    let events =
        vec![(0, NEW), (0, Arrive(Normal, 0, Flaw::Short(0))), (0, Arrive(Equal, 9, Flaw::BreaksIn(0)))];
    let (uids, deletes, keep) = (Uids::Plain, Deletes::Ignored, Keep::TwoWeeks);
    delivers_and_leaves(2, 3, Scenario { uids, deletes, keep, step: 3 * DAY, events, ..Scenario::plain() });
}

#[test]
fn what_came_in_the_place_of_another_message_is_not_believed_after_a_kill() {
    // 0 and 3 are of one size.
    for flaw in [Flaw::Unanswered(1), Flaw::Doubled(1)] {
        for uids in [Uids::Honest, Uids::Missing, Uids::Numbers] {
            for kill in [At::Recorded(0), At::Delivered(1), At::Recorded(1)] {
                let first = Arrive(Normal, 0, flaw);
                let events = vec![
                    (0, first),
                    (0, NEW),
                    (0, NEW),
                    (0, NEW),
                    (0, OtherDeletes(1)),
                    (0, OtherDeletes(1)),
                    (0, Kill(kill)),
                ];
                plays(Scenario { uids, events, ..Scenario::plain() }, |_| {});
            }
        }
    }
}

#[test]
fn a_weak_message_whose_deletion_is_not_real_and_that_a_limit_leaves_is_the_same() {
    let events = vec![(0, NEW), (0, Arrive(Weak, 0, Flaw::DeleBreaks))];
    let (uids, sizes) = (Uids::Random, Sizes::Estimate);
    delivers_and_leaves(2, 1, Scenario { uids, sizes, limit: Some(3), events, ..none() });
}

#[test]
fn a_weak_message_that_came_in_the_place_of_another_is_known_by_its_content() {
    let events = vec![(0, Arrive(Normal, 0, Flaw::Unanswered(2))), (0, WEAK)];
    delivers(2, Scenario { sizes: Sizes::Estimate, writes: Writes::Status, events, ..none() });
}

#[test]
fn a_message_that_is_delivered_as_it_came_is_delivered_once() {
    for flaw in [Flaw::Garbled(0), Flaw::Doubled(0)] {
        let events = vec![(0, NEW), (0, Arrive(Weak, 0, flaw))];
        let (uids, sizes, order) = (Uids::Empty, Sizes::Estimate, Order::Newest);
        plays(Scenario { uids, sizes, order, events, ..Scenario::plain() }, |_| {});
    }
}

#[test]
fn a_header_that_another_message_came_behind_proves_no_deletion() {
    let mut events = vec![(0, NEW), (0, NEW), (2, Arrive(Normal, 0, Flaw::Zero(2)))];
    events.extend([(2, NEW); 4]);
    events.extend([(4, Arrive(SameHeader, 0, Sound)), (4, Arrive(Normal, 0, Flaw::Doubled(2)))]);
    plays(Scenario { uids: Uids::Received, events, ..none() }, |_| {});
}

#[test]
fn a_message_of_the_header_of_one_that_is_kept_as_it_came_is_deleted() {
    let events = vec![
        (0, NEW),
        (0, Arrive(SameSize, 7, Flaw::Garbled(0))),
        (2, Arrive(Equal, 2, Flaw::Garbled(2))),
        (3, Arrive(SameSize, 2, Sound)),
        (4, Arrive(Equal, 0, Sound)),
        (5, ShowHalf(0)),
        (5, Kill(At::Delivered(0))),
    ];
    let (uids, top, deletes) = (Uids::Holes, Top::Nameless, Deletes::WithoutQuit);
    plays(Scenario { uids, top, deletes, step: 3 * DAY, polls: 7, events, ..none() }, |_| {});
}

#[test]
fn of_equal_messages_one_that_is_kept_as_it_came_leaves_one() {
    let events = vec![
        (0, NEW),
        (0, NEW),
        (1, NEW),
        (1, Arrive(Normal, 0, Flaw::Garbled(0))),
        (1, Arrive(Normal, 0, Flaw::Doubled(0))),
        (4, Vanish(1)),
        (5, Arrive(Equal, 3, Sound)),
    ];
    let (uids, top) = (Uids::Missing, Top::Nameless);
    plays(Scenario { uids, top, step: DAY, polls: 6, events, ..none() }, |_| {});
}
