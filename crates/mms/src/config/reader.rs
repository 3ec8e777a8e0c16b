//! Reads settings one by one from flags, environment and file, notes where each came from, and collects every mistake. Reading a
//! setting is also what declares it: unknown keys, `mms config show` and the documented example follow from the keys that were read.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use toml::de::DeTable;

use super::source::{Document, Environment, Mistake, NOT_SHOWN, Origin};
use super::value::Kind;

/// A setting as it is documented and as it came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Setting {
    /// Such as `server`; `model` for the first `[[model]]`.
    pub section: String,
    /// Its key.
    pub key: &'static str,
    /// What it holds now; `null`: not set.
    pub value: Value,
    /// Who said so.
    pub origin: Origin,
    /// What it holds when nobody says anything.
    pub default: Value,
    /// What it means, with its unit.
    #[serde(skip)]
    pub doc: &'static str,
    /// What it must be.
    #[serde(skip)]
    pub must_be: String,
    /// The environment variable that sets it.
    pub variable: Option<&'static str>,
    /// The flag of `mms serve` that sets it.
    pub flag: Option<&'static str>,
}

/// Collects what is read.
pub(super) struct Reader<'a> {
    document: Option<Document<'a>>,
    environment: &'a Environment,
    settings: Vec<Setting>,
    mistakes: Vec<Mistake>,
}

/// Where the keys of one table are read.
pub(super) struct Section<'r, 'a> {
    name: String,
    table: Option<usize>,
    reader: &'r mut Reader<'a>,
}

/// One key, before it is read.
pub(super) struct Key<'s, 'r, 'a> {
    section: &'s mut Section<'r, 'a>,
    key: &'static str,
    doc: &'static str,
    variable: Option<&'static str>,
    older_variable: Option<&'static str>,
    flag: Option<(&'static str, Option<&'s str>)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: Option<Document<'a>>, environment: &'a Environment, mistakes: Vec<Mistake>) -> Self {
        Self { document, environment, settings: Vec::new(), mistakes }
    }

    /// The table `[name]`.
    pub(super) fn section(&mut self, name: &str) -> Section<'_, 'a> {
        if let Some(document) = &self.document {
            document.table(name, &mut self.mistakes);
        }
        Section { name: name.to_owned(), table: None, reader: self }
    }

    /// How many tables `[[name]]` there are.
    pub(super) fn count(&mut self, name: &str) -> usize {
        self.document.as_ref().map_or(0, |document| document.tables(name, &mut self.mistakes).len())
    }

    /// The table `[[name]]` of that number.
    pub(super) fn element(&mut self, name: &str, number: usize) -> Section<'_, 'a> {
        Section { name: name.to_owned(), table: Some(number), reader: self }
    }

    pub(super) fn mistake(&mut self, at: Origin, message: impl Into<String>) {
        self.mistakes.push(Mistake { at, message: message.into() });
    }

    /// Where a setting came from.
    pub(super) fn origin_of(&self, section: &str, key: &str) -> Origin {
        let mut found = self.settings.iter().filter(|setting| setting.section == section && setting.key == key);
        found.next().map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Reports every key of the file that nothing read; `free`: tables whose keys are the user's own.
    pub(super) fn finish(mut self, free: &[&str], arrays: &[&str]) -> (Vec<Setting>, Vec<Mistake>) {
        if let Some(document) = &self.document {
            let mut known: BTreeMap<&str, Vec<&str>> =
                arrays.iter().chain(free).map(|name| (*name, Vec::new())).collect();
            for setting in &self.settings {
                let keys = known.entry(setting.section.as_str()).or_default();
                if !keys.contains(&setting.key) {
                    keys.push(setting.key);
                }
            }
            for (name, value) in &document.root {
                let tables: Vec<&DeTable<'_>> = match value.get_ref() {
                    toml::de::DeValue::Array(array) => {
                        array.iter().filter_map(|item| item.get_ref().as_table()).collect()
                    }
                    other => other.as_table().into_iter().collect(),
                };
                let Some(keys) = known.get(name.get_ref().as_ref()) else {
                    let message = unknown_at_top(name.get_ref(), !tables.is_empty(), &known);
                    self.mistakes.push(Mistake { at: document.origin(name.span()), message });
                    continue;
                };
                // Of another shape than it should be, which has been told already.
                let misshapen = value.get_ref().is_array() != arrays.contains(&name.get_ref().as_ref());
                if misshapen || free.contains(&name.get_ref().as_ref()) {
                    continue;
                }
                for key in tables.into_iter().flat_map(|table| table.keys()) {
                    if !keys.contains(&key.get_ref().as_ref()) {
                        let message = unknown_key(name.get_ref(), key.get_ref(), keys, &known);
                        self.mistakes.push(Mistake { at: document.origin(key.span()), message });
                    }
                }
            }
        }
        self.mistakes.sort();
        self.mistakes.dedup();
        (self.settings, self.mistakes)
    }

    fn lookup(&self, section: &str, table: Option<usize>, key: &str) -> Option<&toml::Spanned<toml::de::DeValue<'a>>> {
        let root = self.document.as_ref()?.root.get(section)?.get_ref();
        let table = match table {
            None => root.as_table()?,
            Some(number) => root.as_array()?.iter().filter_map(|item| item.get_ref().as_table()).nth(number)?,
        };
        table.get(key)
    }
}

