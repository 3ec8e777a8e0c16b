//! Plays a trace of uses through the predictor and through simpler rules, in virtual time and with the same memory.
//!
//! **Moments**: after each use, and every [`Terms::every_s`] seconds, each rule names its models, best first; those are kept, as far as
//! the memory goes, until the next moment. **Hit**: a use whose model is kept at its arrival and was loaded by then; a model that was
//! not there at the last moment is loaded [`Terms::load_s`] seconds after it was named. A use that is no hit loads its model, too.
//! All rules name models at the same moments and as many as there are places, but for [`Rule::PredictorIfLikely`]: a rule with too few
//! of its own goes on with those used last. No rule knows more than what was before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;

use super::{Moment, Predictor, PredictorSettings};

/// One use.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceUse {
    /// Epoch seconds.
    pub time: f64,
    /// What is asked for.
    pub model: String,
    /// By whom, where that is known.
    pub client: Option<String>,
}

/// What holds for every rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Most models that are kept.
    pub places: usize,
    /// What those together may take, MiB; `None`: anything.
    pub budget_mb: Option<f64>,
    /// What each takes, MiB; those that are not in it count 1.
    pub sizes_mb: BTreeMap<String, f64>,
    /// Between two moments at which nothing happened, seconds.
    pub every_s: f64,
    /// What a load takes, seconds.
    pub load_s: f64,
    /// How likely [`Rule::PredictorIfLikely`] wants a use within the lookahead to be, 0 to 1.
    pub min_probability: f64,
    /// Of the predictor; its window is the old rule's too.
    pub predictor: PredictorSettings,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            places: 3,
            budget_mb: None,
            sizes_mb: BTreeMap::new(),
            every_s: 60.0,
            load_s: 2.0,
            min_probability: 0.5,
            predictor: PredictorSettings::default(),
        }
    }
}

/// How models to keep are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// This server's predictor.
    Predictor,
    /// The same, and only what is likely enough to be asked for soon is kept: places may stay empty.
    PredictorIfLikely,
    /// The old rule: those most used within the window, the last hour by default.
    MostUsed,
    /// Always keep the last one; with more places the last ones.
    LastUsed,
}

/// All of them.
pub const RULES: [Rule; 4] = [Rule::Predictor, Rule::PredictorIfLikely, Rule::MostUsed, Rule::LastUsed];

/// What a rule made of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outcome {
    /// Which rule.
    pub rule: Rule,
    /// Uses.
    pub uses: usize,
    /// Of them, those whose model was kept and loaded.
    pub hits: usize,
    /// The same as a part of all, 0 to 1.
    pub hit_rate: f64,
    /// Uses that were no hits.
    pub cold_starts: usize,
    /// Hits whose model was not that of the use before: without any keeping but of the last one they had been cold starts.
    pub cold_starts_avoided: usize,
    /// Loads that nobody had asked for yet.
    pub guessed_loads: usize,
    /// Memory spent: the time that models were kept, times their MiB.
    pub memory_mb_s: f64,
}

/// Plays the trace, in the order of its times, under each rule.
pub fn replay(trace: &[TraceUse], terms: &Terms) -> Vec<Outcome> {
    RULES.iter().map(|rule| play(trace, terms, *rule)).collect()
}

fn play(trace: &[TraceUse], terms: &Terms, rule: Rule) -> Outcome {
    let mut player = Player {
        terms,
        chooser: Chooser::new(rule, terms),
        kept: BTreeMap::new(),
        now: trace.first().map_or(0.0, |first| first.time),
        outcome: Outcome {
            rule,
            uses: trace.len(),
            hits: 0,
            hit_rate: 0.0,
            cold_starts: 0,
            cold_starts_avoided: 0,
            guessed_loads: 0,
            memory_mb_s: 0.0,
        },
    };
    let mut before: Option<&str> = None;
    for one in trace {
        player.pass_until(one.time);
        player.arrive(one, before);
        before = Some(&one.model);
    }
    let Outcome { uses, hits, .. } = player.outcome;
    Outcome { hit_rate: hits as f64 / uses.max(1) as f64, cold_starts: uses - hits, ..player.outcome }
}

struct Player<'a> {
    terms: &'a Terms,
    chooser: Chooser,
    /// What is kept, and since when it is loaded.
    kept: BTreeMap<String, f64>,
    now: f64,
    outcome: Outcome,
}

