//! What commands print: tables and progress for people, JSON for machines. Results go to standard output; progress goes to standard
//! error, and only when that is a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// Prints for a person or for a machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// `json`: for a machine.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a machine reads it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// JSON for a machine, else what `text` writes for a person.
    pub(crate) fn either(self, json: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.json { line(&format!("{json:#}")) } else { line(&text()) }
    }

    /// Something that turns while a person waits; silent for machines and files.
    pub(crate) fn progress(self, message: impl Into<String>) -> Progress {
        if self.json || !io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let progress = Progress(ProgressBar::new(100));
        progress.say(&message.into());
        progress.0.enable_steady_tick(Duration::from_millis(100));
        progress
    }
}

/// A line on standard output; one without an end gets one.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// A piece of text on standard output, at once.
pub(crate) fn piece(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Rows under their titles, as wide as the terminal allows; the columns numbered in `right` are aligned to the right.
pub(crate) fn table(titles: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(titles.to_vec());
    table.add_rows(rows);
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Names and values, one pair in a line.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
}

/// Bytes or MiB in the unit that a person would choose.
pub(crate) fn mebibytes(mb: f64) -> String {
    if mb >= 1024.0 { format!("{:.1} GB", mb / 1024.0) } else { format!("{mb:.0} MB") }
}

/// A count such as `1.1 B` or `3.2 M`.
pub(crate) fn count(number: u64) -> String {
    let number = number as f64;
    for (unit, size) in [("B", 1e9), ("M", 1e6), ("K", 1e3)] {
        if number >= size {
            return format!("{:.1} {unit}", number / size);
        }
    }
    format!("{number}")
}

/// A bar that vanishes when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Whether somebody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    /// How far it is, 0 to 1, and what is being done.
    pub(crate) fn part(&self, fraction: f64, message: &str) {
        self.0.set_position((fraction.clamp(0.0, 1.0) * 100.0) as u64);
        self.show("{spinner} {msg} {bar:30} {percent}% {elapsed}", message);
    }

    /// What is being done; how far it is, nobody knows.
    pub(crate) fn say(&self, message: &str) {
        self.show("{spinner} {msg} {elapsed}", message);
    }

    fn show(&self, template: &str, message: &str) {
        // The templates are our own; one that is wrong would leave the last one.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.set_message(message.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{count, mebibytes, pairs, table};

    #[test]
    fn figures_for_people() {
        assert_eq!([mebibytes(12.4), mebibytes(2048.0)], ["12 MB", "2.0 GB"]);
        assert_eq!([count(12), count(3_200_000), count(1_100_000_000)], ["12", "3.2 M", "1.1 B"]);
    }

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "100".to_owned()]];
        let shown = table(&["NAME", "SIZE"], rows, &[1]);
        let ends: Vec<usize> = shown.lines().map(str::len).collect();
        assert_eq!(ends, [ends[0]; 3], "{shown}");
        assert_eq!(pairs(&[("a", "1".to_owned()), ("long", "2".to_owned())]), "a     1\nlong  2\n");
    }
}
