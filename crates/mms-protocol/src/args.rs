//! Reading arguments out of a request: at the top level, under `params`, or both (the top level wins); `null` counts as absent.
//! Each reader checks type and range and says what it wanted and what it got.

use serde_json::{Map, Value};

use crate::error::Refusal;

/// The arguments of one request.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    top: &'a Map<String, Value>,
    params: Option<&'a Map<String, Value>>,
}

impl<'a> Args<'a> {
    /// Arguments at the top level of `object`, and under its `params`.
    pub fn of_request(object: &'a Map<String, Value>) -> Result<Self, Refusal> {
        Ok(Self { top: object, params: params_of(object)? })
    }

    /// The value under `key`, unless it is `null`.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        let present = |map: &'a Map<String, Value>| map.get(key).filter(|value| !value.is_null());
        present(self.top).or_else(|| present(self.params?))
    }

    /// A string of at most `max_bytes`.
    pub fn string(&self, key: &str, max_bytes: usize) -> Result<Option<String>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= max_bytes => Ok(Some(text.clone())),
            Some(Value::String(text)) => Err(Refusal::invalid(
                key,
                &format!("a string of at most {max_bytes} bytes"),
                &Value::from(format!("{} bytes", text.len())),
            )),
            Some(other) => Err(Refusal::invalid(key, "a string", other)),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(Refusal::invalid(key, "true or false", other)),
        }
    }

    /// A whole number from `min` to `max`; `10.0` counts as whole.
    pub fn integer(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let whole = value
            .as_u64()
            .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0 && *n < 9.0e15).map(|n| n as u64));
        match whole {
            Some(n) if (min..=max).contains(&n) => Ok(Some(n)),
            _ => Err(Refusal::invalid(key, &format!("an integer from {min} to {max}"), value)),
        }
    }

    /// A finite number of at least `min` ([`f64::MIN`]: any).
    pub fn real(&self, key: &str, min: f64) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(n) if n.is_finite() && n >= min => Ok(Some(n)),
            _ if min == f64::MIN => Err(Refusal::invalid(key, "a finite number", value)),
            _ => Err(Refusal::invalid(key, &format!("a finite number, {min} or more"), value)),
        }
    }

    /// A number from `min` to `max`.
    pub fn number(&self, key: &str, min: f64, max: f64) -> Result<Option<f32>, Refusal> {
        self.bounded(key, &format!("a number from {min} to {max}"), |n| (min..=max).contains(&n))
    }

    /// A number above 0, at most `max`.
    pub fn positive_number(&self, key: &str, max: f64) -> Result<Option<f32>, Refusal> {
        self.bounded(key, &format!("a number above 0, at most {max}"), |n| n > 0.0 && n <= max)
    }

    fn bounded(&self, key: &str, must_be: &str, fits: impl Fn(f64) -> bool) -> Result<Option<f32>, Refusal> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(n) if n.is_finite() && fits(n) => Ok(Some(n as f32)),
            _ => Err(Refusal::invalid(key, must_be, value)),
        }
    }
}

fn params_of(object: &Map<String, Value>) -> Result<Option<&Map<String, Value>>, Refusal> {
    match object.get("params") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(params)) => Ok(Some(params)),
        Some(other) => Err(Refusal::invalid("params", "an object of named arguments", other)),
    }
}
