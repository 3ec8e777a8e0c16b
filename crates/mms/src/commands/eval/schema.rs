//! The part of JSON Schema that a task may ask of an answer. A keyword outside of it is refused, never passed over.

use serde_json::{Map, Value};

/// Keywords that only describe.
const NOTES: [&str; 4] = ["$schema", "title", "description", "default"];
/// Names of types.
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// A schema whose keywords are all known and well formed.
#[derive(Debug)]
pub(super) struct Schema(Value);

impl Schema {
    /// Or what is wrong with it.
    pub(super) fn new(schema: Value) -> Result<Self, String> {
        check(&schema)?;
        Ok(Self(schema))
    }

    /// Whether a value is as the schema says.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        accepts(&self.0, value)
    }
}

fn check(schema: &Value) -> Result<(), String> {
    let Value::Object(keywords) = schema else {
        return if schema.is_boolean() { Ok(()) } else { Err("must be a table".to_owned()) };
    };
    for (keyword, given) in keywords {
        let texts = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
        let well_formed = match keyword.as_str() {
            "type" => types(given).is_some_and(|names| names.iter().all(|name| TYPES.contains(name))),
            "enum" => given.as_array().is_some_and(|items| !items.is_empty()),
            "required" => texts(given),
            "minimum" | "maximum" => given.is_number(),
            "minItems" | "maxItems" | "minLength" | "maxLength" => given.is_u64(),
            "items" | "additionalProperties" => {
                check(given)?;
                true
            }
            "properties" => match given.as_object() {
                None => false,
                Some(properties) => {
                    properties.values().try_for_each(check)?;
                    true
                }
            },
            "const" => true,
            note if NOTES.contains(&note) => true,
            other => return Err(format!("the keyword {other:?} is not known here")),
        };
        if !well_formed {
            return Err(format!("{keyword} has a wrong value: {given}"));
        }
    }
    Ok(())
}

fn types(given: &Value) -> Option<Vec<&str>> {
    match given {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn accepts(schema: &Value, value: &Value) -> bool {
    match schema {
        Value::Bool(all) => *all,
        Value::Object(keywords) => keywords.iter().all(|(keyword, given)| holds(keywords, keyword, given, value)),
        _ => false,
    }
}

fn holds(keywords: &Map<String, Value>, keyword: &str, given: &Value, value: &Value) -> bool {
    let most = given.as_u64().unwrap_or(u64::MAX) as usize;
    let bound = given.as_f64().unwrap_or_default();
    match (keyword, value) {
        ("type", _) => types(given).unwrap_or_default().iter().any(|name| is_a(name, value)),
        ("enum", _) => given.as_array().is_some_and(|items| items.iter().any(|item| same(item, value))),
        ("const", _) => same(given, value),
        ("minimum", Value::Number(number)) => number.as_f64().is_some_and(|number| number >= bound),
        ("maximum", Value::Number(number)) => number.as_f64().is_some_and(|number| number <= bound),
        ("minLength", Value::String(text)) => text.chars().count() >= most,
        ("maxLength", Value::String(text)) => text.chars().count() <= most,
        ("minItems", Value::Array(items)) => items.len() >= most,
        ("maxItems", Value::Array(items)) => items.len() <= most,
        ("items", Value::Array(items)) => items.iter().all(|item| accepts(given, item)),
        ("required", Value::Object(object)) => {
            let names = given.as_array().map(Vec::as_slice).unwrap_or_default();
            names.iter().filter_map(Value::as_str).all(|name| object.contains_key(name))
        }
        ("properties", Value::Object(object)) => given.as_object().is_some_and(|properties| {
            properties.iter().all(|(name, schema)| object.get(name).is_none_or(|value| accepts(schema, value)))
        }),
        ("additionalProperties", Value::Object(object)) => {
            let named = keywords.get("properties").and_then(Value::as_object);
            let further = object.iter().filter(|(name, _)| named.is_none_or(|named| !named.contains_key(*name)));
            further.into_iter().all(|(_, value)| accepts(given, value))
        }
        // The others speak of values of another type.
        _ => true,
    }
}

fn is_a(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

/// Equal as JSON: 1 and 1.0 are, and the order of keys means nothing.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Schema;

    #[test]
    fn answers_fit_or_do_not() {
        let schema = Schema::new(json!({"type": "object", "required": ["n"], "additionalProperties": false, "properties":
            {"n": {"type": "integer", "minimum": 1, "maximum": 3}, "s": {"enum": ["a", "b"]},
             "l": {"type": "array", "items": {"type": ["string", "null"], "maxLength": 2}, "minItems": 1, "maxItems": 2}}}))
        .unwrap();
        for (value, fits) in [
            (json!({"n": 1.0}), true),
            (json!({"n": 1, "s": "b", "l": ["xy", null]}), true),
            (json!({"n": 1.5}), false),
            (json!({"n": 0}), false),
            (json!({"n": 4}), false),
            (json!({}), false),
            (json!({"n": 1, "other": 1}), false),
            (json!({"n": 1, "s": "c"}), false),
            (json!({"n": 1, "l": []}), false),
            (json!({"n": 1, "l": ["abc"]}), false),
            (json!({"n": 1, "l": ["a", "b", "c"]}), false),
            (json!([]), false),
        ] {
            assert_eq!(schema.accepts(&value), fits, "{value}");
        }
        for wrong in
            [json!({"pattern": "x"}), json!({"type": "text"}), json!({"properties": {"a": {"minimum": "1"}}}), json!(1)]
        {
            assert!(Schema::new(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