impl Player<'_> {
    /// The moments between two uses.
    fn pass_until(&mut self, time: f64) {
        // After a day in which nothing happened every further moment would be as the last one.
        let until = time.min(self.now + super::DAY_S);
        while self.now + self.terms.every_s < until {
            self.spend(self.now + self.terms.every_s);
            self.choose(None);
        }
        self.spend(time);
    }

    fn spend(&mut self, until: f64) {
        let mb: f64 = self.kept.keys().map(|model| self.terms.size(model)).sum();
        self.outcome.memory_mb_s += mb * (until - self.now).max(0.0);
        self.now = until.max(self.now);
    }

    fn arrive(&mut self, one: &TraceUse, before: Option<&str>) {
        if self.kept.get(&one.model).is_some_and(|loaded| *loaded <= self.now) {
            self.outcome.hits += 1;
            self.outcome.cold_starts_avoided += usize::from(before != Some(&one.model));
        }
        self.chooser.record(Moment::utc(self.now), one);
        self.choose(Some(&one.model));
    }

    /// Names the models to keep until the next moment. `used`: is loaded in any case, as it was just asked for.
    fn choose(&mut self, used: Option<&str>) {
        let ranking = self.chooser.rank(Moment::utc(self.now));
        let mut kept = BTreeMap::new();
        for model in self.terms.fill(&ranking) {
            let loaded = self.kept.get(model).copied().unwrap_or_else(|| {
                self.outcome.guessed_loads += usize::from(used != Some(model));
                self.now + self.terms.load_s
            });
            kept.insert(model.to_owned(), loaded);
        }
        self.kept = kept;
    }
}

impl Terms {
    /// Rankings that will be made for each rule: what a replay takes.
    pub fn moments(&self, trace: &[TraceUse]) -> f64 {
        let gaps = trace.windows(2).map(|pair| (pair[1].time - pair[0].time).clamp(0.0, super::DAY_S));
        trace.len() as f64 + gaps.sum::<f64>() / self.every_s
    }

    fn size(&self, model: &str) -> f64 {
        self.sizes_mb.get(model).copied().unwrap_or(1.0)
    }

    /// Of a ranking, what there is room for; what does not fit is passed over.
    fn fill<'r>(&self, ranking: &'r [String]) -> Vec<&'r str> {
        let mut left = self.budget_mb.unwrap_or(f64::INFINITY);
        let fits = ranking.iter().map(String::as_str).filter(|model| {
            let size = self.size(model);
            let fits = size <= left;
            left -= if fits { size } else { 0.0 };
            fits
        });
        fits.take(self.places).collect()
    }
}

/// A rule at work. Every ranking has all models that were used so far, but for that of what is likely only.
struct Chooser {
    /// With the probability that a model must have.
    predictor: Option<(Predictor, f64)>,
    /// For the old rule: the uses within the window.
    window: Option<(f64, VecDeque<(f64, String)>)>,
    /// Models, the one used last at the end.
    last_used: Vec<String>,
}

impl Chooser {
    fn new(rule: Rule, terms: &Terms) -> Self {
        let predictor = |least| Some((Predictor::new(terms.predictor), least));
        Self {
            predictor: match rule {
                Rule::Predictor => predictor(0.0),
                Rule::PredictorIfLikely => predictor(terms.min_probability),
                Rule::MostUsed | Rule::LastUsed => None,
            },
            window: (rule == Rule::MostUsed).then(|| (terms.predictor.window_s, VecDeque::new())),
            last_used: Vec::new(),
        }
    }

    fn record(&mut self, now: Moment, one: &TraceUse) {
        if let Some((predictor, _)) = &mut self.predictor {
            predictor.record(now, &one.model, one.client.as_deref());
        }
        if let Some((_, uses)) = &mut self.window {
            uses.push_back((now.at, one.model.clone()));
        }
        self.last_used.retain(|model| *model != one.model);
        self.last_used.push(one.model.clone());
    }

    fn rank(&mut self, now: Moment) -> Vec<String> {
        if let Some((predictor, least)) = &self.predictor {
            let likely = predictor.rank(now).into_iter().filter(|likely| likely.probability >= *least);
            return likely.map(|likely| likely.model_id).collect();
        }
        let mut ranking = Vec::new();
        if let Some((window_s, uses)) = &mut self.window {
            while uses.front().is_some_and(|(at, _)| *at < now.at - *window_s) {
                uses.pop_front();
            }
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for (_, model) in uses.iter() {
                *counts.entry(model).or_default() += 1;
            }
            let mut counted: Vec<(&str, usize)> = counts.into_iter().collect();
            let age = |model: &str| self.last_used.iter().rev().position(|last| last == model);
            counted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| age(a.0).cmp(&age(b.0))));
            ranking.extend(counted.into_iter().map(|(model, _)| model.to_owned()));
        }
        let named: BTreeSet<String> = ranking.iter().cloned().collect();
        ranking.extend(self.last_used.iter().rev().filter(|model| !named.contains(*model)).cloned());
        ranking
    }
}
