//! Who goes first, and who has to go for it, as plain figures.
//!
//! **Reload cost** `R` of a model: what its last load took, else half a second and one second for each GiB.
//!
//! **Victims**: of all sets of models whose memory would do, the one that is cheapest, without a model that is not needed. A model
//! costs `R / (idle + 10 s)`: seconds of loading, by how soon it is probably wanted, where `idle` is the time since its last work, or
//! the mean time between its requests if that is more. One that is asked for seldom is cheap, one that loads for long is dear, and
//! every further victim adds to the cost. Costs are compared by class: a set that takes a model of
//! a higher priority is dearer than any that does not, one with a model that is at work is dearer than any without, and one of
//! models that were only loaded by guess is the cheapest.
//!
//! **Turns**: models that wait for memory stand in the order of `age + head start - R / n`, where `age` is that of the oldest request,
//! or the time since the model's queue was last served if that is less, `n` counts the requests, so `R / n` is what a load costs each of them, and the head start is 0, 10 and 30 s for low, medium and
//! high priority. All who wait grow older alike, so whoever waits is overtaken only by what comes within the next `30 s + R`.
//!
//! **Batching and its bound**: a resident model goes on with the requests that come for it although others wait. But as soon as one of
//! those has waited for `R` (0.1 to 30 s), every resident model that has had its turn - four times its own `R` since it was loaded (1
//! to 120 s), twice that with high priority, half with low - may be told to end its work under way and go. So at least four fifths of
//! the time go to answers, and with `k` models on one place a request at the head of its queue waits for at most `k` turns, loads and
//! ends of work under way.

use std::time::Duration;

use crate::catalogue::Priority;

/// A model whose memory could be had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) id: &'a str,
    pub(super) priority: Priority,
    /// It was loaded by guess, and nobody has asked for it.
    pub(super) guess: bool,
    /// It has work or is wanted.
    pub(super) busy: bool,
    /// Since its last work, or the mean time between its requests if that is more; of one at work, since its turn was over.
    pub(super) idle: Duration,
    pub(super) reload: Duration,
}

/// A model that waits for memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting<'a> {
    pub(super) id: &'a str,
    pub(super) priority: Priority,
    /// Of its oldest request, or since its queue was last served when that is later.
    pub(super) age: Duration,
    pub(super) requests: usize,
    pub(super) reload: Duration,
}

/// What loading the model again would take.
pub(super) fn reload_cost(last_load: Option<Duration>, mb: f64) -> Duration {
    let guess = || Duration::from_millis(500) + Duration::from_secs_f64((mb / 1024.0).clamp(0.0, 3600.0));
    last_load.unwrap_or_else(guess).max(Duration::from_millis(10))
}

/// How long a model waits before one at work has to go for it.
pub(super) fn patience(reload: Duration) -> Duration {
    reload.clamp(Duration::from_millis(100), Duration::from_secs(30))
}

/// How long a model that was loaded may go on working while others wait.
pub(super) fn turn(reload: Duration, priority: Priority) -> Duration {
    let medium = (reload * 4).clamp(Duration::from_secs(1), Duration::from_secs(120));
    match priority {
        Priority::Low => medium / 2,
        Priority::Medium => medium,
        Priority::High => medium * 2,
    }
}

/// Whose turn it is: the larger goes first, the id decides among equals.
pub(super) fn urgency(waiting: &Waiting<'_>) -> f64 {
    let head_start = match waiting.priority {
        Priority::Low => 0.0,
        Priority::Medium => 10.0,
        Priority::High => 30.0,
    };
    waiting.age.as_secs_f64() + head_start - waiting.reload.as_secs_f64() / waiting.requests.max(1) as f64
}

