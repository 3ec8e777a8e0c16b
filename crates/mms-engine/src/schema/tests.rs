//! Schemas with texts that fit them and texts that do not.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Builder, Rigor, Spacing};
use crate::grammar::GrammarError;
use crate::grammar::matcher::{Matcher, Place};

fn matcher(schema: &Value, rigor: Rigor, spacing: Spacing) -> Result<Matcher, String> {
    let mut builder = Builder::new(rigor, spacing);
    let root = builder.document(schema).map_err(|error| error.to_string())?;
    let rule = builder.rules.named("root");
    builder.rules.define(rule, root);
    let compiled = builder.rules.compile(rule).and_then(|grammar| Matcher::new(Arc::new(grammar)));
    compiled.map_err(|error: GrammarError| error.to_string())
}

fn fits(matcher: &Matcher, text: &str) -> bool {
    let mut matcher = matcher.clone();
    let place = matcher.after(matcher.here(), text.as_bytes()).expect("can be followed");
    matcher.accept(place);
    place != Place::DEAD && matcher.may_end()
}

fn check(schema: Value, good: &[&str], bad: &[&str]) {
    let matcher = matcher(&schema, Rigor::Refuse, Spacing::Free).expect("a grammar");
    for text in good {
        serde_json::from_str::<Value>(text).expect("JSON");
        assert!(fits(&matcher, text), "{text} fits {schema}");
    }
    for text in bad {
        assert!(!fits(&matcher, text), "{text} does not fit {schema}");
    }
}

fn refused(schema: Value, expect: &str) {
    let error = matcher(&schema, Rigor::Refuse, Spacing::Free).expect_err("refused");
    assert!(error.contains(expect), "{schema}: {error}");
}

#[test]
fn simple_values() {
    check(
        json!({}),
        &["1", "null", "[1, \"a\", {}]", "{\"a\": {\"b\": [true]}}", "-1.5e-3"],
        &["", "nul", "01", "[1,]", "\"\u{1}\""],
    );
    check(json!({"type": "boolean"}), &["true", "false"], &["null", "1"]);
    check(json!({"type": ["string", "null"], "maxLength": 2}), &["\"ab\"", "null"], &["\"abc\"", "1"]);
    check(json!({"enum": ["a\"b", 1, null, {"k": [1, 2]}]}), &["\"a\\\"b\"", "1", "{\"k\": [1, 2]}"], &["\"a\"", "2"]);
    check(json!({"const": "é"}), &["\"é\""], &["\"e\""]);
    check(
        json!({"type": "string"}),
        &["\"\"", "\"é🙂\\n\\u00e9\\\"\"", "\"\\ud7ff\""],
        &["\"", "\"\\q\"", "\"\\ud83d\"", "\"\n\""],
    );
    check(json!({"type": "string", "minLength": 1, "maxLength": 3}), &["\"a\"", "\"é🙂\\n\""], &["\"\"", "\"abcd\""]);
    check(json!({"type": "string", "nullable": true}), &["null", "\"\""], &["1"]);
    check(json!({"type": "string", "format": "date"}), &["\"2026-11-24\""], &["\"2026-13-01\"", "\"today\""]);
    check(json!({"type": "string", "maxLength": 100_000_000}), &["\"abc\""], &["1"]);
}

#[test]
fn objects_and_lists() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2}
    }, "required": ["b"], "additionalProperties": false});
    let good = [
        "{\"b\": \"\"}",
        "{\"a\": 1, \"b\": \"x\", \"c\": [true]}",
        "{\"b\":\"\",\"c\":[true,false]}",
        "{\n  \"a\": -3,\n  \"b\": \"\"\n}",
    ];
    check(
        schema,
        &good,
        &[
            "{}",
            "{\"a\": 1}",
            "{\"b\": \"\", \"a\": 1}",
            "{\"b\": \"\", \"c\": []}",
            "{\"b\": \"\", \"d\": 1}",
            "{\"b\": \"\",}",
        ],
    );
    let open = json!({"type": "object", "properties": {"ab": {"type": "integer"}, "ac": true}, "additionalProperties": {"type": "string"}});
    check(
        open,
        &["{}", "{\"ab\": 1}", "{\"x\": \"y\"}", "{\"ab\": 1, \"a\": \"\", \"abc\": \"\", \"\": \"\"}"],
        &["{\"ab\": \"s\"}", "{\"x\": 1}", "{\"x\": \"\", \"ab\": \"\"}"],
    );
    check(json!({"type": "object"}), &["{}", "{\"a\": [1]}"], &["[]"]);
    check(json!({"type": "object", "additionalProperties": false}), &["{}", "{ }"], &["{\"a\": 1}"]);
    check(json!({"required": ["x"]}), &["{\"x\": [1]}"], &["{}"]);
    check(
        json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "null"}}),
        &["[]", "[1]", "[1, \"a\", null, null]"],
        &["[\"a\"]", "[1, \"a\", 1]"],
    );
    check(
        json!({"items": [{"type": "integer"}, {"type": "string"}], "minItems": 2}),
        &["[1, \"a\"]"],
        &["[1]", "[1, \"a\", 1]"],
    );
    check(json!({"type": "array", "maxItems": 0}), &["[]"], &["[1]"]);
    check(
        json!({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 3}),
        &["[1,2]", "[1, 2, 3]"],
        &["[1]", "[1,2,3,4]"],
    );
}

