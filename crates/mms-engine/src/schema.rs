//! From a JSON schema to a grammar of the JSON texts that fit it: objects, arrays, strings (length, pattern, some formats), integers with
//! bounds, numbers, `enum`, `const`, `anyOf`, `oneOf`, `allOf`, and `$ref` within the schema, also of itself.
//!
//! Properties come in the order of the schema, and others than it names only where `additionalProperties` says so in words. What a
//! grammar cannot enforce (`multipleOf`, `uniqueItems`, `not` and such) is refused, or, for the arguments of tools, left to the model,
//! which has been shown the schema.

mod merge;
mod number;
mod object;
mod pattern;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;

use serde_json::Value;

use crate::grammar::{Expr, RuleId, Rules};

/// What becomes of a rule that a grammar cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rigor {
    /// The schema is refused.
    Refuse,
    /// It is passed over.
    Relax,
}

/// White space between the parts of a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// None, a space, or a new line with indentation, as the model likes.
    Free,
    /// As Python's `json.dumps` writes it, which is what models see of tool calls: `{"a": 1, "b": [2, 3]}`.
    Fixed,
}

/// Why there is no grammar; one line for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema{}: {what}", place(path))]
pub(crate) struct SchemaError {
    /// JSON pointer of the place in the schema.
    path: String,
    what: String,
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" at {path}") }
}

/// Schemas looked at, those that are referred to or merged each time; far more than in any schema of use.
const MOST_SCHEMAS: usize = 20_000;
/// Of schemas within schemas.
const MOST_DEPTH: usize = 200;

/// Turns schemas into expressions of one set of rules.
pub(crate) struct Builder<'a> {
    pub(crate) rules: Rules,
    rigor: Rigor,
    spacing: Spacing,
    /// Where `$ref` looks.
    document: &'a Value,
    references: HashMap<String, RuleId>,
    any: Option<Expr>,
    /// Names of rules must differ between documents.
    documents: usize,
    schemas: usize,
    depth: usize,
}

/// Keywords that say nothing about what fits.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentMediaType",
    "contentEncoding",
    "format",
    "strict",
    "nullable",
];

impl<'a> Builder<'a> {
    pub(crate) fn new(rigor: Rigor, spacing: Spacing) -> Self {
        static NOTHING: Value = Value::Null;
        Self {
            rules: Rules::default(),
            rigor,
            spacing,
            document: &NOTHING,
            references: HashMap::new(),
            any: None,
            documents: 0,
            schemas: 0,
            depth: 0,
        }
    }

    /// The texts that fit `document`.
    pub(crate) fn document(&mut self, document: &'a Value) -> Result<Expr, SchemaError> {
        self.enter(document);
        self.schema(document, "")
    }

    /// What follows is about parts of `document`.
    pub(crate) fn enter(&mut self, document: &'a Value) {
        self.document = document;
        self.references.clear();
        self.documents += 1;
    }

    /// The texts that fit a part of the document, which stands there at `path`.
    pub(crate) fn part(&mut self, part: &Value, path: &str) -> Result<Expr, SchemaError> {
        self.schema(part, path)
    }

