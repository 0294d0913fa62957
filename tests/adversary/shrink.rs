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
            for plainer in plainer_events(&shortest, index) {
                if plainer != shortest && fails(&plainer) {
                    shortest = plainer;
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

/// Gives stories with a plainer or earlier event in this place.
fn plainer_events(scenario: &Scenario, index: usize) -> Vec<Scenario> {
    let with = |poll: usize, event: Event| {
        let mut other = scenario.clone();
        other.events[index] = (poll, event);
        other
    };
    let (poll, event) = scenario.events[index];
    let mut plainer = Vec::new();
    if let Event::Arrive(kind, like, flaw) = event {
        plainer.push(with(poll, Event::Arrive(kind, like, Flaw::Sound)));
        plainer.push(with(poll, Event::Arrive(Kind::Normal, 0, flaw)));
        plainer.push(with(poll, Event::Arrive(kind, 0, flaw)));
    }
    let is_first = index == 0 || scenario.events[index - 1].0 < poll;
    if poll > 0 && is_first {
        plainer.push(with(poll - 1, event));
    }
    plainer
}
