//! JSON as Python's `json.dumps` writes it, with a space after commas and colons: what models were trained on, since chat templates
//! print tools and calls that way.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// In one line.
pub(crate) fn dumps(value: &Value) -> String {
    print(value, OneLine)
}

/// In lines, indented by `width` spaces for each level.
pub(crate) fn dumps_indented(value: &Value, width: usize) -> String {
    let indent = " ".repeat(width.min(32));
    print(value, serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes()))
}

fn print(value: &Value, formatter: impl Formatter) -> String {
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, formatter);
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        // Nothing can fail when a value is written to memory.
        Err(error) => format!("null /* {error} */"),
    }
}

struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{dumps, dumps_indented};

    #[test]
    fn as_python_writes_it() {
        let value = json!({ "b": [1, 2.5, "é\"\n"], "a": {}, "c": [] });
        assert_eq!(dumps(&value), r#"{"b": [1, 2.5, "é\"\n"], "a": {}, "c": []}"#);
        assert_eq!(dumps_indented(&json!({ "a": [1] }), 4), "{\n    \"a\": [\n        1\n    ]\n}");
    }
}
