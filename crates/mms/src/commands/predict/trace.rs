//! Traces of uses as text: one JSON object in a line, in the order of time. What cannot be understood is told with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use mms_manager::prediction::replay::TraceUse;
use mms_manager::prediction::traces::{Kind, generate, sizes_mb};
use mms_protocol::call::MAX_NAME_BYTES;
use serde_json::{Map, Value, json};

use crate::cli::TraceKind;
use crate::exit::Failure;
use crate::output::piece;

/// Uses in a trace.
const MAX_USES: usize = 1_000_000;
/// Longest line, bytes.
const MAX_LINE: usize = 4096;
/// Different models in a trace.
const MAX_MODELS: usize = 512;
/// Latest time: the year 2286 in epoch seconds.
const LATEST: f64 = 1e10;
/// Most memory of a model, MiB.
const MOST_MB: f64 = 1e9;

/// A trace that was read.
#[derive(Debug, PartialEq)]
pub(super) struct Trace {
    /// In the order of their times.
    pub(super) uses: Vec<TraceUse>,
    /// What models take, MiB, where that is said.
    pub(super) sizes_mb: BTreeMap<String, f64>,
    /// Different models.
    pub(super) models: usize,
}

/// Prints a generated one.
pub(super) fn print(kind: TraceKind, seed: u64, days: u32) -> Result<(), Failure> {
    let kind = match kind {
        TraceKind::Daily => Kind::Daily,
        TraceKind::Chains => Kind::Chains,
        TraceKind::Random => Kind::Random,
    };
    Ok(piece(&text(&generate(kind, seed, days), &sizes_mb()))?)
}

fn text(uses: &[TraceUse], sizes_mb: &BTreeMap<String, f64>) -> String {
    let mut text = String::new();
    for one in uses {
        let mut line = json!({"time": one.time, "model": one.model});
        if let Some(client) = &one.client {
            line["client"] = json!(client);
        }
        if let Some(mb) = sizes_mb.get(&one.model) {
            line["mb"] = json!(mb);
        }
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// Reads a file; `-`: standard input.
pub(super) fn read(path: &Path) -> Result<Trace, Failure> {
    let name = path.display();
    let trace = if path.as_os_str() == "-" {
        parse(std::io::stdin().lock())
    } else {
        match std::fs::File::open(path) {
            Ok(file) => parse(BufReader::new(file)),
            Err(error) => Err(format!("cannot be opened: {error}")),
        }
    };
    trace.map_err(|why| Failure::Usage(format!("the trace {name} cannot be replayed: {why}")))
}

fn parse(mut from: impl BufRead) -> Result<Trace, String> {
    let mut trace = Trace { uses: Vec::new(), sizes_mb: BTreeMap::new(), models: 0 };
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        // One byte more shows that a line is too long, however long it is.
        let bound = MAX_LINE as u64 + 2;
        let read = from.by_ref().take(bound).read_until(b'\n', &mut line);
        let read = read.map_err(|error| format!("line {number} cannot be read: {error}"))?;
        if read == 0 {
            break;
        }
        let bytes = line.trim_ascii();
        if bytes.len() > MAX_LINE || (line.len() as u64 == bound && !line.ends_with(b"\n")) {
            return Err(format!(
                "line {number} is longer than {MAX_LINE} bytes; is it a trace, one JSON object in a line?"
            ));
        }
        if bytes.is_empty() {
            continue;
        }
        let (one, mb) = use_of(bytes).map_err(|why| format!("line {number}: {why}"))?;
        if let Some(before) = trace.uses.last().filter(|before| one.time < before.time) {
            return Err(format!(
                "line {number}: its time {} is before that of the use above it, {}; sort the trace by time",
                one.time, before.time
            ));
        }
        if trace.uses.len() == MAX_USES {
            return Err(format!("it has more than {MAX_USES} uses; replay a part of it"));
        }
        if known.insert(one.model.clone()) && known.len() > MAX_MODELS {
            return Err(format!("line {number}: it has more than {MAX_MODELS} different models"));
        }
        if let Some(mb) = mb {
            trace.sizes_mb.insert(one.model.clone(), mb);
        }
        trace.uses.push(one);
    }
    trace.models = known.len();
    if trace.uses.is_empty() { Err("it has no uses".to_owned()) } else { Ok(trace) }
}

fn use_of(line: &[u8]) -> Result<(TraceUse, Option<f64>), String> {
    let object: Map<String, Value> = serde_json::from_slice(line).map_err(|error| {
        format!("must be a JSON object such as {{\"time\": 1767571200, \"model\": \"a\"}}: {error}")
    })?;
    if let Some(key) = object.keys().find(|key| !["time", "model", "client", "mb"].contains(&key.as_str())) {
        let key: String = key.chars().take(40).collect();
        return Err(format!("{key:?} is no key of a use; these are time, model, client, mb"));
    }
    let number = |key: &str, most: f64| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_f64().filter(|number| (0.0..=most).contains(number));
            number.map(Some).ok_or_else(|| format!("{key} must be a number from 0 to {most}"))
        }
    };
    let name = |key: &str| match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if (1..=MAX_NAME_BYTES).contains(&name.len()) => Ok(Some(name.clone())),
        Some(_) => Err(format!("{key} must be a string of 1 to {MAX_NAME_BYTES} bytes")),
    };
    let time = number("time", LATEST)?.ok_or("time is missing: epoch seconds")?;
    let model = name("model")?.ok_or("model is missing: its id")?;
    Ok((TraceUse { time, model, client: name("client")? }, number("mb", MOST_MB)?))
}

