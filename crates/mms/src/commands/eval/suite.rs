//! The task file of `mms eval run`: TOML with `[[task]]` tables. Every mistake is told with its place; a key that nobody knows is one.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;

use super::check::Check;
use super::schema::Schema;
use crate::exit::Failure;

/// Largest task file, bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Most tasks.
const MAX_TASKS: usize = 10_000;
/// Most labels of a classification.
const MAX_LABELS: usize = 1000;
/// Largest compiled regular expression, bytes.
const MAX_REGEX: usize = 1 << 20;
/// Longest name of a suite or a task, bytes.
const MAX_NAME: usize = 200;
/// Most mistakes that are shown.
const SHOWN: usize = 20;
/// Most tokens of an answer, when nobody says.
const MAX_TOKENS: u32 = 128;

/// What a file asks.
#[derive(Debug)]
pub(super) struct Suite {
    /// Its name, else that of the file.
    pub(super) name: String,
    /// Classes that answers are sorted into; empty without a classification.
    pub(super) labels: Vec<String>,
    /// In the order of the file; at least one.
    pub(super) tasks: Vec<Task>,
}

/// One task.
#[derive(Debug)]
pub(super) struct Task {
    /// Its own in the suite.
    pub(super) id: String,
    pub(super) prompt: String,
    pub(super) system: Option<String>,
    pub(super) max_tokens: u32,
    pub(super) check: Check,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SuiteFile {
    name: Option<Spanned<String>>,
    system: Option<String>,
    max_tokens: Option<Spanned<u32>>,
    #[serde(default)]
    labels: Vec<Spanned<String>>,
    #[serde(default)]
    task: Vec<Spanned<TaskTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskTable {
    id: Option<Spanned<String>>,
    prompt: Spanned<String>,
    system: Option<String>,
    max_tokens: Option<Spanned<u32>>,
    check: CheckName,
    expected: Option<Spanned<toml::Value>>,
    ignore_case: Option<Spanned<bool>>,
    tolerance: Option<Spanned<f64>>,
    fields: Option<Spanned<toml::Value>>,
    schema: Option<Spanned<toml::Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CheckName {
    Exact,
    OneOf,
    Contains,
    Regex,
    Number,
    Label,
    Json,
}

/// What is wrong, and at which byte.
struct Wrong(usize, String);

/// Reads all tasks.
pub(super) fn read(file: &Path, max_tokens: Option<u32>) -> Result<Suite, Failure> {
    let name = file.display();
    let cannot = |error: std::io::Error| Failure::Usage(format!("cannot read {name}: {error}"));
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::Usage(format!("{name} is larger than the {MAX_BYTES} bytes that a task file may have")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::Usage(format!("{name} is no text in UTF-8 (byte {})", error.utf8_error().valid_up_to()))
    })?;
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    parse(&text, &stem, max_tokens).map_err(|wrongs| {
        let all = wrongs.len();
        let mut lines: Vec<String> = wrongs
            .into_iter()
            .take(SHOWN)
            .map(|Wrong(at, why)| {
                let before = &text.as_bytes()[..at.min(text.len())];
                format!("{name}:{}: {why}", before.iter().filter(|&&byte| byte == b'\n').count() + 1)
            })
            .collect();
        if all > SHOWN {
            lines.push(format!("and {} more mistakes", all - SHOWN));
        }
        Failure::Usage(lines.join("\n"))
    })
}

fn parse(text: &str, stem: &str, max_tokens: Option<u32>) -> Result<Suite, Vec<Wrong>> {
    let file: SuiteFile = toml::from_str(text).map_err(|error| {
        let why = error.message().trim().replace('\n', ", ");
        vec![Wrong(error.span().map_or(0, |span| span.start), why)]
    })?;
    let mut wrongs = Vec::new();
    let name = file.name.map_or_else(
        || stem.to_owned(),
        |name| {
            wrongs.extend(wrong_name(&name));
            name.into_inner()
        },
    );
    let labels = labels(&file.labels, &mut wrongs);
    let common = Common { system: file.system, max_tokens: file.max_tokens, forced: max_tokens, labels: &labels };
    match file.task.len() {
        0 => wrongs.push(Wrong(text.len(), "there are no tasks; each is a table [[task]]".to_owned())),
        count if count > MAX_TASKS => {
            let at = file.task[MAX_TASKS].span().start;
            wrongs.push(Wrong(at, format!("{count} tasks, at most {MAX_TASKS} are run; split the file")));
        }
        _ => {}
    }
    let (mut tasks, mut ids) = (Vec::new(), HashSet::new());
    for (number, table) in file.task.into_iter().take(MAX_TASKS).enumerate() {
        let at = table.span().start;
        match task(number + 1, at, table.into_inner(), &common) {
            Ok(task) if !ids.insert(task.id.clone()) => {
                wrongs.push(Wrong(at, format!("a second task has the id {:?}", task.id)));
            }
            Ok(task) => tasks.push(task),
            Err(wrong) => wrongs.push(wrong),
        }
    }
    if wrongs.is_empty() { Ok(Suite { name, labels, tasks }) } else { Err(wrongs) }
}

fn wrong_name(name: &Spanned<String>) -> Option<Wrong> {
    let fits = !name.get_ref().trim().is_empty() && name.get_ref().len() <= MAX_NAME;
    (!fits).then(|| Wrong(name.span().start, format!("a name must have 1 to {MAX_NAME} bytes")))
}

fn labels(given: &[Spanned<String>], wrongs: &mut Vec<Wrong>) -> Vec<String> {
    let mut seen = HashSet::new();
    for label in given {
        let plain = label.get_ref().trim().to_lowercase();
        if !plain.chars().any(char::is_alphanumeric) {
            wrongs.push(Wrong(label.span().start, "a label needs a letter or a digit".to_owned()));
        } else if !seen.insert(plain) {
            wrongs.push(Wrong(label.span().start, format!("the label {:?} is there twice", label.get_ref())));
        }
    }
    if given.len() > MAX_LABELS {
        wrongs.push(Wrong(given[MAX_LABELS].span().start, format!("at most {MAX_LABELS} labels may be used")));
    }
    given.iter().map(|label| label.get_ref().trim().to_owned()).collect()
}

/// What holds for every task that says nothing else.
struct Common<'a> {
    system: Option<String>,
    max_tokens: Option<Spanned<u32>>,
    /// By the command line; beats the file.
    forced: Option<u32>,
    labels: &'a [String],
}

fn task(number: usize, at: usize, table: TaskTable, common: &Common<'_>) -> Result<Task, Wrong> {
    if table.prompt.get_ref().trim().is_empty() {
        return Err(Wrong(table.prompt.span().start, "the prompt is empty".to_owned()));
    }
    if let Some(wrong) = table.id.as_ref().and_then(wrong_name) {
        return Err(wrong);
    }
    let told = table.max_tokens.as_ref().or(common.max_tokens.as_ref());
    if let Some(zero) = told.filter(|tokens| *tokens.get_ref() == 0) {
        return Err(Wrong(zero.span().start, "max_tokens must be 1 or more".to_owned()));
    }
    let check = check(at, &table, common.labels)?;
    let max_tokens = common.forced.or(told.map(|tokens| *tokens.get_ref())).unwrap_or(MAX_TOKENS);
    Ok(Task {
        id: table.id.map_or_else(|| format!("task {number}"), Spanned::into_inner),
        prompt: table.prompt.into_inner(),
        system: table.system.or_else(|| common.system.clone()),
        max_tokens,
        check,
    })
}

fn check(at: usize, table: &TaskTable, labels: &[String]) -> Result<Check, Wrong> {
    use CheckName::{Contains, Exact, Json, Label, Number, OneOf};
    let name = table.check;
    let texts = matches!(name, Exact | OneOf | Contains | CheckName::Regex);
    // An option that would be without effect is a mistake.
    let spare = [
        ("ignore_case", table.ignore_case.as_ref().map(Spanned::span), texts),
        ("tolerance", table.tolerance.as_ref().map(Spanned::span), name == Number),
        ("fields", table.fields.as_ref().map(Spanned::span), name == Json),
        ("schema", table.schema.as_ref().map(Spanned::span), name == Json),
    ];
    if let Some((key, Some(span), _)) = spare.into_iter().find(|(_, span, used)| span.is_some() && !used) {
        return Err(Wrong(span.start, format!("{key} has no meaning for this check")));
    }
    let expected = table.expected.as_ref();
    let place = expected.map_or(at, |expected| expected.span().start);
    let wrong = |why: &str| Wrong(place, why.to_owned());
    let text = || {
        let text = expected.and_then(|expected| expected.get_ref().as_str()).filter(|text| !text.trim().is_empty());
        text.map(str::to_owned).ok_or_else(|| wrong("expected must be a text that is not empty"))
    };
    let several = || {
        let all = expected.and_then(|expected| expected.get_ref().as_array()).and_then(|items| {
            let text = |item: &toml::Value| item.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
            items.iter().map(text).collect::<Option<Vec<_>>>()
        });
        all.filter(|all| !all.is_empty()).ok_or_else(|| wrong("expected must be texts in an array, none of them empty"))
    };
    let ignore_case = table.ignore_case.as_ref().is_some_and(|flag| *flag.get_ref());
    match name {
        Exact => Ok(Check::OneOf { texts: vec![text()?], ignore_case }),
        OneOf => Ok(Check::OneOf { texts: several()?, ignore_case }),
        Contains => Ok(Check::Contains { texts: text().map(|one| vec![one]).or_else(|_| several())?, ignore_case }),
        CheckName::Regex => regex(&text()?, ignore_case).map(Check::Regex).map_err(|why| wrong(&why)),
        Number => {
            let right = expected.and_then(|expected| number(expected.get_ref()));
            let right = right.ok_or_else(|| wrong("expected must be a finite number"))?;
            let tolerance = table.tolerance.as_ref().map_or(0.0, |tolerance| *tolerance.get_ref());
            if !(tolerance.is_finite() && tolerance >= 0.0) {
                let at = table.tolerance.as_ref().map_or(at, |tolerance| tolerance.span().start);
                return Err(Wrong(at, format!("tolerance must be a finite number, 0 or more, not {tolerance}")));
            }
            Ok(Check::Number { right, tolerance })
        }
        Label => {
            let right = text()?;
            let plain = right.trim().to_lowercase();
            let label = labels.iter().position(|label| label.to_lowercase() == plain);
            label.map(Check::Label).ok_or_else(|| wrong(&format!("{right:?} is none of the labels of this file")))
        }
        Json => json(table, expected),
    }
}

fn json(table: &TaskTable, expected: Option<&Spanned<toml::Value>>) -> Result<Check, Wrong> {
    let value = |given: Option<&Spanned<toml::Value>>| match given {
        None => Ok(None),
        Some(given) => of_toml(given.get_ref()).map(Some).map_err(|why| Wrong(given.span().start, why)),
    };
    let fields = match (value(table.fields.as_ref())?, &table.fields) {
        (Some(Value::Object(fields)), _) => fields,
        (None, _) => serde_json::Map::new(),
        (Some(_), given) => {
            let at = given.as_ref().map_or(0, |given| given.span().start);
            return Err(Wrong(at, "fields must be a table of names and values".to_owned()));
        }
    };
    let schema = match (value(table.schema.as_ref())?, &table.schema) {
        (Some(schema), Some(given)) => {
            Some(Schema::new(schema).map_err(|why| Wrong(given.span().start, format!("schema: {why}")))?)
        }
        _ => None,
    };
    Ok(Check::Json { expected: value(expected)?, fields, schema })
}

fn number(value: &toml::Value) -> Option<f64> {
    let number = value.as_float().or_else(|| value.as_integer().map(|number| number as f64));
    number.filter(|number| number.is_finite())
}

/// JSON knows neither NaN nor dates.
fn of_toml(value: &toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) if number.is_finite() => (*number).into(),
        toml::Value::Boolean(flag) => (*flag).into(),
        toml::Value::Array(items) => items.iter().map(of_toml).collect::<Result<Vec<_>, _>>()?.into(),
        toml::Value::Table(table) => {
            let pairs = table.iter().map(|(key, value)| Ok((key.clone(), of_toml(value)?)));
            Value::Object(pairs.collect::<Result<_, String>>()?)
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) => return Err(format!("{value} is no value of JSON")),
    })
}

fn regex(pattern: &str, ignore_case: bool) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).case_insensitive(ignore_case).size_limit(MAX_REGEX).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("the regular expression needs more than {MAX_REGEX} bytes"),
        other => format!("the regular expression is wrong: {}", other.to_string().trim().replace('\n', " ")),
    })
}
