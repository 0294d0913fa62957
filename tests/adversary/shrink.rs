//! Makes a failing story as short as it can be.

use super::judge::Wrong;
use super::play::Bench;
use super::scenario::{
    Deletes, Event, First, Flaw, HOUR, Keep, Kind, Order, Scenario, Sizes, Top, Uids, Writes,
};

/// Gives the shortest story found in which the same is wrong.
pub fn shrunk(bench: &mut Bench, scenario: &Scenario, wrong: Wrong) -> Scenario {
    let mut fails = |scenario: &Scenario| {
        bench.play(scenario, false).found.first().is_some_and(|found| found.kind == wrong)
    };
    let mut shortest = scenario.clone();
    loop {
        let before = shortest.clone();
        for candidate in leaving_out(&shortest) {
            // Counted from the end, so that the indices stay.
            if candidate < shortest.events.len() {
                let mut shorter = shortest.clone();
                shorter.events.remove(candidate);
                if fails(&shorter) {
                    shortest = shorter;
                }
            }
        }
        for plainer in PLAINER {
            let mut candidate = shortest.clone();
            plainer(&mut candidate);
            if candidate != shortest && fails(&candidate) {
                shortest = candidate;
            }
        }
        for index in 0..shortest.events.len() {
            for plainer in PLAINER_EVENT {
                let mut candidate = shortest.clone();
                plainer(&mut candidate, index);
                if candidate != shortest && fails(&candidate) {
                    shortest = candidate;
                }
            }
        }
        while shortest.polls > 1 && shortest.events.iter().all(|(poll, _)| *poll + 1 < shortest.polls) {
            let candidate = Scenario { polls: shortest.polls - 1, ..shortest.clone() };
            if !fails(&candidate) {
                break;
            }
            shortest = candidate;
        }
        if shortest == before {
            return shortest;
        }
    }
}

fn leaving_out(scenario: &Scenario) -> impl Iterator<Item = usize> + use<> {
    (0..scenario.events.len()).rev()
}

const PLAINER: [fn(&mut Scenario); 13] = [
    |scenario| scenario.order = Order::Oldest,
    |scenario| scenario.limit = None,
    |scenario| scenario.top = Top::Works,
    |scenario| scenario.sizes = Sizes::Exact,
    |scenario| scenario.writes = Writes::Nothing,
    |scenario| scenario.deletes = Deletes::Honest,
    |scenario| scenario.first = First::All,
    |scenario| scenario.pipelining = true,
    |scenario| scenario.uids = Uids::Honest,
    |scenario| scenario.keep = Keep::Forever,
    |scenario| {
        if scenario.keep == Keep::TwoWeeks {
            scenario.keep = Keep::Nothing;
        }
    },
    |scenario| scenario.step = HOUR,
    |scenario| scenario.events.sort_by_key(|(poll, _)| *poll),
];

/// Make the event in this place plainer, or have it happen earlier.
const PLAINER_EVENT: [fn(&mut Scenario, usize); 4] = [
    |scenario, index| {
        if let (_, Event::Arrive(_, _, flaw)) = &mut scenario.events[index] {
            *flaw = Flaw::Sound;
        }
    },
    |scenario, index| {
        if let (_, Event::Arrive(kind, like, _)) = &mut scenario.events[index] {
            (*kind, *like) = (Kind::Normal, 0);
        }
    },
    |scenario, index| {
        if let (_, Event::Arrive(_, like, _)) = &mut scenario.events[index] {
            *like = 0;
        }
    },
    |scenario, index| {
        let poll = scenario.events[index].0;
        let is_first = index == 0 || scenario.events[index - 1].0 < poll;
        if poll > 0 && is_first {
            scenario.events[index].0 = poll - 1;
        }
    },
];
