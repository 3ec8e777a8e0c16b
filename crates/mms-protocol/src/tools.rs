//! Tools and the choice among them, in the shape that OpenAI's clients send.

use serde_json::{Value, json};

use crate::args::Args;
use crate::error::Refusal;
use crate::generate::{Tool, ToolChoice, Tools};
use crate::params::MAX_CONSTRAINT_BYTES;

/// Most tools in one request.
pub const MAX_TOOLS: usize = 128;
/// Longest name of a tool, bytes.
const MAX_TOOL_NAME: usize = 64;

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`. `None`: there are none, or the model must not use them.
pub fn read_tools(args: &Args<'_>) -> Result<Option<Tools>, Refusal> {
    let list = match args.get("tools") {
        None => Vec::new(),
        Some(Value::Array(items)) if items.len() <= MAX_TOOLS => {
            items.iter().enumerate().map(|(n, item)| tool(&format!("tools[{n}]"), item)).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(Refusal::invalid("tools", &format!("an array of at most {MAX_TOOLS} tools"), other)),
    };
    check_together(&list)?;
    let choice = read_choice(args, &list)?;
    let parallel = args.boolean("parallel_tool_calls")?.unwrap_or(true);
    Ok((!list.is_empty() && choice != ToolChoice::None).then_some(Tools { list, choice, parallel }))
}

fn tool(at: &str, item: &Value) -> Result<Tool, Refusal> {
    const MUST_BE: &str = "{\"type\": \"function\", \"function\": {\"name\", \"description\", \"parameters\"}}";
    if let Some(kind) = item.get("type").filter(|kind| !kind.is_null() && **kind != "function") {
        return Err(Refusal::invalid(&format!("{at}.type"), "\"function\"; no other tools are known here", kind));
    }
    let function = item.get("function").and_then(Value::as_object);
    let function = function.ok_or_else(|| Refusal::invalid(at, MUST_BE, item))?;
    let at = format!("{at}.function");
    for (key, value) in function {
        if !["name", "description", "parameters", "strict"].contains(&key.as_str()) && !value.is_null() {
            let name = format!("{at}.{}", crate::error::shortened(key));
            return Err(Refusal::argument(&name, format!("Unrecognized request argument: {name}")));
        }
    }
    let name = match function.get("name") {
        Some(Value::String(name)) if is_name(name) => name.clone(),
        other => {
            let must_be = format!("1 to {MAX_TOOL_NAME} letters, digits, _ or -");
            return Err(Refusal::invalid(&format!("{at}.name"), &must_be, other.unwrap_or(&Value::Null)));
        }
    };
    let description = match function.get("description") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => return Err(Refusal::invalid(&format!("{at}.description"), "a string", other)),
    };
    let parameters = match function.get("parameters") {
        None | Some(Value::Null) => json!({"type": "object", "properties": {}}),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(other) => return Err(Refusal::invalid(&format!("{at}.parameters"), "a JSON schema, an object", other)),
    };
    match function.get("strict") {
        // Arguments follow their schema in any case.
        None | Some(Value::Null | Value::Bool(_)) => Ok(Tool { name, description, parameters }),
        Some(other) => Err(Refusal::invalid(&format!("{at}.strict"), "true or false", other)),
    }
}

fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    plain && (1..=MAX_TOOL_NAME).contains(&name.len())
}

fn check_together(list: &[Tool]) -> Result<(), Refusal> {
    let bytes: usize = list.iter().map(|tool| tool.description.len() + tool.parameters.to_string().len()).sum();
    if bytes > MAX_CONSTRAINT_BYTES {
        let text = format!("the tools have {bytes} bytes together, at most {MAX_CONSTRAINT_BYTES} are possible");
        return Err(Refusal::argument("tools", text));
    }
    for (at, tool) in list.iter().enumerate() {
        if list[..at].iter().any(|other| other.name == tool.name) {
            return Err(Refusal::argument("tools", format!("tools has two tools of the name {}", tool.name)));
        }
    }
    Ok(())
}

fn read_choice(args: &Args<'_>, list: &[Tool]) -> Result<ToolChoice, Refusal> {
    const MUST_BE: &str = "none, auto, required or {\"type\": \"function\", \"function\": {\"name\": string}}";
    let Some(value) = args.get("tool_choice") else { return Ok(ToolChoice::Auto) };
    let named = || {
        let kind = value.get("type").is_none_or(|kind| kind == "function");
        value.get("function")?.get("name")?.as_str().filter(|_| kind)
    };
    let choice = match value.as_str() {
        Some("none") => return Ok(ToolChoice::None),
        Some("auto") => return Ok(ToolChoice::Auto),
        Some("required") => ToolChoice::Required,
        Some(_) => return Err(Refusal::invalid("tool_choice", MUST_BE, value)),
        None => match named() {
            Some(name) => ToolChoice::Named(name.to_owned()),
            None => return Err(Refusal::invalid("tool_choice", MUST_BE, value)),
        },
    };
    let known = match &choice {
        ToolChoice::Named(name) => list.iter().any(|tool| tool.name == *name),
        ToolChoice::Required | ToolChoice::Auto | ToolChoice::None => !list.is_empty(),
    };
    if known {
        return Ok(choice);
    }
    let names: Vec<&str> = list.iter().map(|tool| tool.name.as_str()).collect();
    let text = format!("tool_choice asks for a tool that is not among the tools ({})", names.join(", "));
    Err(Refusal::argument("tool_choice", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: Value) -> Result<Option<Tools>, Refusal> {
        read_tools(&Args::of_request(request.as_object().unwrap())?)
    }

    fn look() -> Value {
        json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": true}})
    }

    #[test]
    fn tools_and_choices() {
        assert_eq!(read(json!({})).unwrap(), None);
        let nothing = json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": true});
        assert_eq!(read(nothing).unwrap(), None);
        assert_eq!(read(json!({"tools": [look()], "tool_choice": "none"})).unwrap(), None);
        let tools = read(json!({"tools": [look()], "parallel_tool_calls": false})).unwrap().unwrap();
        assert_eq!((&tools.choice, tools.parallel, tools.list.len()), (&ToolChoice::Auto, false, 1));
        assert_eq!((tools.list[0].name.as_str(), &tools.list[0].parameters), ("look", &json!({"type": "object"})));
        for (choice, expected) in [
            (json!("required"), ToolChoice::Required),
            (json!({"type": "function", "function": {"name": "look"}}), ToolChoice::Named("look".to_owned())),
        ] {
            let tools = read(json!({"tools": [look()], "tool_choice": choice})).unwrap().unwrap();
            assert_eq!((tools.choice, tools.parallel), (expected, true));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let function = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
        for (request, place) in [
            (json!({"tools": 5}), "tools"),
            (json!({"tools": [{"type": "function"}]}), "tools[0]"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (function(json!({})), "tools[0].function.name"),
            (function(json!({"name": "a b"})), "tools[0].function.name"),
            (function(json!({"name": "a", "parameters": []})), "tools[0].function.parameters"),
            (function(json!({"name": "a", "strict": 1})), "tools[0].function.strict"),
            (function(json!({"name": "a", "colour": 1})), "tools[0].function.colour"),
            (json!({"tools": [look(), look()]}), "tools"),
            (json!({"tools": [look()], "tool_choice": "sometimes"}), "tool_choice"),
            (json!({"tools": [look()], "tool_choice": {"function": {"name": "jump"}}}), "tool_choice"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tools": [look()], "parallel_tool_calls": "yes"}), "parallel_tool_calls"),
        ] {
            let refusal = read(request.clone()).expect_err(&request.to_string());
            assert_eq!(refusal.details["argument"], place, "{request}");
        }
    }
}