impl<'r, 'a> Section<'r, 'a> {
    /// A key and what it means; units belong into `doc`.
    pub(super) fn key<'s>(&'s mut self, key: &'static str, doc: &'static str) -> Key<'s, 'r, 'a> {
        Key { section: self, key, doc, variable: None, older_variable: None, flag: None }
    }

    /// Every key of a table whose keys are the user's own, with its value, in the order of the file.
    pub(super) fn free<K: Kind>(&mut self, kind: &K) -> Vec<(String, K::Value)> {
        let mut values = Vec::new();
        let Some(document) = &self.reader.document else { return values };
        let Some(table) = document.root.get(self.name.as_str()).and_then(|value| value.get_ref().as_table()) else {
            return values;
        };
        for (key, value) in table {
            let name = format!("{}.{}", self.name, key.get_ref());
            match kind.of_toml(value.get_ref()) {
                Some(read) => values.push((key.get_ref().to_string(), read)),
                None if kind.is_secret() => {
                    let message = format!("{name} must be {}, got {NOT_SHOWN}", kind.must_be());
                    self.reader.mistakes.push(Mistake { at: document.origin(value.span()), message });
                }
                None => self.reader.mistakes.push(document.wrong(value, &name, &kind.must_be())),
            }
        }
        values
    }

    /// Reports a mistake of this table as a whole.
    pub(super) fn mistake(&mut self, message: impl Into<String>) {
        let at = self.place();
        self.reader.mistake(at, message);
    }

    fn place(&mut self) -> Origin {
        let Some(document) = &self.reader.document else { return Origin::Default };
        let tables = document.tables(&self.name, &mut Vec::new());
        match self.table {
            Some(number) => tables.get(number).map_or(Origin::Default, |(at, _)| at.clone()),
            None => {
                document.root.get(self.name.as_str()).map_or(Origin::Default, |value| document.origin(value.span()))
            }
        }
    }
}

impl<'s> Key<'s, '_, '_> {
    /// The environment variable that sets it, too.
    pub(super) fn variable(self, name: &'static str) -> Self {
        Self { variable: Some(name), ..self }
    }

    /// Another environment variable, which the first one beats; `doc` has to name it.
    pub(super) fn or_variable(self, name: &'static str) -> Self {
        Self { older_variable: Some(name), ..self }
    }

    /// The flag that sets it, too, and what it was given.
    pub(super) fn flag(self, flag: &'static str, given: Option<&'s str>) -> Self {
        Self { flag: Some((flag, given)), ..self }
    }