/// Puts whose turn it is first.
pub(super) fn order(waiting: &mut [Waiting<'_>]) {
    waiting.sort_by(|a, b| urgency(b).total_cmp(&urgency(a)).then_with(|| a.id.cmp(b.id)));
}

/// The cheapest of the candidates whose memory is enough; `None`: not even all of it is.
pub(super) fn victims<'a>(
    mut candidates: Vec<Candidate<'a>>,
    enough: impl Fn(&[&'a str]) -> bool,
) -> Option<Vec<&'a str>> {
    candidates.sort_by(|a, b| {
        let by_cost = class(a).cmp(&class(b)).then_with(|| cost(a).total_cmp(&cost(b)));
        by_cost.then_with(|| b.idle.cmp(&a.idle)).then_with(|| a.id.cmp(b.id))
    });
    // Cheap ones until it is enough, less those that are not needed, dear ones first...
    let mut chosen: Vec<Candidate<'a>> = Vec::new();
    let mut rest = candidates.iter();
    while !enough(&ids(&chosen)) {
        chosen.push(*rest.next()?);
    }
    for at in (0..chosen.len()).rev() {
        let without: Vec<Candidate<'a>> =
            chosen.iter().enumerate().filter(|&(other, _)| other != at).map(|(_, candidate)| *candidate).collect();
        if enough(&ids(&without)) {
            chosen = without;
        }
    }
    // ... unless one alone is enough and cheaper than all of them.
    let single = candidates.iter().find(|candidate| enough(&[candidate.id]));
    match single {
        Some(single) if price(&[*single]) < price(&chosen) => Some(vec![single.id]),
        _ => Some(ids(&chosen)),
    }
}

fn ids<'a>(candidates: &[Candidate<'a>]) -> Vec<&'a str> {
    candidates.iter().map(|candidate| candidate.id).collect()
}

/// 0: a guess; 1 to 6: low, medium, high, and the same at work.
fn class(candidate: &Candidate<'_>) -> usize {
    if candidate.guess {
        return 0;
    }
    let priority = match candidate.priority {
        Priority::Low => 1,
        Priority::Medium => 2,
        Priority::High => 3,
    };
    priority + if candidate.busy { 3 } else { 0 }
}

fn cost(candidate: &Candidate<'_>) -> f64 {
    candidate.reload.as_secs_f64() / (candidate.idle.as_secs_f64() + 10.0)
}

