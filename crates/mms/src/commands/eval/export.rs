//! `mms eval export`: all rows that fit, page by page, as CSV or JSON.

use std::io::{self, BufWriter, Write};

use serde_json::{Map, Value};

use super::super::ask::Server;
use super::{Pages, cell, filter};
use crate::cli::{EvalExport, EvalKind};
use crate::draft::Draft;
use crate::exit::Failure;

/// Rows of one request.
const PAGE: usize = 1000;

pub(super) async fn run(command: &EvalExport) -> Result<(), Failure> {
    let of_agent = [("agent_name", &command.agent), ("metric_name", &command.metric)];
    let of_model = [("model_name", &command.model), ("cycle_id", &command.cycle)];
    let kind = command.what;
    let (names, others) = match kind {
        EvalKind::Metrics => (of_agent, of_model),
        EvalKind::Evaluations => (of_model, of_agent),
    };
    if let Some((name, _)) = others.iter().find(|(_, given)| given.is_some()) {
        return Err(Failure::Usage(format!("what is exported here has no {name} to filter by")));
    }
    let given = filter(names, &command.times);
    let server = Server::of(&command.target)?;
    match &command.output {
        None => write(&server, kind, given, &mut BufWriter::new(io::stdout())).await,
        Some(file) => {
            let mut draft = Draft::new(file, command.force)?;
            write(&server, kind, given, &mut BufWriter::new(&mut draft)).await?;
            draft.keep()
        }
    }
}

async fn write(
    server: &Server,
    kind: EvalKind,
    given: Map<String, Value>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let json = server.output.is_json();
    let mut pages = Pages::of(server, kind, given).await?;
    let (mut begun, mut comma) = (false, "");
    while let Some(page) = pages.next(PAGE).await? {
        // Only now: a refusal leaves standard output empty.
        if !std::mem::replace(&mut begun, true) {
            let columns = kind.columns().iter().map(|name| (*name).to_owned());
            out.write_all(&if json { b"[".to_vec() } else { line(columns) })?;
        }
        for row in page.iter().filter_map(Value::as_object) {
            if json {
                write!(out, "{comma}\n{}", Value::Object(row.clone()))?;
                comma = ",";
            } else {
                out.write_all(&line(kind.columns().iter().map(|column| cell(column, row.get(*column)))))?;
            }
        }
    }
    if json {
        out.write_all(b"\n]\n")?;
    }
    Ok(out.flush()?)
}

fn line(cells: impl Iterator<Item = String>) -> Vec<u8> {
    let cells: Vec<String> = cells.map(|text| quoted(&harmless(text))).collect();
    (cells.join(",") + "\r\n").into_bytes()
}

/// A text that a spreadsheet would take for a formula gets an apostrophe before it, which spreadsheets take for "this is text".
fn harmless(text: String) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    if formula { format!("'{text}") } else { text }
}

/// As RFC 4180 has it.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_never_formulas() {
        let cells = ["plain", "a,b", "say \"x\"\n", "=1+1", "-2.5e3", "-", "@x,", "\tx", "+5"];
        let expected = "plain,\"a,b\",\"say \"\"x\"\"\n\",'=1+1,-2.5e3,'-,\"'@x,\",'\tx,+5\r\n";
        assert_eq!(String::from_utf8(line(cells.into_iter().map(str::to_owned))).unwrap(), expected);
    }
}
