//! Replies against the patterns of `contract/` (see its README): what differs, one line for each place.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

const ABSENT: &str = "<absent>";

/// Compares `value` with `pattern`; no lines: it matches.
pub(crate) fn mismatches(pattern: &Value, value: &Value, place: &str) -> Vec<String> {
    match pattern {
        Value::Object(pattern) => object(pattern, value, place),
        Value::Array(pattern) => array(pattern, value, place),
        Value::String(text) => match text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
            Some(name) => placeholder(name, value, place),
            None => equal(pattern, value, place),
        },
        _ => equal(pattern, value, place),
    }
}

fn equal(pattern: &Value, value: &Value, place: &str) -> Vec<String> {
    let same = match (pattern.as_f64(), value.as_f64()) {
        (Some(wanted), Some(got)) => wanted == got,
        _ => pattern == value,
    };
    if same { Vec::new() } else { vec![format!("{place}: {value}, not {pattern}")] }
}

fn object(pattern: &Map<String, Value>, value: &Value, place: &str) -> Vec<String> {
    let Some(object) = value.as_object() else { return vec![format!("{place}: {value}, not an object")] };
    let mut found = Vec::new();
    for (key, wanted) in pattern.iter().filter(|(key, _)| *key != "...") {
        match object.get(key) {
            Some(_) if wanted == ABSENT => found.push(format!("{place}.{key}: is there")),
            None if wanted == ABSENT => {}
            None => found.push(format!("{place}.{key}: missing")),
            Some(got) => found.extend(mismatches(wanted, got, &format!("{place}.{key}"))),
        }
    }
    if pattern.get("...") == Some(&Value::Bool(false)) {
        let others = object.keys().filter(|key| !pattern.contains_key(*key));
        found.extend(others.map(|key| format!("{place}.{key}: not expected")));
    }
    found
}

fn array(pattern: &[Value], value: &Value, place: &str) -> Vec<String> {
    let Some(array) = value.as_array() else { return vec![format!("{place}: {value}, not an array")] };
    if let [each, Value::String(more)] = pattern
        && more == "..."
    {
        let mut found: Vec<String> = array.is_empty().then(|| format!("{place}: empty")).into_iter().collect();
        found.extend(array.iter().enumerate().flat_map(|(at, got)| mismatches(each, got, &format!("{place}[{at}]"))));
        return found;
    }
    if pattern.len() != array.len() {
        return vec![format!("{place}: {} elements, not {}", array.len(), pattern.len())];
    }
    let pairs = pattern.iter().zip(array).enumerate();
    pairs.flat_map(|(at, (wanted, got))| mismatches(wanted, got, &format!("{place}[{at}]"))).collect()
}

fn placeholder(name: &str, value: &Value, place: &str) -> Vec<String> {
    if let Some(part) = name.strip_prefix("contains: ") {
        let has = value.as_str().is_some_and(|text| text.contains(part));
        return if has { Vec::new() } else { vec![format!("{place}: {value} does not contain {part:?}")] };
    }
    if name.split('|').any(|kind| is(kind, value)) {
        Vec::new()
    } else {
        vec![format!("{place}: {value} is no <{name}>")]
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "any" => true,
        "number" => value.is_number(),
        "string" => value.is_string(),
        "text" => value.as_str().is_some_and(|text| !text.is_empty()),
        "bool" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        "uuid" => value.as_str().is_some_and(is_uuid),
        "iso" => value.as_str().is_some_and(is_iso),
        "timestamp" => value.as_f64().is_some_and(|seconds| (seconds - now()).abs() < 86_400.0),
        other => panic!("the patterns have no placeholder <{other}>"),
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// `2026-01-31T12:00:00`, with or without a fraction and a zone.
fn is_iso(text: &str) -> bool {
    let shape = b"0000-00-00T00:00:00";
    let digit_or_same = |(wanted, got): (&u8, &u8)| if *wanted == b'0' { got.is_ascii_digit() } else { wanted == got };
    text.len() >= shape.len() && shape.iter().zip(text.as_bytes()).all(digit_or_same)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::mismatches;

    #[test]
    fn matches() {
        for (pattern, value) in [
            (json!({"a": 1}), json!({"a": 1.0, "b": 2})),
            (json!({"a": "<absent>", "...": true}), json!({"b": 2})),
            (json!({"...": false}), json!({})),
            (json!(["<number>", "..."]), json!([1, 2.5])),
            (json!(["<text>", null]), json!(["x", null])),
            (json!("<number|null>"), json!(null)),
            (json!("<contains: ell>"), json!("hello")),
            (json!("<iso>"), json!("2026-01-31T12:00:00.5Z")),
            (json!("<uuid>"), json!("67e55044-10b1-426f-9247-bb680e5fe0c8")),
        ] {
            assert_eq!(mismatches(&pattern, &value, "x"), Vec::<String>::new(), "{pattern} {value}");
        }
    }

    #[test]
    fn can_say_no() {
        for (pattern, value) in [
            (json!({"a": 1}), json!({})),
            (json!({"a": 1}), json!({"a": 2})),
            (json!({"a": "<absent>"}), json!({"a": null})),
            (json!({"...": false}), json!({"a": 1})),
            (json!(["<number>", "..."]), json!([])),
            (json!(["<number>", "..."]), json!([1, "x"])),
            (json!([1]), json!([1, 2])),
            (json!("<text>"), json!("")),
            (json!("<number>"), json!(true)),
            (json!(true), json!(1)),
            (json!("<contains: x>"), json!("hello")),
            (json!("<timestamp>"), json!(5)),
            (json!("<iso>"), json!("yesterday")),
            (json!({}), json!("text")),
        ] {
            assert!(!mismatches(&pattern, &value, "x").is_empty(), "{pattern} {value}");
        }
    }
}
