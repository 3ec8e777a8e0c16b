//! The predictor: what it remembers of each model, and how the opinions of its experts become one ranking.
//!
//! Every expert spreads 1 over the models: its probability that each is the next one asked for. The score of a model is the mean of
//! these, weighted by how well each expert has done. After each use an expert's weight moves by [`LEARNING`] towards its share in the
//! probability that the model in question had been given (mixing weights by online expectation maximization), so that what predicts
//! well here counts here.

use std::collections::{BTreeMap, HashMap};

use super::opinions::{DAY_BINS, Fading, Habits, Opinions};
use super::streams::Streams;
use super::{Moment, PredictorSettings};
use mms_protocol::prediction::Likely;

/// The experts, in the order of their weights.
pub const EXPERTS: [&str; 6] = ["recency", "frequency", "habit", "time_of_day", "follows", "follows_of_client"];

/// How far a weight moves with each use.
const LEARNING: f64 = 0.02;
/// No expert's weight falls below this part of an equal share.
const FLOOR: f64 = 0.05;
/// Models that are remembered; the one not asked for for the longest time is forgotten for a new one.
const MAX_MODELS: usize = 512;
/// The same asked for again by the same client within this time is the same use, seconds.
const SAME_USE_S: f64 = 1.0;
/// Half of a use's weight is gone after this time where it is told how often models are used at present, seconds.
const RATE_S: f64 = 600.0;

/// What is remembered of one model.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    pub(super) name: String,
    /// When it was last asked for, epoch seconds.
    pub(super) last: f64,
    last_client: Option<String>,
    /// Its uses, fading within the window, and within a day.
    pub(super) recent: Fading,
    pub(super) long: Fading,
    /// Its uses by quarter of an hour of the day.
    pub(super) day: [f64; DAY_BINS],
}

/// Remembers uses and ranks models; see the module's text. Its memory is bounded whatever is asked for.
#[derive(Debug, Clone)]
pub struct Predictor {
    settings: PredictorSettings,
    numbers: HashMap<String, u32>,
    models: BTreeMap<u32, Tracked>,
    streams: Streams,
    weights: [f64; EXPERTS.len()],
    last_number: u32,
    /// Of the first use; weights of times of day count from here.
    origin: f64,
    latest: f64,
    uses: u64,
    /// Uses of all models, fading within [`RATE_S`].
    all: Fading,
}

impl Predictor {
    /// Knows nothing.
    pub fn new(settings: PredictorSettings) -> Self {
        Self {
            settings,
            numbers: HashMap::new(),
            models: BTreeMap::new(),
            streams: Streams::default(),
            weights: [1.0 / EXPERTS.len() as f64; EXPERTS.len()],
            last_number: 0,
            origin: f64::NEG_INFINITY,
            latest: f64::NEG_INFINITY,
            uses: 0,
            all: Fading::default(),
        }
    }

    /// `model` is asked for, by `client` where that is known. Uses come in the order of their time; one that is late counts as of now.
    /// `false`: it is part of the use before, and was not counted.
    pub fn record(&mut self, moment: Moment, model: &str, client: Option<&str>) -> bool {
        let moment = Moment { at: moment.at.max(self.latest), ..moment };
        if let Some(tracked) = self.numbers.get(model).and_then(|number| self.models.get(number))
            && tracked.last_client.as_deref() == client
            && moment.at - tracked.last < SAME_USE_S
        {
            return false;
        }
        self.learn(moment, model);
        if self.uses == 0 {
            self.origin = moment.at;
        }
        self.uses += 1;
        self.all.add(moment.at, RATE_S);
        self.latest = moment.at;
        let number = self.number_of(model, moment.at);
        if let Some(tracked) = self.models.get_mut(&number) {
            tracked.last = moment.at;
            tracked.last_client = client.map(str::to_owned);
            tracked.recent.add(moment.at, self.settings.window_s);
            tracked.long.add(moment.at, super::DAY_S);
            tracked.day[super::opinions::bin(moment.day_s)] += super::opinions::day_weight(moment.at - self.origin);
        }
        self.streams.record(moment.at, number, client);
        true
    }

    /// Every model that was ever asked for, likeliest first.
    pub fn rank(&self, now: Moment) -> Vec<Likely> {
        let opinions = self.opinions(now);
        let scores = opinions.iter().map(|(number, of_model)| {
            let score: f64 = of_model.iter().zip(&self.weights).map(|(opinion, weight)| opinion * weight).sum();
            (number, score)
        });
        let expected = self.all.rate(now.at, RATE_S) * self.settings.lookahead_s;
        let habits = Habits::at(now, self.origin, self.settings.lookahead_s);
        let likely = |(number, score): (u32, f64)| {
            let tracked = self.models.get(&number)?;
            let uses = (expected * score).max(habits.expected(&tracked.day));
            Some(Likely { model_id: tracked.name.clone(), score, probability: 1.0 - (-uses).exp() })
        };
        let mut ranking: Vec<Likely> = scores.filter_map(likely).collect();
        ranking.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.model_id.cmp(&b.model_id)));
        ranking
    }

    /// How much each expert counts, in the order of [`EXPERTS`].
    pub fn weights(&self) -> [f64; EXPERTS.len()] {
        self.weights
    }

    /// Uses that were counted.
    pub fn uses(&self) -> u64 {
        self.uses
    }

    fn opinions(&self, now: Moment) -> Opinions {
        Opinions::of(&self.models, &self.streams, self.settings, Moment { at: now.at.max(self.latest), ..now })
    }

    /// Moves the weights towards those whose opinion of this model was high.
    fn learn(&mut self, moment: Moment, model: &str) {
        let Some(number) = self.numbers.get(model) else { return };
        let Some(of_model) = self.opinions(moment).get(*number) else { return };
        let parts: Vec<f64> = of_model.iter().zip(&self.weights).map(|(opinion, weight)| opinion * weight).collect();
        let sum: f64 = parts.iter().sum();
        if sum <= 0.0 {
            return;
        }
        for (weight, part) in self.weights.iter_mut().zip(&parts) {
            *weight += LEARNING * (part / sum - *weight);
            *weight = weight.max(FLOOR / EXPERTS.len() as f64);
        }
        let all: f64 = self.weights.iter().sum();
        self.weights.iter_mut().for_each(|weight| *weight /= all);
    }

    fn number_of(&mut self, model: &str, at: f64) -> u32 {
        if let Some(number) = self.numbers.get(model) {
            return *number;
        }
        if self.models.len() >= MAX_MODELS {
            let oldest = self.models.iter().min_by(|a, b| a.1.last.total_cmp(&b.1.last)).map(|(number, _)| *number);
            if let Some(tracked) = oldest.and_then(|number| self.models.remove(&number)) {
                self.numbers.remove(&tracked.name);
            }
        }
        self.last_number += 1;
        let tracked = Tracked {
            name: model.to_owned(),
            last: at,
            last_client: None,
            recent: Fading::default(),
            long: Fading::default(),
            day: [0.0; DAY_BINS],
        };
        self.models.insert(self.last_number, tracked);
        self.numbers.insert(model.to_owned(), self.last_number);
        self.last_number
    }
}
