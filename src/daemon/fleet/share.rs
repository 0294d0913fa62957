//! How many maildrops a worker takes over from whoever has more: each is polled first by who polled it last, so that one that
//! has just begun would have none for as long as the others are in time. Pure.

use std::collections::HashMap;

/// Gives from whom how many are taken over, so that this worker has about as many as each of those that live; a tenth less
/// does not matter. `owned` counts the maildrops that each polled last, and `live` names all that poll.
pub fn taken_over(own: i64, live: &[i64], owned: &HashMap<i64, u64>) -> Vec<(i64, u64)> {
    let has = |worker: &i64| owned.get(worker).copied().unwrap_or(0);
    let workers = live.len().max(1) as u64;
    let fair = live.iter().map(has).sum::<u64>() / workers;
    let mut lacks = fair.saturating_sub(has(&own));
    if lacks * 10 <= fair {
        return Vec::new();
    }
    let mut richer: Vec<(i64, u64)> =
        live.iter().map(|worker| (*worker, has(worker).saturating_sub(fair))).collect();
    richer.retain(|(worker, more)| *worker != own && *more > 0);
    richer.sort_unstable_by_key(|(worker, more)| (std::cmp::Reverse(*more), *worker));
    let take = |(worker, more): (i64, u64)| {
        let some = more.min(lacks);
        lacks -= some;
        (some > 0).then_some((worker, some))
    };
    richer.into_iter().map_while(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(own: i64, owned: &[(i64, u64)]) -> Vec<(i64, u64)> {
        let live: Vec<i64> = owned.iter().map(|(worker, _)| *worker).collect();
        taken_over(own, &live, &owned.iter().copied().collect())
    }

    #[test]
    fn whoever_has_less_takes_what_others_have_beyond_their_share() {
        assert_eq!(taken(2, &[(1, 200), (2, 0)]), [(1, 100)]);
        assert_eq!(taken(3, &[(1, 120), (2, 180), (3, 0)]), [(2, 80), (1, 20)]);
        assert_eq!(taken(1, &[(1, 10), (2, 10), (3, 400)]), [(3, 130)]);
    }

    #[test]
    fn whoever_has_about_its_share_takes_nothing() {
        for owned in [&[(1, 100), (2, 91)][..], &[(1, 0)], &[(1, 1), (2, 0)], &[(1, 50), (2, 0), (3, 300)]] {
            let richest = owned.iter().max_by_key(|(_, count)| *count).unwrap().0;
            assert_eq!(taken(richest, owned), [], "{owned:?}");
        }
        assert_eq!(taken(2, &[(1, 100), (2, 91)]), []);
        // Those of whoever has gone are for all.
        assert_eq!(taken_over(2, &[1, 2], &[(1, 10), (2, 10), (9, 500)].into()), []);
    }
}
