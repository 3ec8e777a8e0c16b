//! The old suite's `llm_config.yaml` as a configuration of ours: what of it is taken, changed or left out, and why.

mod convert;
mod report;
mod yaml;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub(crate) use convert::convert;
pub(crate) use report::{Outcome, Report};

use crate::config::{Mistake, Mistakes, Origin};
use yaml::Node;

/// Largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Reads such a file; `named_by`: who gave its name.
pub(crate) fn read(path: &Path, named_by: &Origin) -> Result<Report, Mistakes> {
    let wrong = |at: Origin, message: String| Mistakes(vec![Mistake { at, message }]);
    let mut bytes = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    opened.map_err(|error| wrong(named_by.clone(), format!("the file {} cannot be read: {error}", path.display())))?;
    if bytes.len() as u64 > MAX_BYTES {
        let text = format!("the file {} is larger than {MAX_BYTES} bytes; an llm_config.yaml is not", path.display());
        return Err(wrong(named_by.clone(), text));
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| wrong(named_by.clone(), format!("the file {} is no UTF-8: {error}", path.display())))?;
    let at = |line, column| Origin::File { path: path.display().to_string(), line, column };
    let root: Node = yaml::parse(&text).map_err(|error| {
        wrong(at(error.line, error.column), format!("it is no YAML that can be read: {}", error.why))
    })?;
    convert(path, &root).map_err(|why| wrong(at(root.line, 1), why))
}