    fn schema(&mut self, schema: &Value, path: &str) -> Result<Expr, SchemaError> {
        self.schemas += 1;
        if self.schemas > MOST_SCHEMAS || self.depth > MOST_DEPTH {
            return Err(error(path, "is too large, or refers to itself without end"));
        }
        self.depth += 1;
        let expr = match schema {
            Value::Bool(true) => Ok(self.any_value()),
            Value::Bool(false) => Err(error(path, "`false` fits no value")),
            Value::Object(object) => self.object_schema(object, path),
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(error(path, "a schema is an object, `true` or `false`"))
            }
        };
        self.depth -= 1;
        expr
    }

    fn object_schema(&mut self, schema: &serde_json::Map<String, Value>, path: &str) -> Result<Expr, SchemaError> {
        if let Some(reference) = schema.get("$ref") {
            if schema.keys().all(|key| key == "$ref" || ANNOTATIONS.contains(&key.as_str())) {
                return self.reference(reference, path);
            }
            return self.merged(schema, path);
        }
        if schema.contains_key("allOf") {
            return self.merged(schema, path);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(choices) = schema.get(keyword) {
                return self.any_of(schema, (keyword, choices), path);
            }
        }
        let expr = if let Some(value) = schema.get("const") {
            self.check_keywords(schema, &["const", "type"], path)?;
            self.literal(value)
        } else if let Some(values) = schema.get("enum") {
            self.check_keywords(schema, &["enum", "type"], path)?;
            let values = values.as_array().filter(|values| !values.is_empty());
            let values = values.ok_or_else(|| error(path, "`enum` must be a list with at least one value"))?;
            Expr::Choice(values.iter().map(|value| self.literal(value)).collect())
        } else {
            match schema.get("type") {
                None => self.of_type(implied_type(schema), schema, path)?,
                Some(Value::String(name)) => self.of_type(Some(name), schema, path)?,
                Some(Value::Array(names)) if !names.is_empty() => {
                    let mut choices = Vec::new();
                    for name in names {
                        let name = name.as_str().ok_or_else(|| error(path, "`type` must name types"))?;
                        let mut alone = schema.clone();
                        alone.retain(|key, _| is_of_type(key, name));
                        choices.push(self.of_type(Some(name), &alone, path)?);
                    }
                    Expr::Choice(choices)
                }
                Some(_) => return Err(error(path, "`type` must be a name or a list of names")),
            }
        };
        let or_null = schema.get("nullable") == Some(&Value::Bool(true));
        Ok(if or_null { Expr::Choice(vec![expr, text("null")]) } else { expr })
    }

    fn of_type(
        &mut self,
        name: Option<&str>,
        schema: &serde_json::Map<String, Value>,
        path: &str,
    ) -> Result<Expr, SchemaError> {
        let plain = |this: &Self, expr: Expr| this.check_keywords(schema, &["type"], path).map(|()| expr);
        match name {
            None => {
                let any = self.any_value();
                plain(self, any)
            }
            Some("null") => plain(self, text("null")),
            Some("boolean") => plain(self, Expr::Choice(vec![text("true"), text("false")])),
            Some("number") => plain(self, number::number()),
            Some("integer") => {
                self.check_keywords(schema, number::KEYWORDS, path)?;
                number::integer(schema).map_err(|what| error(path, &what))
            }
            Some("string") => self.string(schema, path),
            Some("array") => self.array(schema, path),
            Some("object") => self.object(schema, path),
            Some(other) => Err(error(path, &format!("`{other}` is no type"))),
        }
    }

    fn any_of(
        &mut self,
        schema: &serde_json::Map<String, Value>,
        (keyword, choices): (&str, &Value),
        path: &str,
    ) -> Result<Expr, SchemaError> {
        let choices = choices.as_array().filter(|choices| !choices.is_empty());
        let choices =
            choices.ok_or_else(|| error(path, &format!("`{keyword}` must be a list with at least one schema")))?;
        let mut rest = schema.clone();
        rest.shift_remove(keyword);
        let is_alone = rest.keys().all(|key| ANNOTATIONS.contains(&key.as_str()));
        let mut exprs = Vec::new();
        for (index, choice) in choices.iter().enumerate() {
            let path = format!("{path}/{keyword}/{index}");
            exprs.push(if is_alone {
                self.schema(choice, &path)?
            } else {
                let both = self.merge(vec![Value::Object(rest.clone()), choice.clone()], &path)?;
                self.schema(&both, &path)?
            });
        }
        Ok(Expr::Choice(exprs))
    }

    /// Each place that is referred to becomes a rule, so that it can contain itself.
    fn reference(&mut self, reference: &Value, path: &str) -> Result<Expr, SchemaError> {
        let reference = reference.as_str().ok_or_else(|| error(path, "`$ref` must be a string"))?;
        if let Some(&rule) = self.references.get(reference) {
            return Ok(Expr::Rule(rule));
        }
        let target = self.resolve(reference, path)?;
        let rule = self.rules.named(&format!("{}{reference}", self.documents));
        self.references.insert(reference.to_owned(), rule);
        let body = self.schema(target, reference)?;
        self.rules.define(rule, body);
        Ok(Expr::Rule(rule))
    }

    fn resolve(&self, reference: &str, path: &str) -> Result<&'a Value, SchemaError> {
        let pointer = reference.strip_prefix('#').ok_or_else(|| {
            error(path, &format!("`$ref` to {reference:?}; only places within the schema can be referred to (`#/...`)"))
        })?;
        let document: &'a Value = self.document;
        document.pointer(pointer).ok_or_else(|| error(path, &format!("`$ref` to {reference:?}, which is not there")))
    }

    fn array(&mut self, schema: &serde_json::Map<String, Value>, path: &str) -> Result<Expr, SchemaError> {
        self.check_keywords(
            schema,
            &["type", "items", "prefixItems", "additionalItems", "minItems", "maxItems"],
            path,
        )?;
        let (least, most) = limits(schema, "minItems", "maxItems", path)?;
        // The first items in the words of two drafts.
        let listed = match (schema.get("prefixItems"), schema.get("items")) {
            (Some(Value::Array(items)), _) | (None, Some(Value::Array(items))) => items.as_slice(),
            (Some(_), _) => return Err(error(path, "`prefixItems` must be a list")),
            (None, _) => &[],
        };
        let more = schema.get("items").filter(|items| !items.is_array()).or_else(|| schema.get("additionalItems"));
        let mut first = Vec::new();
        for (index, item) in listed.iter().enumerate() {
            let item = self.schema(item, &format!("{path}/prefixItems/{index}"))?;
            first.push(self.rules.add(item));
        }
        let more = match more {
            Some(Value::Bool(false)) => None,
            None if !listed.is_empty() => None,
            None => Some(self.any_value()),
            Some(items) => Some(self.schema(items, &format!("{path}/items"))?),
        };
        let more = more.map(|more| self.rules.add(more));
        let count = u32::try_from(first.len()).unwrap_or(u32::MAX);
        if more.is_none() && least > count || most.is_some_and(|most| most < least) {
            return Err(error(path, "no list has so many items"));
        }
        Ok(self.list(&first, more, (least, most)))
    }

    /// `first` one after the other, then any number of `more`; never fewer or more than the limits say.
    fn list(&mut self, first: &[Expr], more: Option<Expr>, (least, most): (u32, Option<u32>)) -> Expr {
        let comma = self.comma();
        let count = u32::try_from(first.len()).unwrap_or(u32::MAX);
        let left = |limit: u32| limit.saturating_sub(count.max(1));
        // After at least one item.
        let mut rest = match &more {
            Some(more) if most.is_none_or(|most| most > count.max(1)) => {
                let another = Expr::Sequence(vec![comma.clone(), more.clone()]);
                Expr::Repeat(Box::new(another), left(least), most.map(left))
            }
            Some(_) | None => Expr::Sequence(Vec::new()),
        };
        for (index, item) in first.iter().enumerate().skip(1).rev() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let with = Expr::Sequence(vec![comma.clone(), item.clone(), rest]);
            rest = if most.is_some_and(|most| most <= index) {
                Expr::Sequence(Vec::new())
            } else if least > index {
                with
            } else {
                Expr::Repeat(Box::new(with), 0, Some(1))
            };
            rest = self.rules.add(rest);
        }
        let items = match first.first().cloned().or(more) {
            Some(item) if most != Some(0) => {
                let items = Expr::Sequence(vec![item, rest]);
                if least > 0 { items } else { Expr::Repeat(Box::new(items), 0, Some(1)) }
            }
            Some(_) | None => Expr::Sequence(Vec::new()),
        };
        let space = self.space();
        Expr::Sequence(vec![text("["), space.clone(), items, space, text("]")])
    }

    /// Any JSON value.
    fn any_value(&mut self) -> Expr {
        if let Some(any) = &self.any {
            return any.clone();
        }
        let rule = self.rules.named("a value");
        let any = Expr::Rule(rule);
        self.any = Some(any.clone());
        let string = self.any_string();
        let string = self.rules.add(string);
        let list = self.list(&[], Some(any.clone()), (0, None));
        let object = self.map(string.clone(), any.clone());
        let words = ["true", "false", "null"].map(text);
        let mut choices = vec![object, list, string, number::number()];
        choices.extend(words);
        self.rules.define(rule, Expr::Choice(choices));
        any
    }

    /// Exactly this value.
    fn literal(&self, value: &Value) -> Expr {
        text(&crate::json::dumps(value))
    }

    fn comma(&mut self) -> Expr {
        match self.spacing {
            Spacing::Fixed => text(", "),
            Spacing::Free => Expr::Sequence(vec![text(","), self.space()]),
        }
    }

    fn colon(&mut self) -> Expr {
        match self.spacing {
            Spacing::Fixed => text(": "),
            Spacing::Free => Expr::Sequence(vec![text(":"), self.space()]),
        }
    }

    /// Bounded, since a model that is at a loss writes white space without end.
    fn space(&mut self) -> Expr {
        if self.spacing == Spacing::Fixed {
            return Expr::Sequence(Vec::new());
        }
        let rule = self.rules.named("space");
        if !self.rules.is_defined(rule) {
            let blank = Expr::Class(vec![('\t', '\t'), (' ', ' ')]);
            let indented = Expr::Sequence(vec![text("\n"), Expr::Repeat(Box::new(blank), 0, Some(20))]);
            self.rules.define(rule, Expr::Choice(vec![Expr::Sequence(Vec::new()), text(" "), indented]));
        }
        Expr::Rule(rule)
    }

    /// Every keyword must be one of `known`, or say nothing about what fits.
    fn check_keywords(
        &self,
        schema: &serde_json::Map<String, Value>,
        known: &[&str],
        path: &str,
    ) -> Result<(), SchemaError> {
        let is_known = |key: &str| known.contains(&key) || ANNOTATIONS.contains(&key) || key.starts_with("x-");
        match schema.keys().find(|key| !is_known(key)) {
            Some(key) => self.unenforced(&format!("`{key}`"), path),
            None => Ok(()),
        }
    }

    fn unenforced(&self, what: &str, path: &str) -> Result<(), SchemaError> {
        match self.rigor {
            Rigor::Relax => Ok(()),
            Rigor::Refuse => {
                Err(error(path, &format!("{what} cannot be enforced here; leave it out and check the answer for it")))
            }
        }
    }
}