#[test]
fn references_and_parts() {
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
        "name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}
    }, "required": ["name", "children"]}}});
    let good = "{\"name\": \"a\", \"children\": [{\"name\": \"b\", \"children\": []}]}";
    check(tree, &[good], &["{\"name\": \"a\", \"children\": [1]}"]);
    check(
        json!({"type": "object", "properties": {"next": {"$ref": "#"}}}),
        &["{}", "{\"next\": {\"next\": {}}}"],
        &["{\"next\": 1}"],
    );
    check(json!({"anyOf": [{"type": "integer"}, {"enum": ["x"]}]}), &["1", "\"x\""], &["\"y\""]);
    check(
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "anyOf": [{"required": ["a"]}, {"properties": {"b": {"const": 1}}, "required": ["b"]}]}),
        &["{\"a\": 1}", "{\"b\": 1}", "{\"a\": 1, \"b\": 1}"],
        &["{}"],
    );
    check(
        json!({"allOf": [{"$ref": "#/definitions/a"}, {"properties": {"y": {"type": "integer", "minimum": 5}}, "required": ["y"]}], "definitions": {
        "a": {"type": "object", "properties": {"x": {"type": "null"}, "y": {"maximum": 7, "type": "integer"}}, "required": ["x"]}}}),
        &["{\"x\": null, \"y\": 6}"],
        &["{\"x\": null}", "{\"x\": null, \"y\": 8}", "{\"x\": null, \"y\": 4}"],
    );
}

#[test]
fn patterns() {
    let pattern = |pattern: &str| json!({"type": "string", "pattern": pattern});
    check(pattern("^[A-Z]{2}-\\d+$"), &["\"AB-1\"", "\"AB-123\""], &["\"A-1\"", "\"AB-\"", "\"AB-١\"", "\"xAB-1\""]);
    check(pattern("b"), &["\"abc\"", "\"b\""], &["\"\"", "\"ac\""]);
    check(pattern("^(a|bc)?x*$"), &["\"\"", "\"a\"", "\"bcxx\""], &["\"ab\""]);
    check(pattern("^\\w+@\\w+\\.(com|org)$"), &["\"me@here.org\""], &["\"me@here.net\""]);
    check(pattern("^[^a]$"), &["\"\\\"\"", "\"\\n\"", "\"é\""], &["\"a\"", "\"\"\""]);
    check(pattern("^a|b$"), &["\"ax\"", "\"xb\""], &["\"xa\""]);
    refused(pattern("^(?=a)b$"), "look-around");
    refused(pattern("a(b"), "pattern \"a(b\"");
    refused(pattern("a^b"), "an anchor in its middle");
}

#[test]
fn what_cannot_be_enforced() {
    refused(json!({"type": "number", "multipleOf": 2}), "`multipleOf` cannot be enforced");
    refused(json!({"type": "object", "properties": {"a": {"not": {}}}}), "at /properties/a: `not` cannot be enforced");
    refused(json!({"$ref": "other.json"}), "only places within the schema");
    refused(json!({"$ref": "#/nowhere"}), "not there");
    refused(json!({"type": "thing"}), "`thing` is no type");
    refused(json!({"type": "integer", "minimum": 3, "maximum": 2}), "no integer");
    refused(json!(1), "a schema is an object");
    refused(json!({"enum": []}), "at least one value");
    refused(json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}), "no text can fit");
    refused(json!({"allOf": [{"$ref": "#"}]}), "without end");
    refused(
        json!({"type": "object", "required": ["a"], "additionalProperties": false}),
        "no property may have this name",
    );
    let relaxed = json!({"type": "array", "items": {"type": "number", "minimum": 0}, "uniqueItems": true});
    assert!(matcher(&relaxed, Rigor::Relax, Spacing::Fixed).is_ok());
    // As large as a schema can be: refused, not suffered.
    let wide = json!({"type": "object", "properties": (0..2000).map(|n| (format!("p{n}"), json!({"type": "string", "maxLength": 5000}))).collect::<serde_json::Map<_, _>>()});
    refused(wide, "too large");
}

#[test]
fn fixed_spacing_is_what_dumps_writes() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "object"}}});
    let matcher = matcher(&schema, Rigor::Relax, Spacing::Fixed).expect("a grammar");
    let value = json!({"a": [1, "x\n", {}], "b": {"c": null, "d": [[]]}});
    assert!(fits(&matcher, &crate::json::dumps(&value)));
    assert!(!fits(&matcher, &value.to_string()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn integers_within_bounds(a in any::<i64>(), b in any::<i64>(), shift in 0_u32..63, near in -30_i64..30, which in 0..4) {
        let (low, high) = ((a >> shift).min(b >> shift), (a >> shift).max(b >> shift));
        let schema = match which {
            0 => json!({"type": "integer", "minimum": low, "maximum": high}),
            1 => json!({"type": "integer", "minimum": low}),
            2 => json!({"type": "integer", "exclusiveMaximum": high}),
            _ => json!({"type": "integer", "minimum": low, "maximum": high, "exclusiveMinimum": low as f64 - 0.5}),
        };
        let Ok(matcher) = matcher(&schema, Rigor::Refuse, Spacing::Free) else { return Ok(()) };
        for base in [low, high, 0, low / 2 + high / 2] {
            let number = base.saturating_add(near);
            let expect = match which {
                1 => number >= low && (number.abs() < 9_999_999_999_999_999 || low > 9_999_999_999_999_999),
                2 => number < high && (number.unsigned_abs() < 9_999_999_999_999_999 || high < -9_999_999_999_999_999),
                _ => number >= low && number <= high && number != i64::MIN,
            };
            if number.unsigned_abs() < 9_000_000_000_000_000 || which == 0 {
                prop_assert_eq!(fits(&matcher, &number.to_string()), expect, "{} {}", number, schema);
            }
        }
    }
}
