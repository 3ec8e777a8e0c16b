//! Which models are loaded before they are asked for. A guess is kept for the lookahead: it comes true when its model is asked for
//! until then. Guesses are made and judged whether or not their models are really loaded, so that it is also known while nothing is
//! loaded by guess when they would be good again.
//!
//! ```text
//! likely, not in memory ──▶ guess ──▶ asked for in time: hit
//!                             └─────▶ time is over: miss; the model rests for three lookaheads, or until it is asked for
//! too few of the last guesses are hits ──▶ stopped: guesses are only watched ──▶ enough are hits again: goes on
//! ```

use std::collections::{BTreeMap, VecDeque};

use mms_protocol::prediction::{Likely, PreloadingView};

/// Uses that must be known before anything is guessed.
const MIN_USES: u64 = 20;
/// Guesses that the hit rate is of.
const JUDGED: usize = 20;
/// With fewer, nothing is concluded.
const MIN_JUDGED: usize = 8;
/// To go on, guesses must be better by this factor than those that were a reason to stop.
const BETTER: f64 = 1.5;
/// Lookaheads for which a model whose guess was wrong is not guessed again.
const RESTS: f64 = 3.0;
/// Before a model for which there was no room is tried again, seconds.
const RETRY_S: f64 = 10.0;
/// Models that rest, at most; more are not remembered.
const MAX_RESTING: usize = 1024;

/// When models are loaded before they are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PreloadSettings {
    /// Whether they are.
    pub enabled: bool,
    /// Guesses that are open at once.
    pub max_models: usize,
    /// How likely it must be that a model is asked for within the lookahead, 0 to 1.
    pub min_probability: f64,
    /// With a smaller part of guesses that come true nothing is loaded by guess, 0 to 1.
    pub min_hit_rate: f64,
}

impl Default for PreloadSettings {
    fn default() -> Self {
        Self { enabled: true, max_models: 3, min_probability: 0.5, min_hit_rate: 0.4 }
    }
}

/// A guess whose time is not over.
#[derive(Debug, Clone, Copy)]
struct Open {
    until: f64,
    /// It was loaded, or is being loaded.
    loaded: bool,
    /// When to try to load it, if it is not.
    next_try: f64,
}

/// Whether preloading goes on, when that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Stopped,
    GoesOn,
}

/// Makes and judges guesses. All times are epoch seconds.
#[derive(Debug)]
pub(crate) struct Preloader {
    settings: PreloadSettings,
    lookahead_s: f64,
    open: BTreeMap<String, Open>,
    /// Models that are not guessed, and until when.
    resting: BTreeMap<String, f64>,
    /// Of the last guesses, whether they came true.
    judged: VecDeque<bool>,
    stopped: bool,
    turned: Option<Turn>,
    guesses: u64,
    hits: u64,
    misses: u64,
    loads: u64,
    gave_way: u64,
    stops: u64,
}

impl Preloader {
    pub(crate) fn new(settings: PreloadSettings, lookahead_s: f64) -> Self {
        Self {
            settings,
            lookahead_s,
            open: BTreeMap::new(),
            resting: BTreeMap::new(),
            judged: VecDeque::new(),
            stopped: false,
            turned: None,
            guesses: 0,
            hits: 0,
            misses: 0,
            loads: 0,
            gave_way: 0,
            stops: 0,
        }
    }

