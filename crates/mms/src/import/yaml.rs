//! YAML as old configurations have it, read into a tree that knows its lines, within bounds: depth, and values once aliases are
//! followed. Plain words mean what Python's yaml takes them for (`yes`, `on` and so on are booleans), as such files were written for it.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};
use serde_json::{Number, Value, json};

/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Most values, aliases followed.
const MAX_VALUES: usize = 50_000;
/// Most keys of a table.
const MAX_KEYS: usize = 2000;
/// How the tags of YAML's own types begin.
const CORE: &str = "tag:yaml.org,2002:";

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// What it is.
    pub yaml: Yaml,
    /// From 1.
    pub line: usize,
    /// Values in it, itself included.
    values: usize,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Yaml {
    /// Nothing.
    Null,
    /// `true`, `no`...
    Bool(bool),
    /// A number.
    Number(Number),
    /// Anything else that is one word or text.
    Text(String),
    /// An array.
    List(Vec<Node>),
    /// A table, in the order of the file.
    Map(Vec<(String, Node)>),
}

/// What `<<` must bring.
const NO_TABLE: &str = "<< must be a table or a list of tables";

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    /// From 1.
    pub line: usize,
    /// From 1, characters.
    pub column: usize,
    /// What is wrong.
    pub why: String,
}

impl Node {
    /// As JSON, to be shown.
    pub(crate) fn to_json(&self) -> Value {
        match &self.yaml {
            Yaml::Null => Value::Null,
            Yaml::Bool(value) => json!(value),
            Yaml::Number(number) => Value::Number(number.clone()),
            Yaml::Text(text) => json!(text),
            Yaml::List(items) => items.iter().map(Self::to_json).collect(),
            Yaml::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.clone(), node.to_json())).collect())
            }
        }
    }
}

/// Reads the one document of a text.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut tree = Tree::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let mark = error.marker();
            YamlError { line: mark.line(), column: mark.col() + 1, why: error.info() }
        })?;
        tree.take(event, span).map_err(|why| YamlError {
            line: span.start.line(),
            column: span.start.col() + 1,
            why,
        })?;
    }
    Ok(tree.root.unwrap_or(Node { yaml: Yaml::Null, line: 1, values: 1 }))
}

/// A list or a table that has not ended yet.
struct Open {
    line: usize,
    anchor: usize,
    values: usize,
    kind: Kind,
}

