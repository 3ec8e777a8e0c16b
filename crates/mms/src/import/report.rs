//! What became of every setting of the old file, and the text of the new one.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::output::table;

/// What became of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It means the same here.
    Taken,
    /// It has another value, or means something else.
    Changed,
    /// Nothing here corresponds to it, or it cannot be.
    LeftOut,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Changed => "changed",
            Self::LeftOut => "left out",
        }
    }
}

/// One setting of the old file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Item {
    /// Such as `load_policy.fast`.
    pub setting: String,
    /// Its line, from 1.
    pub line: usize,
    /// What it held.
    pub value: Value,
    /// What became of it.
    pub outcome: Outcome,
    /// What it is here, such as `routing.fast`.
    pub to: Option<String>,
    /// Why, and what is to be done; empty where that is plain.
    pub why: String,
}

/// The whole import.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    /// The old file.
    pub from: PathBuf,
    /// Every setting, in the order of the file.
    pub items: Vec<Item>,
    /// The new file's text.
    pub toml: String,
}

impl Report {
    /// How many settings became this.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.items.iter().filter(|item| item.outcome == outcome).count()
    }

    /// For a person.
    pub(crate) fn shown(&self) -> String {
        let rows = self.items.iter().map(|item| {
            let mut value = item.value.to_string();
            if value.chars().count() > 40 {
                value = value.chars().take(37).chain("...".chars()).collect();
            }
            vec![
                item.line.to_string(),
                item.setting.clone(),
                value,
                item.outcome.word().to_owned(),
                item.to.clone().unwrap_or_default(),
                item.why.clone(),
            ]
        });
        let summary = self.summary();
        if self.items.is_empty() {
            return summary;
        }
        let shown = table(&["LINE", "SETTING", "VALUE", "OUTCOME", "BECAME", "WHY"], rows.collect(), &[0]);
        format!("{}\n\n{summary}", shown.trim_end())
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        format!(
            "{}: {} settings taken, {} changed, {} left out",
            self.from.display(),
            self.count(Outcome::Taken),
            self.count(Outcome::Changed),
            self.count(Outcome::LeftOut)
        )
    }

    /// For a machine.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "file": self.from,
            "taken": self.count(Outcome::Taken),
            "changed": self.count(Outcome::Changed),
            "left_out": self.count(Outcome::LeftOut),
            "settings": self.items,
            "toml": self.toml,
        })
    }
}
