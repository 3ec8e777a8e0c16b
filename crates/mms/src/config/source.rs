//! Where settings come from, and how a mistake in them is shown: `mms.toml:3:8: ...`, `environment AGENT_PORT: ...`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Instead of what was given, when that may hold a password.
pub(super) const NOT_SHOWN: &str = "something else (not shown, as it may hold a password)";

/// Where a setting, or a mistake, comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub(crate) enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File {
        /// As it was named.
        path: String,
        /// From 1.
        line: usize,
        /// From 1, characters.
        column: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag of the command line.
    Flag {
        /// Such as `--port`.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Mistake {
    /// Where.
    pub at: Origin,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// Every mistake of a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            many => {
                write!(f, "{} mistakes in the configuration:", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

/// Environment variables, read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    values: BTreeMap<String, String>,
    /// Names of variables whose values are no Unicode.
    garbled: BTreeSet<String>,
}

impl Environment {
    /// Those of this process; one that is empty counts as absent.
    pub(crate) fn of_process() -> Self {
        let mut environment = Self::default();
        for (name, value) in std::env::vars_os() {
            // No setting has a name that is no Unicode.
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) if value.is_empty() => {}
                Ok(value) => drop(environment.values.insert(name, value)),
                Err(_) => drop(environment.garbled.insert(name)),
            }
        }
        environment
    }

    /// The value of a variable.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// That a variable's value cannot be read, if so.
    pub(super) fn mistake_in(&self, name: &str) -> Option<Mistake> {
        self.garbled.get(name).map(|name| Mistake {
            at: Origin::Environment { variable: name.clone() },
            message: "its value is no UTF-8".to_owned(),
        })
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        let values = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Self { values, garbled: BTreeSet::new() }
    }
}

/// A configuration file that was found.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    /// As it was named.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
    /// It is the old suite's, so `text` is what became of it: how many settings were changed, and how many left out.
    pub imported: Option<Imported>,
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Imported {
    /// Settings that mean something else now.
    pub changed: usize,
    /// Settings that nothing corresponds to.
    pub left_out: usize,
}

impl ConfigFile {
    /// A file of our own.
    pub(crate) fn new(path: impl Into<PathBuf>, text: String) -> Self {
        Self { path: path.into(), text, imported: None }
    }
}

/// The variable that names an old file.
pub(super) const LLM_CONFIG_PATH: &str = "LLM_CONFIG_PATH";

/// The parsed file, with the place of everything in it.
pub(super) struct Document<'a> {
    path: String,
    text: &'a str,
    /// Lines are those of no file that anybody has.
    imported: bool,
    pub(super) root: DeTable<'a>,
}

impl<'a> Document<'a> {
    /// Parses as much as possible; every mistake of syntax is told.
    pub(super) fn parse(file: &'a ConfigFile, mistakes: &mut Vec<Mistake>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(&file.text);
        let document = Self {
            path: file.path.display().to_string(),
            text: &file.text,
            imported: file.imported.is_some(),
            root: root.into_inner(),
        };
        for error in errors {
            let message = error.message().trim().replace('\n', ", ");
            mistakes.push(Mistake { at: document.origin(error.span().unwrap_or(0..0)), message });
        }
        document
    }

    pub(super) fn origin(&self, span: Range<usize>) -> Origin {
        if self.imported {
            return Origin::Environment { variable: LLM_CONFIG_PATH.to_owned() };
        }
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        Origin::File {
            path: self.path.clone(),
            line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..]).chars().count() + 1,
        }
    }

    /// The table called `name`; a value of another type is a mistake.
    pub(super) fn table(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Option<&DeTable<'a>> {
        let value = self.root.get(name)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            mistakes.push(self.wrong(value, name, &format!("a table, written [{name}]")));
        }
        table
    }

    /// The tables of the array called `name`, written `[[name]]`.
    pub(super) fn tables(&self, name: &str, mistakes: &mut Vec<Mistake>) -> Vec<(Origin, &DeTable<'a>)> {
        let Some(value) = self.root.get(name) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            mistakes.push(self.wrong(value, name, &format!("tables, each written [[{name}]]")));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => tables.push((self.origin(element.span()), table)),
                None => mistakes.push(self.wrong(element, name, &format!("tables, each written [[{name}]]"))),
            }
        }
        tables
    }

    pub(super) fn wrong(&self, value: &Spanned<DeValue<'_>>, name: &str, must_be: &str) -> Mistake {
        let mut shown = self.text.get(value.span()).unwrap_or_default().to_owned();
        // As in an address: what stands before it may be a password, wherever in the file it was put.
        if shown.contains('@') {
            shown = NOT_SHOWN.to_owned();
        }
        if shown.chars().count() > 60 {
            shown = shown.chars().take(57).chain("...".chars()).collect();
        }
        Mistake { at: self.origin(value.span()), message: format!("{name} must be {must_be}, got {shown}") }
    }
}
