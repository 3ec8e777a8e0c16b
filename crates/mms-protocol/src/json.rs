//! Reading JSON from strangers: nesting is bounded by serde_json (128 levels), and the number of values by a budget, because a
//! message of `[0,0,0,...` would otherwise take 30 times its size in memory.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Most values (numbers, strings, arrays, objects, members) in one message.
pub const MAX_VALUES: usize = 100_000;

/// Parses one JSON text of at most [`MAX_VALUES`] values.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let budget = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Bounded(&budget).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Why `bytes` are no JSON text, for the person who sent them. NaN and infinity are named: Python writes them into JSON, which has none.
pub fn explain(bytes: &[u8], error: &serde_json::Error) -> String {
    if let Err(utf8) = std::str::from_utf8(bytes) {
        return format!("byte {} is not UTF-8", utf8.valid_up_to());
    }
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().saturating_sub(1)).unwrap_or_default();
    // The error stands at the first character that does not fit, or one after it.
    let near = |back: usize| line.get(error.column().saturating_sub(back)..).unwrap_or_default();
    let word = ["NaN", "Infinity"].into_iter().find(|word| {
        let at = |back| near(back).starts_with(word.as_bytes());
        at(0) || at(1) || at(2)
    });
    match word {
        Some(word) => format!("{word} at line {} column {} is no number in JSON", error.line(), error.column()),
        None => error.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Bounded<'b>(&'b Cell<usize>);

impl Bounded<'_> {
    fn spend<E: serde::de::Error>(self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1);
        self.0.set(left.ok_or_else(|| E::custom(format!("more than {MAX_VALUES} values in one message")))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.spend()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.spend::<A::Error>()?;
            object.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}