#[cfg(test)]
mod tests {
    use mms_manager::prediction::traces::{KINDS, generate, sizes_mb};

    use super::{parse, text};

    #[test]
    fn what_is_written_is_read_again() {
        for kind in KINDS {
            let uses = generate(kind, 7, 1);
            let trace = parse(text(&uses, &sizes_mb()).as_bytes()).unwrap();
            assert_eq!(trace.uses, uses);
            assert!(trace.sizes_mb.iter().all(|(model, mb)| sizes_mb()[model] == *mb));
            assert_eq!(trace.models, 12);
        }
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let long = format!("{{\"time\": 1, \"model\": \"{}\"}}", "x".repeat(1 << 20));
        let name = format!("{{\"time\": 1, \"model\": \"{}\"}}", "x".repeat(300));
        let many: String = (0..600).map(|n| format!("{{\"time\": 1, \"model\": \"{n}\"}}\n")).collect();
        for (trace, why) in [
            ("", "it has no uses"),
            ("\n\n", "it has no uses"),
            ("hello", "line 1: must be a JSON object"),
            ("[1]", "line 1: must be a JSON object"),
            ("{\"time\": 1, \"model\": \"a\"}\n{\"time\": 1", "line 2: must be a JSON object"),
            ("{\"model\": \"a\"}", "line 1: time is missing"),
            ("{\"time\": 1}", "line 1: model is missing"),
            ("{\"time\": \"1\", \"model\": \"a\"}", "line 1: time must be a number from 0 to"),
            ("{\"time\": -1, \"model\": \"a\"}", "line 1: time must be a number from 0 to"),
            ("{\"time\": 1e300, \"model\": \"a\"}", "line 1: time must be a number from 0 to"),
            ("{\"time\": NaN, \"model\": \"a\"}", "line 1: must be a JSON object"),
            ("{\"time\": 1, \"model\": \"\"}", "line 1: model must be a string of 1 to 256 bytes"),
            ("{\"time\": 1, \"model\": 5}", "line 1: model must be a string"),
            ("{\"time\": 1, \"model\": \"a\", \"client\": []}", "line 1: client must be a string"),
            ("{\"time\": 1, \"model\": \"a\", \"mb\": -3}", "line 1: mb must be a number"),
            ("{\"time\": 1, \"model\": \"a\", \"modle\": 1}", "line 1: \"modle\" is no key"),
            ("{\"time\": 2, \"model\": \"a\"}\n{\"time\": 1, \"model\": \"a\"}", "line 2: its time 1 is before"),
            ("\u{0}\u{1}\u{2}", "line 1: must be a JSON object"),
            (&long, "line 1 is longer than 4096 bytes"),
            (&name, "line 1: model must be a string of 1 to 256 bytes"),
            (&many, "line 513: it has more than 512 different models"),
        ] {
            let found = parse(trace.as_bytes()).unwrap_err();
            assert!(found.starts_with(why), "{found:?} is not {why:?}");
            assert!(found.len() < 400, "{} bytes", found.len());
        }
    }
}