/// The type that keywords without `type` speak of.
fn implied_type(schema: &serde_json::Map<String, Value>) -> Option<&'static str> {
    let keyword_types =
        schema.keys().filter_map(|key| TYPE_KEYWORDS.iter().find(|(_, keys)| keys.contains(&key.as_str())));
    keyword_types.map(|(name, _)| *name).next()
}

/// Keywords that speak of one type only.
const TYPE_KEYWORDS: &[(&str, &[&str])] = &[
    (
        "object",
        &[
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "minProperties",
            "maxProperties",
            "propertyNames",
            "dependentRequired",
        ],
    ),
    (
        "array",
        &[
            "items",
            "prefixItems",
            "additionalItems",
            "minItems",
            "maxItems",
            "uniqueItems",
            "contains",
            "minContains",
            "maxContains",
        ],
    ),
    ("string", &["pattern", "minLength", "maxLength"]),
    ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
];

/// The keyword speaks of values of this type, or of any.
fn is_of_type(keyword: &str, name: &str) -> bool {
    let name = if name == "integer" { "number" } else { name };
    TYPE_KEYWORDS.iter().all(|(other, keys)| *other == name || !keys.contains(&keyword))
}

/// A lower and an upper limit of a count.
fn limits(
    schema: &serde_json::Map<String, Value>,
    least: &str,
    most: &str,
    path: &str,
) -> Result<(u32, Option<u32>), SchemaError> {
    let limit = |key: &str| match schema.get(key) {
        None => Ok(None),
        Some(value) => {
            let whole = value.as_f64().filter(|limit| *limit >= 0.0 && limit.fract() == 0.0);
            let whole = whole.ok_or_else(|| error(path, &format!("`{key}` must be a count")))?;
            Ok(Some(if whole > f64::from(MOST_COUNTED) { MOST_COUNTED } else { whole as u32 }))
        }
    };
    let (least, most) = (limit(least)?.unwrap_or(0), limit(most)?);
    // So many are not counted; nobody gets that far.
    Ok((least, most.filter(|most| *most < MOST_COUNTED)))
}

/// Of characters or items.
const MOST_COUNTED: u32 = 50_000;

fn error(path: &str, what: &str) -> SchemaError {
    SchemaError { path: path.to_owned(), what: what.to_owned() }
}

fn text(text: &str) -> Expr {
    Expr::Text(text.to_owned())
}
