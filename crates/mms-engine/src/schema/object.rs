//! Objects: their properties in the order of the schema, those that are not required with or without.

use serde_json::{Map, Value};

use super::{Builder, SchemaError, error, text};
use crate::grammar::Expr;

impl Builder<'_> {
    pub(super) fn object(&mut self, schema: &Map<String, Value>, path: &str) -> Result<Expr, SchemaError> {
        self.check_keywords(schema, &["type", "properties", "required", "additionalProperties"], path)?;
        let mut properties: Vec<(String, Expr)> = Vec::new();
        match schema.get("properties") {
            None => {}
            Some(Value::Object(named)) => {
                for (name, property) in named {
                    let value = self.schema(property, &format!("{path}/properties/{name}"))?;
                    properties.push((name.clone(), self.rules.add(value)));
                }
            }
            Some(_) => return Err(error(path, "`properties` must be an object")),
        }
        let required = match schema.get("required") {
            None | Some(Value::Bool(_)) => Vec::new(),
            Some(Value::Array(names)) => {
                let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
                names.ok_or_else(|| error(path, "`required` must be a list of names"))?
            }
            Some(_) => return Err(error(path, "`required` must be a list of names")),
        };
        let others = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            None if !properties.is_empty() => None,
            None => Some(self.any_value()),
            Some(others) => Some(self.schema(others, &format!("{path}/additionalProperties"))?),
        };
        let others = others.map(|others| self.rules.add(others));
        for name in &required {
            if !properties.iter().any(|(known, _)| known == name) {
                // Required without a schema of its own: one like the others, or any value.
                let value = match &others {
                    Some(others) => others.clone(),
                    None if schema.get("additionalProperties").is_none() => self.any_value(),
                    None => {
                        return Err(error(path, &format!("`{name}` is required, but no property may have this name")));
                    }
                };
                properties.push(((*name).to_owned(), value));
            }
        }
        if properties.is_empty() {
            return Ok(match others {
                Some(others) => {
                    let name = self.any_string();
                    self.map(name, others)
                }
                None => {
                    let space = self.space();
                    Expr::Sequence(vec![text("{"), space, text("}")])
                }
            });
        }
        let names: Vec<String> = properties.iter().map(|(name, _)| name.clone()).collect();
        let colon = self.colon();
        let members: Vec<(Expr, bool)> = properties
            .into_iter()
            .map(|(name, value)| {
                let is_required = required.contains(&name.as_str());
                let name = self.literal(&Value::String(name));
                (Expr::Sequence(vec![name, colon.clone(), value]), is_required)
            })
            .collect();
        let other = others.map(|others| {
            let name = self.other_name(&names);
            Expr::Sequence(vec![name, colon.clone(), others])
        });
        Ok(self.members(members, other))
    }

    /// Built from the end: what may come after a member that is there, and what may come when none is there yet.
    fn members(&mut self, members: Vec<(Expr, bool)>, other: Option<Expr>) -> Expr {
        let comma = self.comma();
        let nothing = Expr::Sequence(Vec::new());
        let (mut after, mut first) = match other {
            None => (nothing.clone(), nothing),
            Some(other) => {
                let other = self.rules.add(other);
                let another = Expr::Sequence(vec![comma.clone(), other.clone()]);
                let after = self.rules.add(Expr::Repeat(Box::new(another), 0, None));
                let first = Expr::Repeat(Box::new(Expr::Sequence(vec![other, after.clone()])), 0, Some(1));
                (after, first)
            }
        };
        for (member, is_required) in members.into_iter().rev() {
            let member = self.rules.add(member);
            let with_comma = Expr::Sequence(vec![comma.clone(), member.clone(), after.clone()]);
            let begins = Expr::Sequence(vec![member, after.clone()]);
            let (new_after, new_first) = if is_required {
                (with_comma, begins)
            } else {
                (Expr::Choice(vec![with_comma, after]), Expr::Choice(vec![begins, first]))
            };
            after = self.rules.add(new_after);
            first = self.rules.add(new_first);
        }
        let space = self.space();
        Expr::Sequence(vec![text("{"), space.clone(), first, space, text("}")])
    }

    /// Any number of members of one kind.
    pub(super) fn map(&mut self, name: Expr, value: Expr) -> Expr {
        let (comma, colon, space) = (self.comma(), self.colon(), self.space());
        let member = self.rules.add(Expr::Sequence(vec![name, colon, value]));
        let more = Expr::Repeat(Box::new(Expr::Sequence(vec![comma, member.clone()])), 0, None);
        let members = Expr::Repeat(Box::new(Expr::Sequence(vec![member, more])), 0, Some(1));
        Expr::Sequence(vec![text("{"), space.clone(), members, space, text("}")])
    }
}
