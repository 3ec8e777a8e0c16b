//! One measured figure: its value, how far the rounds were apart, what it should be; as a line of a table, as JSON, as Markdown.

use serde_json::{Value, json};

/// What was measured and what it should be.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
    /// The lowest and the highest of the values that `value` is the median of.
    spread: Option<(f64, f64)>,
    aim: Option<Aim>,
}

/// A bound.
#[derive(Debug, Clone, Copy)]
enum Aim {
    AtMost(f64),
    AtLeast(f64),
    /// Less than.
    Below(f64),
}

impl Figure {
    /// A single value without an aim.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self { name: name.into(), unit, value, spread: None, aim: None }
    }

    /// The median of `values`, with their spread.
    pub(crate) fn median(name: impl Into<String>, unit: &'static str, values: &[f64]) -> Self {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = (values.len() > 1).then_some((least, most));
        Self { spread, ..Self::new(name, unit, median(values)) }
    }

    /// It should be at most this.
    pub(crate) fn at_most(self, bound: f64) -> Self {
        Self { aim: Some(Aim::AtMost(bound)), ..self }
    }

    /// It should be at least this.
    pub(crate) fn at_least(self, bound: f64) -> Self {
        Self { aim: Some(Aim::AtLeast(bound)), ..self }
    }

    /// It should be less than this.
    pub(crate) fn below(self, bound: f64) -> Self {
        Self { aim: Some(Aim::Below(bound)), ..self }
    }

    /// `None` without an aim. What could not be measured does not meet one.
    pub(super) fn met(&self) -> Option<bool> {
        self.aim.map(|aim| match aim {
            Aim::AtMost(bound) => self.value <= bound,
            Aim::AtLeast(bound) => self.value >= bound,
            Aim::Below(bound) => self.value < bound,
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "value": self.value,
            "lowest": self.spread.map(|(least, _)| least),
            "highest": self.spread.map(|(_, most)| most),
            "aim": self.aim.map(Aim::shown),
            "met": self.met(),
        })
    }

    pub(super) fn line(&self) -> String {
        let aim = self.aim.map(Aim::shown).unwrap_or_default();
        let spread = self.spread.map(|(least, most)| format!("{} to {}", number(least), number(most)));
        let (value, unit, spread) = (number(self.value), self.unit, spread.unwrap_or_default());
        format!("{:66} {value:>10} {unit:10} {spread:22} {aim:14} {}", self.name, verdict(self.met()))
    }
}

impl Aim {
    fn shown(self) -> String {
        match self {
            Self::AtMost(bound) => format!("at most {bound}"),
            Self::AtLeast(bound) => format!("at least {bound}"),
            Self::Below(bound) => format!("below {bound}"),
        }
    }
}

/// The head of a table of [`Figure::line`].
pub(super) fn head() -> String {
    format!("{:66} {:>10} {:10} {:22} {:14}", "figure", "value", "unit", "rounds from, to", "aim")
}

/// A row of a Markdown table of a figure's JSON: figure, value, rounds, aim.
pub(super) fn markdown(figure: &Value) -> String {
    let text = |key: &str| figure[key].as_str().unwrap_or_default();
    let shown = |key: &str| figure[key].as_f64().map(number);
    let value = shown("value").unwrap_or_else(|| "not measured".to_owned());
    let spread = match (shown("lowest"), shown("highest")) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        _ => String::new(),
    };
    let aim = match figure["met"].as_bool() {
        None => text("aim").to_owned(),
        met => format!("{}: {}", text("aim"), verdict(met)),
    };
    format!("| {} | {value} {} | {spread} | {aim} |", text("name"), text("unit"))
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        None => "",
        Some(true) => "met",
        Some(false) => "NOT MET",
    }
}

/// With as many decimals as its size makes sense of.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// The middle one; of an even number the mean of the two in the middle; of none not a number.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(&middle), 1) => middle,
        (Some(&upper), _) => f64::midpoint(sorted[half - 1], upper),
    }
}

/// The value that `share` of all do not exceed, nearest rank; of none not a number.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Each value divided by that of the same round.
pub(super) fn ratios(values: &[f64], of: &[f64]) -> Vec<f64> {
    values.iter().zip(of).map(|(value, of)| value / of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        assert!(median(&[]).is_nan() && quantile(&[], 0.5).is_nan());
        let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!((quantile(&values, 0.95), quantile(&values, 1.0)), (19.0, 20.0));
    }

    #[test]
    fn aims_are_met_or_not() {
        let figure = |value| Figure::new("x", "x", value);
        assert_eq!(figure(1.0).met(), None);
        assert_eq!(figure(1.0).at_most(1.0).met(), Some(true));
        assert_eq!(figure(1.0).below(1.0).met(), Some(false));
        assert_eq!(figure(0.9).at_least(0.97).met(), Some(false));
        assert_eq!(figure(f64::NAN).at_least(0.97).met(), Some(false));
    }

    #[test]
    fn a_row_of_markdown() {
        let figure = Figure::median("a / b", "x", &[0.5, 0.25, 0.75]).at_most(0.25);
        assert_eq!(markdown(&figure.json()), "| a / b | 0.500 x | 0.250 to 0.750 | at most 0.25: NOT MET |");
        let figure = Figure::new("speed", "tokens/s", 1234.5);
        assert_eq!(markdown(&figure.json()), "| speed | 1234 tokens/s |  |  |");
    }
}