    /// Makes guesses and gives those to load now. `uses`: how many are known; `absent`: the model is neither in memory nor on its way
    /// there, and could be loaded.
    pub(crate) fn look(
        &mut self,
        now: f64,
        uses: u64,
        likely: &[Likely],
        absent: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        self.pass(now);
        if uses < MIN_USES || !self.settings.enabled {
            return Vec::new();
        }
        let mut candidates: Vec<&Likely> =
            likely.iter().filter(|model| model.probability >= self.settings.min_probability).collect();
        candidates.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| b.score.total_cmp(&a.score)));
        for model in candidates {
            let id = &model.model_id;
            if self.open.len() >= self.settings.max_models {
                break;
            }
            if !self.open.contains_key(id) && !self.resting.contains_key(id) && absent(id) {
                let open = Open { until: now + self.lookahead_s, loaded: false, next_try: now };
                self.open.insert(id.clone(), open);
                self.guesses += 1;
            }
        }
        if self.stopped {
            return Vec::new();
        }
        let mut load = Vec::new();
        for (id, open) in &mut self.open {
            if !open.loaded && open.next_try <= now && absent(id) {
                open.loaded = true;
                self.loads += 1;
                load.push(id.clone());
            }
        }
        load
    }

    /// The model was asked for.
    pub(crate) fn used(&mut self, now: f64, model: &str) {
        self.pass(now);
        self.resting.remove(model);
        if self.open.remove(model).is_some() {
            self.hits += 1;
            self.judge(true);
        }
    }

    /// A guess could not be loaded; `room`: for want of room, which others may leave.
    pub(crate) fn refused(&mut self, now: f64, model: &str, room: bool) {
        if let Some(open) = self.open.get_mut(model).filter(|open| open.loaded) {
            open.loaded = false;
            open.next_try = if room { now + RETRY_S } else { f64::INFINITY };
            self.loads -= 1;
        }
        if !room {
            self.rest(model, now + RESTS * self.lookahead_s);
        }
    }

    /// The model has left memory.
    pub(crate) fn left(&mut self, now: f64, model: &str, reason: &str) {
        match reason {
            "evicted" => {
                if let Some(open) = self.open.get_mut(model).filter(|open| open.loaded) {
                    self.gave_way += 1;
                    (open.loaded, open.next_try) = (false, now + RETRY_S);
                }
            }
            // Somebody does not want it there.
            "requested" => self.rest(model, f64::INFINITY),
            "idle" => self.rest(model, now + RESTS * self.lookahead_s),
            _ => {}
        }
    }

    /// Whether it was stopped or goes on since this was last asked.
    pub(crate) fn turned(&mut self) -> Option<Turn> {
        self.turned.take()
    }

    pub(crate) fn view(&self) -> PreloadingView {
        let active = self.settings.enabled && !self.stopped;
        let rate = self.hit_rate();
        let of_last = |rate: f64| format!("{:.0} % of the last {} guesses came true", rate * 100.0, self.judged.len());
        let detail = match rate {
            _ if !self.settings.enabled => "switched off (prediction.preload)".to_owned(),
            Some(rate) if self.stopped => {
                let (stop, again) = (self.settings.min_hit_rate * 100.0, self.goes_on_at() * 100.0);
                format!(
                    "stopped: below {stop:.0} % nothing is loaded by guess, until {again:.0} % are reached; {}",
                    of_last(rate)
                )
            }
            Some(rate) => of_last(rate),
            None => "too few guesses yet to judge them".to_owned(),
        };
        PreloadingView {
            enabled: self.settings.enabled,
            active,
            detail,
            hit_rate: rate,
            guesses: self.guesses,
            hits: self.hits,
            misses: self.misses,
            loads: self.loads,
            gave_way: self.gave_way,
            stops: self.stops,
        }
    }

    /// What has been over by now.
    fn pass(&mut self, now: f64) {
        self.resting.retain(|_, until| *until > now);
        let over: Vec<String> =
            self.open.iter().filter(|(_, open)| open.until <= now).map(|(id, _)| id.clone()).collect();
        for model in over {
            self.open.remove(&model);
            self.misses += 1;
            self.rest(&model, now + RESTS * self.lookahead_s);
            self.judge(false);
        }
    }

    fn rest(&mut self, model: &str, until: f64) {
        if self.resting.len() < MAX_RESTING || self.resting.contains_key(model) {
            let known = self.resting.entry(model.to_owned()).or_insert(until);
            *known = known.max(until);
        }
    }

    fn judge(&mut self, hit: bool) {
        if self.judged.len() == JUDGED {
            self.judged.pop_front();
        }
        self.judged.push_back(hit);
        let Some(rate) = self.hit_rate() else { return };
        if !self.stopped && rate < self.settings.min_hit_rate {
            self.stopped = true;
            self.stops += 1;
            self.turned = Some(Turn::Stopped);
        } else if self.stopped && rate >= self.goes_on_at() {
            self.stopped = false;
            self.turned = Some(Turn::GoesOn);
        }
    }

    fn goes_on_at(&self) -> f64 {
        (self.settings.min_hit_rate * BETTER).min(1.0)
    }

    fn hit_rate(&self) -> Option<f64> {
        let hits = self.judged.iter().filter(|hit| **hit).count();
        (self.judged.len() >= MIN_JUDGED).then(|| hits as f64 / self.judged.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use mms_protocol::prediction::Likely;
    use proptest::prelude::*;

    use super::{MIN_USES, PreloadSettings, Preloader, Turn};

    const LOOKAHEAD: f64 = 300.0;

    fn preloader() -> Preloader {
        Preloader::new(PreloadSettings::default(), LOOKAHEAD)
    }

    fn likely(models: &[(&str, f64)]) -> Vec<Likely> {
        let of = |(model, probability): &(&str, f64)| Likely {
            model_id: (*model).to_owned(),
            score: *probability,
            probability: *probability,
        };
        models.iter().map(of).collect()
    }

    #[test]
    fn what_is_likely_and_not_there_is_loaded_the_likeliest_first() {
        let mut preloader = preloader();
        let models = likely(&[("a", 0.6), ("b", 0.9), ("c", 0.3), ("d", 0.7), ("e", 0.55), ("f", 0.8)]);
        assert!(preloader.look(0.0, MIN_USES - 1, &models, |_| true).is_empty(), "too little is known");
        assert_eq!(preloader.look(0.0, MIN_USES, &models, |model| model != "f"), ["a", "b", "d"]);
        assert!(preloader.look(1.0, MIN_USES, &models, |_| true).is_empty(), "as many as may be open are");
        preloader.used(2.0, "b");
        assert_eq!(preloader.look(2.0, MIN_USES, &models, |model| model != "b"), ["f"]);
        let view = preloader.view();
        assert_eq!((view.guesses, view.hits, view.loads, view.hit_rate), (4, 1, 4, None));
    }

    #[test]
    fn a_wrong_guess_rests_and_so_does_what_somebody_sent_away() {
        let mut preloader = preloader();
        let models = likely(&[("a", 0.9)]);
        assert_eq!(preloader.look(0.0, MIN_USES, &models, |_| true), ["a"]);
        assert!(preloader.look(300.0, MIN_USES, &models, |_| true).is_empty());
        assert_eq!(preloader.view().misses, 1);
        assert_eq!(preloader.look(1200.0, MIN_USES, &models, |_| true), ["a"], "it has rested");
        preloader.used(1201.0, "a");
        preloader.left(1202.0, "a", "requested");
        assert!(preloader.look(1e9, MIN_USES, &models, |_| true).is_empty(), "until it is asked for");
        preloader.used(1e9, "a");
        assert_eq!(preloader.look(1e9, MIN_USES, &models, |_| true), ["a"]);
    }

    #[test]
    fn for_what_there_was_no_room_is_tried_again() {
        let mut preloader = preloader();
        let models = likely(&[("a", 0.9)]);
        assert_eq!(preloader.look(0.0, MIN_USES, &models, |_| true), ["a"]);
        preloader.refused(0.0, "a", true);
        assert!(preloader.look(5.0, MIN_USES, &models, |_| true).is_empty());
        assert_eq!(preloader.look(10.0, MIN_USES, &models, |_| true), ["a"]);
        preloader.left(11.0, "a", "evicted");
        assert_eq!(preloader.look(30.0, MIN_USES, &models, |_| true), ["a"]);
        preloader.refused(31.0, "a", false);
        assert!(preloader.look(200.0, MIN_USES, &models, |_| true).is_empty(), "it cannot be loaded");
        let view = preloader.view();
        assert_eq!((view.guesses, view.loads, view.gave_way), (1, 1, 1));
    }

    #[test]
    fn poor_guesses_end_it_and_good_ones_let_it_go_on() {
        let mut preloader = preloader();
        let models = likely(&[("a", 0.9)]);
        let mut now = 0.0;
        let mut rounds = |preloader: &mut Preloader, until: Turn, hit: bool| {
            let mut loads = 0;
            for _ in 0..100 {
                now += 2000.0;
                loads += preloader.look(now, MIN_USES, &models, |_| true).len();
                if hit {
                    preloader.used(now + 1.0, "a");
                } else {
                    preloader.look(now + LOOKAHEAD, MIN_USES, &[], |_| true);
                }
                if preloader.turned() == Some(until) {
                    return loads;
                }
            }
            panic!("never {until:?}")
        };
        assert_eq!(rounds(&mut preloader, Turn::Stopped, false), 8);
        assert!(!preloader.view().active, "{:?}", preloader.view());
        assert_eq!(rounds(&mut preloader, Turn::GoesOn, true), 0, "guesses are only watched meanwhile");
        let view = preloader.view();
        assert!(view.active && view.hit_rate.unwrap() >= 0.6 && view.stops == 1, "{view:?}");
        assert!(rounds(&mut preloader, Turn::Stopped, false) > 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Look(Vec<(usize, f64)>),
        Used(usize),
        Refused(usize, bool),
        Left(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop::collection::vec((0_usize..6, 0.0..1.0), 0..6).prop_map(Step::Look),
            3 => (0_usize..6).prop_map(Step::Used),
            1 => (0_usize..6, any::<bool>()).prop_map(|(model, room)| Step::Refused(model, room)),
            1 => (0_usize..6, 0_usize..3).prop_map(|(model, why)| Step::Left(model, why)),
        ]
    }

    proptest! {
        #[test]
        fn every_guess_is_judged_once_and_never_too_many_are_open(steps in prop::collection::vec((step(), 0.0_f64..400.0), 0..200)) {
            let mut preloader = preloader();
            let name = |model: usize| format!("m{model}");
            let mut now = 0.0;
            for (step, pause) in steps {
                now += pause;
                match step {
                    Step::Look(models) => {
                        let models: Vec<Likely> = models.iter().map(|(model, probability)| Likely {
                            model_id: name(*model), score: *probability, probability: *probability,
                        }).collect();
                        let before = preloader.view();
                        let load = preloader.look(now, MIN_USES, &models, |_| true);
                        prop_assert!(before.active || load.is_empty() || preloader.view().active);
                        prop_assert!(load.iter().all(|model| preloader.open.contains_key(model)));
                    }
                    Step::Used(model) => preloader.used(now, &name(model)),
                    Step::Refused(model, room) => preloader.refused(now, &name(model), room),
                    Step::Left(model, why) => preloader.left(now, &name(model), ["evicted", "requested", "idle"][why]),
                }
                let view = preloader.view();
                prop_assert!(preloader.open.len() <= 3);
                prop_assert_eq!(view.guesses, view.hits + view.misses + preloader.open.len() as u64);
                prop_assert!(view.hit_rate.is_none_or(|rate| (0.0..=1.0).contains(&rate)));
            }
        }
    }
}