enum Kind {
    List(Vec<Node>),
    Map {
        entries: Vec<(String, Node)>,
        key: Option<String>,
        /// What `<<` brings, the first first.
        merged: Vec<(String, Node)>,
    },
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    values: usize,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), String> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let yaml = scalar(&text, style, tag.as_deref())?;
                self.add(Node { yaml, line, values: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                self.begin(line, anchor, Kind::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map")?;
                self.begin(line, anchor, Kind::Map { entries: Vec::new(), key: None, merged: Vec::new() })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err("an alias stands inside of what it stands for".to_owned());
                };
                // Counted before it is copied: aliases of aliases grow without bound.
                if self.values + node.values > MAX_VALUES {
                    return Err(too_many());
                }
                let node = node.clone();
                self.add(node, 0)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                Err("a second document begins; the file must have one".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: usize, anchor: usize, kind: Kind) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        if matches!(self.open.last(), Some(Open { kind: Kind::Map { key: None, .. }, .. })) {
            return Err("a key must be a word, not a list or a table".to_owned());
        }
        self.open.push(Open { line, anchor, values: 1, kind });
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        let Some(Open { line, anchor, values, kind }) = self.open.pop() else { return Ok(()) };
        let yaml = match kind {
            Kind::List(items) => Yaml::List(items),
            Kind::Map { mut entries, merged, .. } => {
                for (key, node) in merged {
                    if !entries.iter().any(|(known, _)| *known == key) {
                        check_keys(entries.len())?;
                        entries.push((key, node));
                    }
                }
                Yaml::Map(entries)
            }
        };
        // A table or list counts when it begins to be added, its elements have been counted already.
        self.values -= values - 1;
        self.add(Node { yaml, line, values }, anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        let is_key = matches!(self.open.last(), Some(Open { kind: Kind::Map { key: None, .. }, .. }));
        self.values += node.values;
        if self.values > MAX_VALUES {
            return Err(too_many());
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.values += node.values;
        match &mut open.kind {
            Kind::List(items) => items.push(node),
            Kind::Map { entries, key, .. } if is_key => {
                let word = match node.yaml {
                    Yaml::Text(text) => text,
                    Yaml::Bool(_) | Yaml::Number(_) => node.to_json().to_string(),
                    Yaml::Null | Yaml::List(_) | Yaml::Map(_) => return Err("a key must be a word".to_owned()),
                };
                check_keys(entries.len())?;
                if word != "<<" && entries.iter().any(|(known, _)| *known == word) {
                    return Err(format!("the key {word:?} is there twice"));
                }
                *key = Some(word);
            }
            Kind::Map { entries, key, merged } => match (key.take().unwrap_or_default(), node) {
                (word, Node { yaml: Yaml::Map(table), .. }) if word == "<<" => merged.extend(table),
                (word, Node { yaml: Yaml::List(tables), .. }) if word == "<<" => {
                    for table in tables {
                        let Yaml::Map(table) = table.yaml else { return Err(NO_TABLE.to_owned()) };
                        merged.extend(table);
                    }
                }
                (word, _) if word == "<<" => return Err(NO_TABLE.to_owned()),
                (word, node) => entries.push((word, node)),
            },
        }
        Ok(())
    }
}

fn check_keys(keys: usize) -> Result<(), String> {
    if keys < MAX_KEYS { Ok(()) } else { Err(format!("a table has more than {MAX_KEYS} keys")) }
}

fn too_many() -> String {
    format!("it has more than {MAX_VALUES} values, aliases followed")
}

fn check_tag(tag: Option<&Tag>, own: &str) -> Result<(), String> {
    match tag.map(ToString::to_string) {
        None => Ok(()),
        Some(tag) if tag.strip_prefix(CORE) == Some(own) => Ok(()),
        Some(tag) => Err(format!("the tag {tag} is not supported; write the value itself")),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Yaml, String> {
    let tag = tag.map(ToString::to_string);
    match tag.as_deref().map(|tag| tag.strip_prefix(CORE).ok_or(tag)) {
        Some(Ok("str")) => return Ok(Yaml::Text(text.to_owned())),
        Some(Ok("int" | "float" | "bool" | "null")) => return Ok(plain(text)),
        Some(Ok(tag) | Err(tag)) => return Err(format!("the tag {tag} is not supported; write the value itself")),
        None => {}
    }
    Ok(if style == ScalarStyle::Plain { plain(text) } else { Yaml::Text(text.to_owned()) })
}

fn plain(text: &str) -> Yaml {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Yaml::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Yaml::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Yaml::Bool(false),
        _ => {}
    }
    let digits = text.replace('_', "");
    let numeric = digits.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let float = || digits.parse().ok().filter(|_| digits.contains('.')).and_then(Number::from_f64);
    match digits.parse::<i64>().ok().map(Number::from).or_else(float) {
        Some(number) if numeric => Yaml::Number(number),
        _ => Yaml::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MAX_KEYS, MAX_VALUES, parse};

    fn json_of(text: &str) -> serde_json::Value {
        parse(text).unwrap_or_else(|error| panic!("{error:?}")).to_json()
    }

    #[track_caller]
    fn refused(text: &str, line: usize, part: &str) {
        let error = parse(text).expect_err("a mistake");
        assert!(error.line == line && error.why.contains(part), "{error:?}");
    }

    #[test]
    fn words_mean_what_python_takes_them_for() {
        let text = "a: yes\nb: Off\nc: 12\nd: 1.5\ne: 'yes'\nf:\ng: 1_000\nh: q4_K_M\ni: ~\nj: -3\nk: 1.2.3\n3: x\nl: .inf\nm: !!str 5\n";
        let expected = json!({
            "a": true, "b": false, "c": 12, "d": 1.5, "e": "yes", "f": null, "g": 1000, "h": "q4_K_M", "i": null, "j": -3,
            "k": "1.2.3", "3": "x", "l": ".inf", "m": "5",
        });
        assert_eq!(json_of(text), expected);
        assert_eq!(json_of(""), json!(null));
        assert_eq!(json_of("- [1, {a: b}]\n- |\n  two\n  lines\n"), json!([[1, {"a": "b"}], "two\nlines\n"]));
    }

    #[test]
    fn aliases_and_merged_tables_are_followed() {
        let text = "base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  y: 3\nboth:\n  <<: [*b, {z: 4}]\n";
        assert_eq!(json_of(text)["own"], json!({"y": 3, "x": 1}));
        assert_eq!(json_of(text)["both"], json!({"x": 1, "y": 2, "z": 4}));
    }

    #[test]
    fn what_is_hostile_is_refused_with_its_place() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let last = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{last}"); 10].join(", ")));
        }
        refused(&bomb, 5, "more than 50000 values, aliases followed");
        refused(&"- x\n".repeat(MAX_VALUES + 1), MAX_VALUES + 1, "more than 50000 values");
        assert!(parse(&"[".repeat(100_000)).is_err_and(|error| error.line == 1), "flow nesting");
        assert!(parse(&"- ".repeat(100_000)).is_err(), "block nesting");
        let steps: String = (0..1000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
        assert!(parse(&steps).is_err_and(|error| error.line < 40), "nested tables");
        let keys: String = (0..=MAX_KEYS).map(|key| format!("k{key}: 1\n")).collect();
        refused(&keys, MAX_KEYS + 1, "more than 2000 keys");
        refused("a: &a [*a]\n", 1, "inside of what it stands for");
        refused("a: *nobody\n", 1, "");
        refused("a: 1\na: 2\n", 2, "there twice");
        refused("a: !ENV ${HOME}\n", 1, "not supported");
        refused("a: !!python/object/apply:os.system [\"true\"]\n", 1, "not supported");
        refused("? [a]\n: b\n", 1, "a key must be a word");
        refused("<<: 5\n", 1, "must be a table");
        refused("a: 1\n---\nb: 2\n", 2, "second document");
        refused("a: [1\nb: 2\n", 2, "");
        refused("a: \"never ends\n", 1, "unclosed quote");
    }
}