/// The cost by class, the dearest class first: compared in this order.
fn price(candidates: &[Candidate<'_>]) -> [f64; 7] {
    let mut price = [0.0; 7];
    for candidate in candidates {
        price[6 - class(candidate)] += cost(candidate);
    }
    price
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Candidate, Waiting, order, price, turn, urgency, victims};
    use crate::catalogue::Priority;

    const PRIORITIES: [Priority; 3] = [Priority::Low, Priority::Medium, Priority::High];

    fn candidate(id: &'static str, idle: u64, reload: u64) -> Candidate<'static> {
        let (idle, reload) = (Duration::from_secs(idle), Duration::from_secs(reload));
        Candidate { id, priority: Priority::Medium, guess: false, busy: false, idle, reload }
    }

    /// Sizes are behind the names: `a5` holds 5.
    fn chosen(candidates: &[Candidate<'static>], need: u32) -> String {
        let size = |id: &str| id[1..].parse::<u32>().unwrap();
        let enough = |ids: &[&str]| ids.iter().map(|id| size(id)).sum::<u32>() >= need;
        victims(candidates.to_vec(), enough).map_or_else(|| "nobody".to_owned(), |ids| ids.join(" "))
    }

    #[test]
    fn who_has_to_go() {
        let [small, other, large] = [candidate("a2", 60, 2), candidate("b2", 50, 2), candidate("c6", 60, 6)];
        assert_eq!(chosen(&[small, other, large], 2), "a2", "a small one suffices, the longest idle");
        assert_eq!(chosen(&[small, other, large], 5), "c6", "one suffices: not three");
        assert_eq!(chosen(&[small, other, large], 7), "a2 c6");
        assert_eq!(chosen(&[small, other, large], 11), "nobody");
        let fresh = candidate("d2", 1, 2);
        assert_eq!(chosen(&[fresh, candidate("e2", 1, 20)], 2), "d2", "what loads fast");
        let high = Candidate { priority: Priority::High, ..candidate("h6", 3600, 1) };
        let low = Candidate { priority: Priority::Low, ..candidate("l2", 1, 60) };
        assert_eq!(chosen(&[high, small, low], 2), "l2", "priority before cost");
        assert_eq!(chosen(&[high, small, other], 4), "a2 b2");
        let busy = Candidate { busy: true, ..low };
        assert_eq!(chosen(&[busy, high], 2), "h6", "idle before busy");
        let guess = Candidate { guess: true, ..high };
        assert_eq!(chosen(&[guess, low], 2), "h6", "what was only guessed before all others");
    }

    #[test]
    fn whose_turn_it_is() {
        let waiting = |id, age, requests, reload| Waiting {
            id,
            priority: Priority::Medium,
            age: Duration::from_secs(age),
            requests,
            reload: Duration::from_secs(reload),
        };
        let check = |mut list: Vec<Waiting<'_>>, expect: &str| {
            order(&mut list);
            assert_eq!(list.iter().map(|waiting| waiting.id).collect::<String>(), expect);
        };
        check(vec![waiting("a", 3, 1, 2), waiting("b", 5, 1, 2)], "ba");
        check(vec![waiting("a", 3, 1, 8), waiting("b", 2, 8, 8)], "ba");
        check(vec![waiting("a", 20, 1, 8), waiting("b", 2, 8, 8)], "ab");
        let high = Waiting { priority: Priority::High, ..waiting("h", 0, 1, 2) };
        check(vec![waiting("a", 3, 1, 2), high], "ha");
        check(vec![waiting("a", 30, 1, 2), high], "ah");
    }

    fn anybody() -> impl Strategy<Value = (u32, usize, bool, u64, u64)> {
        (1_u32..100, 0_usize..3, any::<bool>(), 0_u64..1000, 1_u64..100)
    }

    proptest! {
        #[test]
        fn victims_are_enough_and_none_is_needless(list in prop::collection::vec(anybody(), 0..8), need in 0_u32..400) {
            let names: Vec<String> = (0..list.len()).map(|n| n.to_string()).collect();
            let all: Vec<Candidate<'_>> = list.iter().zip(&names).map(|(&(_, priority, busy, idle, reload), id)| {
                let (idle, reload) = (Duration::from_secs(idle), Duration::from_secs(reload));
                Candidate { id, priority: PRIORITIES[priority], guess: false, busy, idle, reload }
            }).collect();
            let held = |ids: &[&str]| ids.iter().map(|id| list[id.parse::<usize>().unwrap()].0).sum::<u32>();
            let everything: Vec<&str> = names.iter().map(String::as_str).collect();
            match victims(all.clone(), |ids| held(ids) >= need) {
                None => prop_assert!(held(&everything) < need),
                Some(gone) => {
                    prop_assert!(held(&gone) >= need);
                    for out in &gone {
                        let rest: Vec<&str> = gone.iter().filter(|id| id != &out).copied().collect();
                        prop_assert!(held(&rest) < need, "{out} had not to go");
                    }
                    let taken: Vec<Candidate<'_>> = all.iter().filter(|one| gone.contains(&one.id)).copied().collect();
                    for one in all.iter().filter(|one| held(&[one.id]) >= need) {
                        prop_assert!(price(&taken) <= price(&[*one]), "{} alone was cheaper", one.id);
                    }
                }
            }
        }

        #[test]
        fn whoever_waits_is_overtaken_only_by_what_comes_soon(
            priority in 0_usize..3, other in 0_usize..3, reload in 0_u64..100, requests in 1_usize..50, lead in 0_u64..300,
        ) {
            let reload = Duration::from_secs(reload);
            let first = Waiting {
                id: "first", priority: PRIORITIES[priority], age: Duration::from_secs(lead), requests: 1, reload,
            };
            let next = Waiting { id: "next", priority: PRIORITIES[other], age: Duration::ZERO, requests, reload };
            prop_assert!(Duration::from_secs(lead) < reload + Duration::from_secs(30) || urgency(&first) >= urgency(&next));
            prop_assert!(turn(reload, PRIORITIES[priority]) <= Duration::from_secs(240));
        }
    }
}
