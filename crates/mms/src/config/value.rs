//! The kinds of values that settings have: how each is read from TOML and from text (environment, flags), and what to say when
//! it cannot be.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use mms_bus::ServerUrl;
use mms_gateway::ServiceAddress;
use mms_manager::Budget;
use mms_protocol::worker::LoraAdapter;
use serde_json::{Value, json};
use toml::de::DeValue;

/// A kind of value.
pub(crate) trait Kind {
    /// What it gives.
    type Value;

    /// What a value must be, for the error message: `an integer from 0 to 65535`.
    fn must_be(&self) -> String;

    /// Reads a value of the file.
    fn of_toml(&self, value: &DeValue<'_>) -> Option<Self::Value>;

    /// Reads the text of a variable or a flag.
    fn of_text(&self, text: &str) -> Option<Self::Value>;

    /// As the file and `--json` show it; `null`: not set.
    fn show(&self, value: &Self::Value) -> Value;

    /// Whether what was given may hold a password, so that a mistake in it must not show it.
    fn is_secret(&self) -> bool {
        false
    }
}

/// A whole number in a range.
pub(crate) struct Integer<N>(pub(crate) RangeInclusive<N>);

impl<N: Copy + PartialOrd + Display + FromStr + TryFrom<i64> + Into<i64>> Kind for Integer<N> {
    type Value = N;

    fn must_be(&self) -> String {
        format!("an integer from {} to {}", self.0.start(), self.0.end())
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<N> {
        let integer = value.as_integer()?;
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
        N::try_from(number).ok().filter(|number| self.0.contains(number))
    }

    fn of_text(&self, text: &str) -> Option<N> {
        text.parse().ok().filter(|number| self.0.contains(number))
    }

    fn show(&self, value: &N) -> Value {
        json!((*value).into())
    }
}

/// A number in a range; in the file it may be written as an integer.
pub(crate) struct Number(pub(crate) RangeInclusive<f64>);

impl Kind for Number {
    type Value = f64;

    fn must_be(&self) -> String {
        format!("a number from {} to {}", self.0.start(), self.0.end())
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<f64> {
        match value {
            DeValue::Integer(integer) if integer.radix() == 10 => self.of_text(integer.as_str()),
            DeValue::Float(float) => self.of_text(float.as_str()),
            _ => None,
        }
    }

    fn of_text(&self, text: &str) -> Option<f64> {
        text.parse().ok().filter(|number: &f64| number.is_finite() && self.0.contains(number))
    }

    fn show(&self, value: &f64) -> Value {
        json!(value)
    }
}

/// `true` or `false`.
pub(crate) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn must_be(&self) -> String {
        "true or false".to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<bool> {
        value.as_bool()
    }

    fn of_text(&self, text: &str) -> Option<bool> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    fn show(&self, value: &bool) -> Value {
        json!(value)
    }
}

/// Text that is not empty.
pub(crate) struct Text;

impl Kind for Text {
    type Value = String;

    fn must_be(&self) -> String {
        "a string that is not empty".to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<String> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<String> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }

    fn show(&self, value: &String) -> Value {
        json!(value)
    }
}

/// One of a few words, in any case. A value may have several words; the first is its name.
pub(crate) struct Choice<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for Choice<T> {
    type Value = T;

    fn must_be(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("one of {}", words.join(", "))
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<T> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<T> {
        self.0.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, value)| *value)
    }

    fn show(&self, value: &T) -> Value {
        self.0.iter().find(|(_, known)| known == value).map_or(Value::Null, |(word, _)| json!(word))
    }
}

/// A path of a file or folder; relative ones start from the working directory.
pub(crate) struct Path;

impl Kind for Path {
    type Value = PathBuf;

