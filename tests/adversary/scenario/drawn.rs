//! Draws stories by a seed.

use super::Event::*;
use super::{
    At, DAY, Deletes, Event, First, Flaw, HOUR, Keep, Kind, Order, Scenario, Sizes, Top, Uids, Writes,
};

impl Scenario {
    /// Draws one.
    pub fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let dice = &mut dice;
        let mut scenario = Self {
            uids: dice.of(&[
                Uids::Honest,
                Uids::Honest,
                Uids::Small,
                Uids::Numbers,
                Uids::Header,
                Uids::Received,
                Uids::Random,
                Uids::Plain,
                Uids::Missing,
                Uids::Empty,
                Uids::Holes,
            ]),
            top: dice.of(&[Top::Works, Top::Works, Top::Works, Top::Missing, Top::Another, Top::Nameless]),
            sizes: dice.of(&[Sizes::Exact, Sizes::Exact, Sizes::Estimate]),
            writes: dice.of(&[
                Writes::Nothing,
                Writes::Nothing,
                Writes::Nothing,
                Writes::Nothing,
                Writes::Status,
                Writes::XUidl,
            ]),
            deletes: dice.of(&[
                Deletes::Honest,
                Deletes::Honest,
                Deletes::Honest,
                Deletes::LosesQuit,
                Deletes::AnswersNoQuit,
                Deletes::Ignored,
                Deletes::Refused,
                Deletes::WithoutQuit,
            ]),
            pipelining: dice.below(2) == 0,
            keep: dice.of(&[Keep::Nothing, Keep::Nothing, Keep::Forever, Keep::TwoWeeks]),
            first: dice.of(&[First::All; 18]
                .iter()
                .copied()
                .chain([First::Marks, First::Skips])
                .collect::<Vec<_>>()),
            order: dice.of(&[Order::Oldest, Order::Oldest, Order::Oldest, Order::Oldest, Order::Newest]),
            limit: dice.of(&[None, None, None, None, None, None, None, None, None, Some(3)]),
            step: dice.of(&[HOUR, HOUR, DAY, 3 * DAY]),
            polls: 2 + dice.below(6),
            events: Vec::new(),
        };
        for poll in 0..scenario.polls {
            for _ in 0..dice.of(&[0, 1, 1, 2, 3]) {
                let arrives = Arrive(Kind::drawn(dice), dice.below(10), Flaw::drawn(dice));
                scenario.events.push((poll, arrives));
            }
            for _ in 0..dice.of(&[0, 0, 1, 2]) {
                let event = Event::drawn(dice);
                let lost_before = scenario.events.iter().any(|(_, event)| event.loses_state());
                if !(event.loses_state() && lost_before) {
                    scenario.events.push((poll, event));
                }
            }
        }
        scenario
    }
}

impl Event {
    fn drawn(dice: &mut Dice) -> Self {
        match dice.below(25) {
            0 | 1 => OtherDeletes(dice.below(6)),
            2 => Restore,
            3 => Renumber,
            4 => Recount,
            5 => ShowNothing,
            6 => ShowHalf(dice.below(2)),
            7 => LoseQuit { obeyed: dice.below(2) == 0 },
            8..=12 => Kill(At::drawn(dice)),
            13 => LoseState,
            14 => OldState(1 + dice.below(3)),
            15 | 16 => Clock(dice.of(&[-400 * DAY, -DAY, 20 * DAY, 40 * DAY, 100 * DAY])),
            17 => Break(1 + dice.below(12)),
            18 => EmptyUidl,
            19 => Holes(dice.below(2)),
            20 => ForgetDeletions,
            21 => Swap,
            22 => Read,
            23 => Vanish(dice.below(6)),
            _ => File,
        }
    }
}

impl Kind {
    fn drawn(dice: &mut Dice) -> Self {
        dice.of(&[Self::Normal, Self::Normal, Self::Weak, Self::SameHeader, Self::SameSize, Self::Equal])
    }
}

impl Flaw {
    fn drawn(dice: &mut Dice) -> Self {
        let times = dice.of(&[0, 2]);
        match dice.below(30) {
            0 => Self::BreaksBefore(times),
            1 => Self::BreaksIn(times),
            2 => Self::BreaksAfter(times),
            3 => Self::Refused(times),
            4 => Self::Coded(times),
            5 => Self::Zero(times),
            6 => Self::Short(times),
            7 => Self::DeleBreaks,
            8 => Self::Garbled(times),
            9 | 10 => Self::Unanswered(times),
            11 => Self::Swallows(times),
            12 => Self::Doubled(times),
            _ => Self::Sound,
        }
    }
}

impl At {
    fn drawn(dice: &mut Dice) -> Self {
        let number = dice.of(&[0, 0, 1, 2]);
        match dice.below(9) {
            0 => Self::Listing,
            1 => Self::Top(number),
            2 => Self::Retr(number),
            3 => Self::Amid(number),
            4 => Self::Delivered(number),
            5 => Self::Recorded(number),
            6 => Self::Dele(number),
            7 => Self::Quit,
            _ => Self::Obeyed,
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed, everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}
