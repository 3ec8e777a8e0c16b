//! `allOf`, and keywords beside `$ref` or `anyOf`: several schemas that a value must fit at once become one.

use serde_json::{Map, Value, json};

use super::{ANNOTATIONS, Builder, SchemaError, error};
use crate::grammar::Expr;

impl<'a> Builder<'a> {
    /// A schema with `allOf`, or with something beside `$ref`.
    pub(super) fn merged(&mut self, schema: &Map<String, Value>, path: &str) -> Result<Expr, SchemaError> {
        let one = self.merge(vec![Value::Object(schema.clone())], path)?;
        self.schema(&one, path)
    }

    /// One schema for all of them.
    pub(super) fn merge(&mut self, mut schemas: Vec<Value>, path: &str) -> Result<Value, SchemaError> {
        let mut whole = Map::new();
        schemas.reverse();
        while let Some(schema) = schemas.pop() {
            self.schemas += 1;
            if self.schemas > super::MOST_SCHEMAS {
                return Err(error(path, "is too large, or refers to itself without end"));
            }
            let mut schema = match schema {
                Value::Object(schema) => schema,
                Value::Bool(true) => continue,
                _ => return Err(error(path, "a schema is an object, `true` or `false`, and `false` fits no value")),
            };
            if let Some(reference) = schema.shift_remove("$ref") {
                let reference = reference.as_str().ok_or_else(|| error(path, "`$ref` must be a string"))?;
                schemas.push(self.resolve(reference, path)?.clone());
            }
            match schema.shift_remove("allOf") {
                None => {}
                Some(Value::Array(all)) => schemas.extend(all.into_iter().rev()),
                Some(_) => return Err(error(path, "`allOf` must be a list of schemas")),
            }
            for (key, value) in schema {
                if ANNOTATIONS.contains(&key.as_str()) && key != "format" {
                    continue;
                }
                let both = match whole.shift_remove(&key) {
                    None => value,
                    Some(before) => self.both(&key, before, value, path)?,
                };
                whole.insert(key, both);
            }
        }
        Ok(Value::Object(whole))
    }

    /// What the keyword says when two schemas say something with it.
    fn both(&self, key: &str, a: Value, b: Value, path: &str) -> Result<Value, SchemaError> {
        if a == b {
            return Ok(a);
        }
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        Ok(match (key, a, b) {
            ("properties", Value::Object(mut a), Value::Object(b)) => {
                for (name, b) in b {
                    let both = match a.get(&name) {
                        None => b,
                        Some(a) => json!({ "allOf": [a, b] }),
                    };
                    a.insert(name, both);
                }
                Value::Object(a)
            }
            ("required", Value::Array(mut a), Value::Array(b)) => {
                for name in b {
                    if !a.contains(&name) {
                        a.push(name);
                    }
                }
                Value::Array(a)
            }
            ("enum", Value::Array(a), Value::Array(b)) => {
                let common: Vec<Value> = a.into_iter().filter(|value| b.contains(value)).collect();
                if common.is_empty() {
                    return Err(error(path, "no value is in both lists of `enum`"));
                }
                Value::Array(common)
            }
            ("additionalProperties", Value::Bool(true), other) | ("additionalProperties", other, Value::Bool(true)) => {
                other
            }
            ("additionalProperties", Value::Bool(false), _) | ("additionalProperties", _, Value::Bool(false)) => {
                Value::Bool(false)
            }
            ("additionalProperties" | "items", a, b) => json!({ "allOf": [a, b] }),
            ("minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties", a, b) => {
                if number(&a) >= number(&b) { a } else { b }
            }
            ("maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties", a, b) => {
                if number(&a) <= number(&b) { a } else { b }
            }
            ("type", a, b) => common_types(&a, &b).ok_or_else(|| error(path, "no type fits all of its parts"))?,
            (key, a, _) => {
                self.unenforced(&format!("`{key}` in several parts of `allOf`"), path)?;
                a
            }
        })
    }
}

fn common_types(a: &Value, b: &Value) -> Option<Value> {
    let list = |value: &Value| match value {
        Value::Array(names) => names.clone(),
        other => vec![other.clone()],
    };
    let (a, b) = (list(a), list(b));
    let is_in = |name: &Value, names: &[Value]| {
        names.contains(name) || (name == "integer" && names.iter().any(|name| name == "number"))
    };
    let mut common: Vec<Value> = a.iter().filter(|name| is_in(name, &b)).cloned().collect();
    common.extend(b.iter().filter(|name| is_in(name, &a) && !a.contains(name)).cloned());
    match common.len() {
        0 => None,
        1 => common.pop(),
        _ => Some(Value::Array(common)),
    }
}