    /// Reads it. A value that cannot be is a mistake and counts as not given.
    pub(super) fn read<K: Kind>(self, kind: K, default: K::Value) -> K::Value {
        let shown_default = kind.show(&default);
        let full_name = format!("{}.{}", self.section.name, self.key);
        let (found, mistakes) = self.resolve(&kind, &full_name);
        self.section.reader.mistakes.extend(mistakes);
        let (value, origin) = found.unwrap_or((default, Origin::Default));
        self.section.reader.settings.push(Setting {
            section: self.section.name.clone(),
            key: self.key,
            value: kind.show(&value),
            origin,
            default: shown_default,
            doc: self.doc,
            must_be: kind.must_be(),
            variable: self.variable,
            flag: self.flag.map(|(flag, _)| flag),
        });
        value
    }

    /// Flags beat the environment, the environment beats the file.
    fn resolve<K: Kind>(&self, kind: &K, full_name: &str) -> (Option<(K::Value, Origin)>, Vec<Mistake>) {
        let reader = &*self.section.reader;
        let variables = [self.variable, self.older_variable];
        let in_environment =
            |name: &str| Some((Origin::Environment { variable: name.to_owned() }, reader.environment.get(name)?));
        let flag = self.flag.and_then(|(flag, given)| Some((Origin::Flag { flag: flag.to_owned() }, given?)));
        let texts = [flag, variables[0].and_then(in_environment), variables[1].and_then(in_environment)];
        let mut mistakes: Vec<_> =
            variables.into_iter().flatten().filter_map(|name| reader.environment.mistake_in(name)).collect();
        let mut found = None;
        for (at, text) in texts.into_iter().flatten() {
            match kind.of_text(text) {
                Some(value) => found = found.or(Some((value, at))),
                None => {
                    let got = if kind.is_secret() { NOT_SHOWN.to_owned() } else { format!("{text:?}") };
                    let message = format!("{full_name} must be {}, got {got}", kind.must_be());
                    mistakes.push(Mistake { at, message });
                }
            }
        }
        if let (Some(document), Some(value)) =
            (&reader.document, reader.lookup(&self.section.name, self.section.table, self.key))
        {
            match kind.of_toml(value.get_ref()) {
                Some(read) => found = found.or_else(|| Some((read, document.origin(value.span())))),
                None if kind.is_secret() => {
                    let message = format!("{full_name} must be {}, got {NOT_SHOWN}", kind.must_be());
                    mistakes.push(Mistake { at: document.origin(value.span()), message });
                }
                None => mistakes.push(document.wrong(value, full_name, &kind.must_be())),
            }
        }
        (found, mistakes)
    }
}

fn unknown_key(section: &str, key: &str, keys: &[&str], known: &BTreeMap<&str, Vec<&str>>) -> String {
    let elsewhere = known.iter().find(|(name, keys)| **name != section && keys.contains(&key));
    let hint = match (closest(key, keys.iter().copied()), elsewhere) {
        (Some(near), _) => format!("did you mean {near}?"),
        (None, Some((name, _))) => format!("{key} belongs into [{name}]"),
        (None, None) => format!("[{section}] knows {}", keys.join(", ")),
    };
    format!("unknown key {section}.{key}; {hint}")
}

fn unknown_at_top(name: &str, is_table: bool, known: &BTreeMap<&str, Vec<&str>>) -> String {
    let hint = match known.iter().find(|(_, keys)| keys.contains(&name)) {
        Some((section, _)) if !is_table => format!("{name} belongs into [{section}]"),
        _ => match closest(name, known.keys().copied()) {
            Some(near) => format!("did you mean [{near}]?"),
            None => format!("the sections are {}", known.keys().copied().collect::<Vec<_>>().join(", ")),
        },
    };
    format!("unknown {} {name}; {hint}", if is_table { "section" } else { "key" })
}

/// The known word that was most likely meant.
fn closest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let scored = known.map(|candidate| (strsim::jaro_winkler(word, candidate), candidate));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, candidate)| candidate)
}
