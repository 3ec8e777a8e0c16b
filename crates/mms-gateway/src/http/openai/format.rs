//! `response_format`, and the other ways to say what an answer must look like.

use mms_protocol::Refusal;
use mms_protocol::args::Args;
use mms_protocol::error::shortened;
use mms_protocol::generate::Constraint;
use mms_protocol::params::{read_constraint, read_schema};
use serde_json::Value;

const NAME: &str = "response_format";

/// Reads `response_format`, else `grammar`, `json_schema` and `json` as on the main port; and whether it was the former.
pub(super) fn read(args: &Args<'_>) -> Result<(Option<Constraint>, bool), Refusal> {
    match (read_format(args)?, read_constraint(args)?) {
        (None, other) => Ok((other, false)),
        (format, None) => Ok((format, true)),
        (Some(_), Some(_)) => Err(Refusal::argument(
            NAME,
            "response_format, grammar, json_schema and json exclude each other; give one of them",
        )),
    }
}

fn read_format(args: &Args<'_>) -> Result<Option<Constraint>, Refusal> {
    const MUST_BE: &str = "an object with the type text, json_object or json_schema";
    let Some(format) = args.get(NAME) else { return Ok(None) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => match format.get("schema").filter(|schema| !schema.is_null()) {
            None => Ok(Some(Constraint::JsonObject)),
            Some(schema) => read_object("response_format.schema", schema).map(Some),
        },
        Some("json_schema") => match format.get("json_schema") {
            Some(Value::Object(described)) => {
                check_described(described)?;
                let at = "response_format.json_schema.schema";
                match described.get("schema").filter(|schema| !schema.is_null()) {
                    Some(schema) => read_object(at, schema).map(Some),
                    None => Err(Refusal::missing_argument(at, format!("{at} is required: a JSON schema"))),
                }
            }
            other => {
                let must_be = "an object {\"name\": string, \"schema\": object}";
                Err(Refusal::invalid("response_format.json_schema", must_be, other.unwrap_or(&Value::Null)))
            }
        },
        Some(_) => Err(Refusal::invalid("response_format.type", "text, json_object or json_schema", &format["type"])),
        None => Err(Refusal::invalid(NAME, MUST_BE, format)),
    }
}

/// `strict` says nothing new: every answer follows its schema.
fn check_described(described: &serde_json::Map<String, Value>) -> Result<(), Refusal> {
    for (key, value) in described.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("response_format.json_schema.{}", shortened(key));
        let (fits, must_be) = match key.as_str() {
            "name" | "description" => (value.is_string(), "a string"),
            "strict" => (value.is_boolean(), "true or false"),
            "schema" => (true, ""),
            _ => return Err(Refusal::argument(&at, format!("Unrecognized request argument: {at}"))),
        };
        if !fits {
            return Err(Refusal::invalid(&at, must_be, value));
        }
    }
    Ok(())
}

fn read_object(at: &str, schema: &Value) -> Result<Constraint, Refusal> {
    match schema {
        Value::Object(_) => read_schema(at, schema),
        other => Err(Refusal::invalid(at, "a JSON schema, an object", other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(request: Value) -> Result<(Option<Constraint>, bool), Refusal> {
        read(&Args::of_request(request.as_object().unwrap())?)
    }

    #[test]
    fn every_way_to_say_it() {
        let schema = json!({"type": "object"});
        let by_schema = Some(Constraint::JsonSchema(schema.clone()));
        for (request, expected) in [
            (json!({}), (None, false)),
            (json!({"response_format": {"type": "text"}}), (None, false)),
            (json!({"response_format": {"type": "json_object"}}), (Some(Constraint::JsonObject), true)),
            (json!({"response_format": {"type": "json_object", "schema": schema}}), (by_schema.clone(), true)),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": schema}}}),
                (by_schema.clone(), true),
            ),
            (json!({"json_schema": schema, "response_format": {"type": "text"}}), (by_schema, false)),
            (json!({"grammar": "root ::= \"a\""}), (Some(Constraint::Grammar("root ::= \"a\"".to_owned())), false)),
        ] {
            assert_eq!(asked(request.clone()).unwrap(), expected, "{request}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let described =
            |described: Value| json!({"response_format": {"type": "json_schema", "json_schema": described}});
        for (request, place) in [
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
            (described(json!({"name": "a"})), "response_format.json_schema.schema"),
            (described(json!({"name": "a", "schema": []})), "response_format.json_schema.schema"),
            (described(json!({"name": 5, "schema": {}})), "response_format.json_schema.name"),
            (described(json!({"schema": {}, "colour": 1})), "response_format.json_schema.colour"),
            (json!({"response_format": {"type": "json_object"}, "json": true}), "response_format"),
            (json!({"json_schema": 5}), "json_schema"),
        ] {
            let refusal = asked(request.clone()).expect_err(&request.to_string());
            assert_eq!(refusal.details["argument"], place, "{request}");
        }
    }
}
