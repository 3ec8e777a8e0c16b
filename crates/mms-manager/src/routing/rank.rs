//! Models compared. First come what a task needs and prefers, the memory budget and the context; the figures only order what is left.
//!
//! ```text
//! score    = R x resident + L x latency + T x trust + S x size
//! resident = 1 in memory, 0.5 being loaded, 0 otherwise
//! latency  = that of the fastest of them / its own; 0.5 before it was measured        (crate::routing::evidence)
//! trust    = (1 + sum of the last 10 trust scores) / (2 + their number); so 0.5 without evaluations
//! size     = its memory / that of the largest of them
//!
//!              R     L     T     S
//! fast       0.50  0.40  0.10  0.00
//! balanced   0.40  0.30  0.30  0.00      tasks and preferences of one's own
//! quality    0.10  0.00  0.70  0.20
//! ```
//!
//! Of equal scores the model goes first that is in memory and was used last; then the smaller one (quality: the larger one); then the
//! name that comes first. The built-in model is left out while there is another.

use std::cmp::Ordering;

use mms_protocol::select::Figures;

use super::evidence::Trust;
use super::task::Task;
use super::{Candidate, Routing};

/// What matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An early answer.
    Fast,
    /// Neither alone.
    Balanced,
    /// A good answer.
    Quality,
}

/// A number for each figure: how much it counts, or what it brings.
struct Weights {
    resident: f64,
    latency: f64,
    trust: f64,
    size: f64,
}

impl Purpose {
    /// Of a preference.
    pub(crate) fn of(preference: &str) -> Self {
        match preference {
            "fast" => Self::Fast,
            "quality" => Self::Quality,
            _ => Self::Balanced,
        }
    }

    fn weights(self) -> Weights {
        match self {
            Self::Fast => Weights { resident: 0.5, latency: 0.4, trust: 0.1, size: 0.0 },
            Self::Balanced => Weights { resident: 0.4, latency: 0.3, trust: 0.3, size: 0.0 },
            Self::Quality => Weights { resident: 0.1, latency: 0.0, trust: 0.7, size: 0.2 },
        }
    }
}

/// Context that a request needs, tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// What must be held.
    pub least: u32,
    /// What should be held, but may be guessed too high: models that hold it come first.
    pub prompt: u32,
    /// Beside it, for the answer.
    pub answer: u32,
}

impl Room {
    /// Of a context that must be at least this large.
    pub fn at_least(tokens: u32) -> Self {
        Self { least: tokens, ..Self::default() }
    }
}

/// A model and its figures.
pub(crate) struct Ranked<'a> {
    pub(crate) candidate: &'a Candidate<'a>,
    pub(crate) figures: Figures,
    /// What its score is the sum of.
    parts: Weights,
    purpose: Purpose,
}

impl<'a> Routing<'a> {
    /// The models that are suitable, best first.
    pub(crate) fn ranked(&self, task: &Task, purpose: Purpose, room: Room) -> Vec<Ranked<'a>> {
        let suitable = self.candidates.iter().filter(|c| c.usable && c.has(&task.needs));
        let fitting = suitable.filter(|c| c.estimated_mb <= self.budget_mb && c.context >= room.least);
        let mut left: Vec<&Candidate<'a>> = fitting.collect();
        prefer(&mut left, |c| !c.builtin);
        if let Some(word) = &task.prefers {
            prefer(&mut left, |c| c.has(word));
        }
        make_room(&mut left, room);
        let compared = Compared::of(&left);
        let mut ranked: Vec<Ranked<'a>> = left.into_iter().map(|c| compared.rank(c, purpose)).collect();
        ranked.sort_by(|a, b| before(a, b, purpose));
        ranked
    }
}

/// Keeps those that pass, where some do.
fn prefer<'a>(left: &mut Vec<&Candidate<'a>>, passes: impl Fn(&Candidate<'a>) -> bool) {
    if left.iter().any(|c| passes(c)) {
        left.retain(|c| passes(c));
    }
}

/// Keeps those that hold prompt and answer; else those that hold the prompt; else those that hold most.
fn make_room(left: &mut Vec<&Candidate<'_>>, room: Room) {
    let both = room.prompt.saturating_add(room.answer);
    if left.iter().any(|c| c.context >= both) {
        left.retain(|c| c.context >= both);
    } else if left.iter().any(|c| c.context >= room.prompt) {
        left.retain(|c| c.context >= room.prompt);
    } else {
        let most = left.iter().map(|c| c.context).max().unwrap_or_default();
        left.retain(|c| c.context == most);
    }
}