    fn must_be(&self) -> String {
        "a path".to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<PathBuf> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<PathBuf> {
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    fn show(&self, value: &PathBuf) -> Value {
        json!(value.to_string_lossy())
    }
}

/// Several of a kind: an array in the file, text with `:` between them elsewhere.
pub(crate) struct List<K>(pub(crate) K);

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn must_be(&self) -> String {
        format!("an array, each element {}", self.0.must_be())
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<Self::Value> {
        value.as_array()?.iter().map(|element| self.0.of_toml(element.get_ref())).collect()
    }

    fn of_text(&self, text: &str) -> Option<Self::Value> {
        text.split(':').filter(|part| !part.is_empty()).map(|part| self.0.of_text(part)).collect()
    }

    fn show(&self, value: &Self::Value) -> Value {
        Value::Array(value.iter().map(|element| self.0.show(element)).collect())
    }
}

/// A setting that may be absent.
pub(crate) struct Maybe<K>(pub(crate) K);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;

    fn must_be(&self) -> String {
        self.0.must_be()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<Self::Value> {
        self.0.of_toml(value).map(Some)
    }

    fn of_text(&self, text: &str) -> Option<Self::Value> {
        self.0.of_text(text).map(Some)
    }

    fn show(&self, value: &Self::Value) -> Value {
        value.as_ref().map_or(Value::Null, |value| self.0.show(value))
    }

    fn is_secret(&self) -> bool {
        self.0.is_secret()
    }
}

/// The address of a Redis server.
pub(crate) struct RedisUrl;

impl Kind for RedisUrl {
    type Value = ServerUrl;

    fn must_be(&self) -> String {
        "an address such as redis://127.0.0.1:6379/0 or redis://:password@host:6379/0; rediss:// (TLS) is not supported"
            .to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<ServerUrl> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<ServerUrl> {
        ServerUrl::redis(text).ok()
    }

    fn show(&self, value: &ServerUrl) -> Value {
        json!(value.shown())
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// The addresses of NATS servers: an array in the file, text with commas between them elsewhere.
pub(crate) struct NatsServers;

impl Kind for NatsServers {
    type Value = Vec<ServerUrl>;

    fn must_be(&self) -> String {
        "one or more addresses such as nats://127.0.0.1:4222, nats://user:password@host:4222 or tls://host: an array, or separated by \
         commas"
            .to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<Self::Value> {
        match value.as_array() {
            Some(array) => {
                let servers = array.iter().map(|element| ServerUrl::nats(element.get_ref().as_str()?).ok());
                servers.collect::<Option<Vec<_>>>().filter(|servers| !servers.is_empty())
            }
            None => self.of_text(value.as_str()?),
        }
    }

    fn of_text(&self, text: &str) -> Option<Self::Value> {
        let servers = text.split(',').filter(|part| !part.trim().is_empty()).map(|part| ServerUrl::nats(part).ok());
        servers.collect::<Option<Vec<_>>>().filter(|servers| !servers.is_empty())
    }

    fn show(&self, value: &Self::Value) -> Value {
        value.iter().map(ServerUrl::shown).collect()
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// Models by their names, in order: an array, or one text.
pub(crate) struct ModelNames;

impl Kind for ModelNames {
    type Value = Vec<String>;

    fn must_be(&self) -> String {
        "the id of a model, or an array of such in order of preference".to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<Self::Value> {
        match value.as_array() {
            Some(array) => array.iter().map(|element| Text.of_toml(element.get_ref())).collect(),
            None => self.of_text(value.as_str()?),
        }
    }

    fn of_text(&self, text: &str) -> Option<Self::Value> {
        Text.of_text(text).map(|name| vec![name])
    }

    fn show(&self, value: &Self::Value) -> Value {
        json!(value)
    }
}

/// The address of a downstream service.
pub(crate) struct Service;

impl Kind for Service {
    type Value = ServiceAddress;

    fn must_be(&self) -> String {
        ServiceAddress::MUST_BE.to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<Self::Value> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<Self::Value> {
        text.parse().ok()
    }

    fn show(&self, value: &Self::Value) -> Value {
        json!(value.shown())
    }

    fn is_secret(&self) -> bool {
        true
    }
}

/// An IP address of this machine; `0.0.0.0` or `*`: every one.
pub(crate) struct Address;

impl Kind for Address {
    type Value = IpAddr;

    fn must_be(&self) -> String {
        "an IP address such as 127.0.0.1, 0.0.0.0 or ::".to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<IpAddr> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<IpAddr> {
        match text {
            "*" => Some(IpAddr::from([0, 0, 0, 0])),
            "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
            other => other.parse().ok(),
        }
    }

    fn show(&self, value: &IpAddr) -> Value {
        json!(value.to_string())
    }
}

/// A LoRA adapter: a file, or a file and how strongly it acts.
pub(crate) struct Adapter;

impl Kind for Adapter {
    type Value = LoraAdapter;

    fn must_be(&self) -> String {
        "a GGUF file, or \"FILE:SCALE\"".to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<LoraAdapter> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<LoraAdapter> {
        let scaled = text.rsplit_once(':').and_then(|(path, scale)| {
            let scale = scale.parse::<f32>().ok().filter(|scale| scale.is_finite())?;
            Some((path, scale))
        });
        let (path, scale) = scaled.unwrap_or((text, 1.0));
        (!path.is_empty()).then(|| LoraAdapter { path: path.to_owned(), scale })
    }

    fn show(&self, value: &LoraAdapter) -> Value {
        if value.scale == 1.0 { json!(value.path) } else { json!(format!("{}:{}", value.path, value.scale)) }
    }
}

/// How much memory models may take together: a share of the device's, or MiB.
pub(crate) struct Memory;

impl Kind for Memory {
    type Value = Budget;

    fn must_be(&self) -> String {
        "a share such as \"80%\" (up to 100%) or an amount such as \"6000 MB\"".to_owned()
    }

    fn of_toml(&self, value: &DeValue<'_>) -> Option<Budget> {
        self.of_text(value.as_str()?)
    }

    fn of_text(&self, text: &str) -> Option<Budget> {
        let text = text.trim();
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
        let number: f64 = number.parse().ok().filter(|number| *number > 0.0)?;
        match unit.trim().to_ascii_uppercase().as_str() {
            "%" if number <= 100.0 => Some(Budget::Percent(number)),
            "MB" | "MIB" => Some(Budget::Mb(number.round() as u64)),
            "GB" | "GIB" => Some(Budget::Mb((number * 1024.0).round() as u64)),
            _ => None,
        }
    }

    fn show(&self, value: &Budget) -> Value {
        match value {
            Budget::Percent(share) => json!(format!("{share}%")),
            Budget::Mb(amount) => json!(format!("{amount} MB")),
        }
    }
}
