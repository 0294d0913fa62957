//! Stories of messages and deletions that break the session, and of answers that are not theirs.

use super::*;

#[test]
fn an_equal_message_is_fetched_once_beside_one_that_breaks_the_session() {
    let equal = Arrive(Equal, 0, Sound);
    let events = vec![(0, NEW), (0, NEW), (2, equal), (2, Arrive(Normal, 0, Flaw::BreaksAfter(0)))];
    delivers(4, Scenario { polls: 3, events, ..Scenario::plain() });
}

#[test]
fn two_messages_that_break_the_session_keep_neither_each_other_nor_a_third_away() {
    for breaks in [Flaw::BreaksBefore as fn(u32) -> Flaw, Flaw::BreaksIn] {
        let events =
            vec![(0, Arrive(Normal, 0, breaks(0))), (0, Arrive(Normal, 0, breaks(2))), (0, NEW), (1, NEW)];
        delivers(3, Scenario { keep: Keep::TwoWeeks, step: DAY, events, ..Scenario::plain() });
    }
}

#[test]
fn a_message_that_comes_whole_before_the_session_breaks_is_fetched() {
    delivers(
        2,
        Scenario {
            events: vec![(0, Arrive(Normal, 0, Flaw::BreaksAfter(0))), (0, NEW)],
            ..Scenario::plain()
        },
    );
}

#[test]
fn a_deletion_that_breaks_the_session_keeps_no_other_away() {
    delivers(
        3,
        Scenario { events: vec![(0, Arrive(Normal, 0, Flaw::DeleBreaks)), (0, NEW), (1, NEW)], ..none() },
    );
}

#[test]
fn a_deletion_that_breaks_the_session_keeps_no_twin_s_away() {
    let breaks = Arrive(Normal, 0, Flaw::DeleBreaks);
    let events = vec![(0, breaks), (0, Arrive(SameSize, 0, Sound))];
    for top in [Top::Works, Top::Nameless] {
        delivers_and_leaves(2, 1, Scenario { uids: Uids::Empty, top, events: events.clone(), ..none() });
    }
}

#[test]
fn messages_that_always_break_the_session_use_up_no_limit() {
    let mut events = vec![(0, Arrive(Normal, 0, Flaw::BreaksBefore(0))); 3];
    events.extend(vec![(0, NEW); 4]);
    delivers(4, Scenario { limit: Some(3), step: 3 * DAY, events, ..Scenario::plain() });
}

#[test]
fn a_deletion_that_breaks_the_session_is_held_though_only_content_tells_its_message() {
    let breaks = Arrive(Normal, 0, Flaw::DeleBreaks);
    for (uids, top) in [(Uids::Missing, Top::Nameless), (Uids::Random, Top::Missing)] {
        let events = vec![(0, NEW), (0, NEW), (1, NEW), (1, breaks), (1, Arrive(SameSize, 0, Sound))];
        delivers_and_leaves(5, 1, Scenario { uids, top, events, ..none() });
    }
}

#[test]
fn messages_that_break_the_session_and_share_their_unique_ids_are_held() {
    let breaks = Arrive(Normal, 0, Flaw::BreaksIn(0));
    let events = vec![(0, breaks), (0, NEW), (0, NEW), (1, breaks), (1, NEW), (1, NEW)];
    delivers(4, Scenario { uids: Uids::Received, events, ..none() });
}

#[test]
fn a_deletion_that_breaks_the_session_is_held_under_whatever_unique_id_comes_next() {
    let events =
        vec![(0, Arrive(Normal, 0, Flaw::DeleBreaks)), (0, Arrive(Equal, 0, Sound)), (0, Holes(0)), (0, NEW)];
    for polls in [1, 4] {
        let events = events.clone();
        delivers_and_leaves(2, 1, Scenario { uids: Uids::Random, polls, events, ..none() });
    }
}

#[test]
fn a_message_that_breaks_the_session_has_its_turn_though_no_quit_is_ever_answered() {
    for deletes in [Deletes::LosesQuit, Deletes::AnswersNoQuit] {
        let mut events = vec![(0, NEW), (0, Arrive(Normal, 0, Flaw::BreaksIn(3)))];
        events.extend((1..6).map(|poll| (poll, NEW)));
        let left = if deletes == Deletes::LosesQuit { 7 } else { 0 };
        delivers_and_leaves(7, left, Scenario { deletes, step: DAY, events, ..none() });
    }
}

#[test]
fn an_answer_that_comes_twice_keeps_no_message_away() {
    for keep in [Keep::Forever, Keep::Nothing] {
        let events = vec![(0, NEW), (0, Arrive(Normal, 0, Flaw::Doubled(0))), (0, NEW), (0, NEW), (1, NEW)];
        plays(Scenario { keep, events, ..Scenario::plain() }, |played| {
            assert!(played.delivered >= 5, "{}", played.words());
        });
    }
}

#[test]
fn what_broke_has_its_turn_beside_deletions_that_are_refused() {
    let mut events =
        vec![(0, WEAK), (0, Arrive(SameHeader, 0, Sound)), (1, Arrive(SameHeader, 0, Sound)), (1, NEW)];
    events.extend([(1, Arrive(Normal, 0, Flaw::Short(2))), (1, Arrive(Normal, 0, Flaw::Short(2)))]);
    events.extend([(1, Arrive(SameSize, 0, Sound)), (1, Arrive(SameHeader, 0, Sound)), (3, OtherDeletes(3))]);
    events.extend([
        (3, Kill(At::Amid(1))),
        (3, Arrive(SameSize, 0, Sound)),
        (3, Arrive(Normal, 0, Flaw::BreaksBefore(2))),
    ]);
    events.extend([(3, Arrive(SameHeader, 0, Sound)), (5, Holes(0))]);
    let (uids, writes, deletes) = (Uids::Numbers, Writes::Status, Deletes::Refused);
    plays(Scenario { uids, writes, deletes, limit: Some(3), polls: 6, events, ..none() }, |_| {});
}