/// What figures are measured against.
struct Compared {
    /// The shortest latency.
    fastest: Option<f64>,
    /// The most memory.
    largest: f64,
}

impl Compared {
    fn of(models: &[&Candidate<'_>]) -> Self {
        Self {
            fastest: models.iter().filter_map(|c| c.latency_ms()).min_by(f64::total_cmp),
            largest: models.iter().map(|c| c.estimated_mb).fold(0.0, f64::max),
        }
    }

    fn rank<'a>(&self, candidate: &'a Candidate<'a>, purpose: Purpose) -> Ranked<'a> {
        let weights = purpose.weights();
        let latency_ms = candidate.latency_ms();
        let latency = match (self.fastest, latency_ms) {
            (Some(fastest), Some(own)) if own > 0.0 => fastest / own,
            (Some(_), Some(_)) => 1.0,
            (_, None) | (None, _) => 0.5,
        };
        let resident = match (candidate.ready, candidate.loading) {
            (true, _) => 1.0,
            (false, true) => 0.5,
            (false, false) => 0.0,
        };
        let trust = Trust::cautious(candidate.trust);
        let size = if self.largest > 0.0 { candidate.estimated_mb / self.largest } else { 0.0 };
        let parts = Weights {
            resident: weights.resident * resident,
            latency: weights.latency * latency,
            trust: weights.trust * trust,
            size: weights.size * size,
        };
        let score = parts.resident + parts.latency + parts.trust + parts.size;
        Ranked {
            candidate,
            figures: Figures {
                model_id: candidate.id.to_owned(),
                score: (score * 10_000.0).round() / 10_000.0,
                resident,
                latency_ms: latency_ms.map(|ms| (ms * 100.0).round() / 100.0),
                requests: candidate.speed.map_or(0, |speed| speed.requests()),
                trust_score: candidate.trust.map(|trust| trust.mean()),
                evaluations: candidate.trust.map_or(0, |trust| trust.count()),
            },
            parts,
            purpose,
        }
    }
}

impl Ranked<'_> {
    /// The score and where it comes from.
    fn shown(&self) -> String {
        let (figures, parts, weights) = (&self.figures, &self.parts, self.purpose.weights());
        let mut shown = format!("{} {:.2} = in memory {:.2}", figures.model_id, figures.score, parts.resident);
        if weights.latency > 0.0 {
            let from = figures.latency_ms.map_or_else(
                || "not measured yet".to_owned(),
                |ms| format!("{ms:.0} ms in {} requests", figures.requests),
            );
            shown.push_str(&format!(" + latency {:.2} ({from})", parts.latency));
        }
        let from = figures.trust_score.map_or_else(
            || "no evaluation".to_owned(),
            |mean| format!("{mean:.2} in {} evaluations", figures.evaluations),
        );
        shown.push_str(&format!(" + trust {:.2} ({from})", parts.trust));
        if weights.size > 0.0 {
            shown.push_str(&format!(" + size {:.2}", parts.size));
        }
        shown
    }
}

fn before(a: &Ranked<'_>, b: &Ranked<'_>, purpose: Purpose) -> Ordering {
    let (x, y) = (a.candidate, b.candidate);
    let used = |c: &Candidate<'_>| if c.ready { c.last_used.unwrap_or(0.0) } else { f64::NEG_INFINITY };
    let by_size = x.estimated_mb.total_cmp(&y.estimated_mb);
    b.figures
        .score
        .total_cmp(&a.figures.score)
        .then_with(|| used(y).total_cmp(&used(x)))
        .then(if purpose == Purpose::Quality { by_size.reverse() } else { by_size })
        .then_with(|| x.id.cmp(y.id))
}

/// Why the first of them was chosen.
pub(crate) fn reason(ranked: &[Ranked<'_>]) -> String {
    let [first, others @ ..] = ranked else { return String::new() };
    match others {
        [] => format!("the only suitable model: {}", first.shown()),
        [next, ..] => {
            format!("best of {} suitable models: {}; next: {}", ranked.len(), first.shown(), next.shown())
        }
    }
}
