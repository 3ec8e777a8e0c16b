//! What is known of the uses of models: shared by the front doors, which tell each use, and the one task, which loads ahead.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mms_protocol::prediction::{Likely, Prediction, PreloadingView};

use super::preload::{Preloader, Turn};
use super::replay::TraceUse;
use super::{EXPERTS, Moment, PredictionConfig, Predictor};

/// Uses of this run that are remembered until those of earlier runs are known.
const MAX_BEFORE_HISTORY: usize = 10_000;

/// The uses of models, and what is foreseen by them.
#[derive(Debug)]
pub struct Predictions {
    config: PredictionConfig,
    /// When this run began; earlier uses are history.
    started: f64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    predictor: Predictor,
    preloader: Preloader,
    /// The uses of this run, until those of earlier runs are known.
    before_history: Option<VecDeque<(Moment, String, Option<String>)>>,
}

impl Predictions {
    /// Without any uses yet. `started`: epoch seconds.
    pub fn new(config: PredictionConfig, started: f64) -> Self {
        let inner = Inner {
            predictor: Predictor::new(config.predictor),
            preloader: Preloader::new(config.preload, config.predictor.lookahead_s),
            before_history: Some(VecDeque::new()),
        };
        Self { config, started, inner: Mutex::new(inner) }
    }

    /// `model` is asked for, by `client` where that is known. `false`: it is part of the use before.
    pub fn used(&self, moment: Moment, model: &str, client: Option<&str>) -> bool {
        let mut inner = self.lock();
        if let Some(uses) = &mut inner.before_history {
            if uses.len() == MAX_BEFORE_HISTORY {
                uses.pop_front();
            }
            uses.push_back((moment, model.to_owned(), client.map(str::to_owned)));
        }
        inner.preloader.used(moment.at, model);
        inner.predictor.record(moment, model, client)
    }

    /// Takes in the uses of earlier runs, in the order of their times. Takes a while where there are many, and holds up nobody.
    pub fn learn(&self, history: &[TraceUse]) {
        let mut predictor = Predictor::new(self.config.predictor);
        for one in history.iter().filter(|one| one.time < self.started) {
            predictor.record(Moment::local(one.time), &one.model, one.client.as_deref());
        }
        let mut inner = self.lock();
        for (moment, model, client) in inner.before_history.take().unwrap_or_default() {
            predictor.record(moment, &model, client.as_deref());
        }
        inner.predictor = predictor;
    }

    /// What is foreseen of the models that are `known`.
    pub fn predict(&self, now: Moment, known: impl Fn(&str) -> bool) -> Prediction {
        let inner = self.lock();
        Prediction {
            models: inner.predictor.rank(now).into_iter().filter(|likely| known(&likely.model_id)).collect(),
            weights: EXPERTS.into_iter().zip(inner.predictor.weights()).collect(),
            uses: inner.predictor.uses(),
            lookahead_s: self.config.predictor.lookahead_s,
            preloading: inner.preloader.view(),
        }
    }

    /// What came of loading ahead.
    pub fn preloading(&self) -> PreloadingView {
        self.lock().preloader.view()
    }

    /// The models to load ahead now; see [`Preloader::look`].
    pub(crate) fn look(&self, now: Moment, absent: impl Fn(&str) -> bool) -> Vec<String> {
        if !self.config.preload.enabled {
            return Vec::new();
        }
        let mut inner = self.lock();
        let likely: Vec<Likely> = inner.predictor.rank(now);
        let uses = inner.predictor.uses();
        inner.preloader.look(now.at, uses, &likely, absent)
    }

    pub(crate) fn refused(&self, now: f64, model: &str, room: bool) {
        self.lock().preloader.refused(now, model, room);
    }

    pub(crate) fn left(&self, now: f64, model: &str, reason: &str) {
        self.lock().preloader.left(now, model, reason);
    }

    pub(crate) fn turned(&self) -> Option<(Turn, PreloadingView)> {
        let mut inner = self.lock();
        let turn = inner.preloader.turned()?;
        Some((turn, inner.preloader.view()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is remembered is whole after each use, even when another one panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
