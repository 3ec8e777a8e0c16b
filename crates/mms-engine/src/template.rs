//! Chat templates: the model's own Jinja source, rendered the way the `transformers` library does (blocks trimmed, Python's string
//! methods and JSON, `raise_exception`, `strftime_now`). A model without a template gets the plain form of [`render_plain`].

use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde_json::Value as Json;

use crate::clock::strftime;
use crate::json;

/// Bounds the time and memory of one rendering (about one unit for each instruction and each 64 bytes); real templates with a
/// full context need some thousands.
const FUEL: u64 = 20_000_000;

/// A parsed template of a model.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// Parses `source`; the error is one line for a person.
    pub(crate) fn new(source: String, bos: String, eos: String) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|error| describe(&error))?,
        );
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: String| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            strftime(&format, now.as_secs())
        });
        environment.add_filter("tojson", tojson);
        environment.add_template_owned("chat", source).map_err(|error| describe(&error))?;
        Ok(Self { environment, bos, eos })
    }

    /// The prompt up to the place where the model answers; the error is one line for a person. Messages and tools are objects of the
    /// shape that `transformers` gives to templates.
    pub(crate) fn render(&self, messages: &[Json], tools: Option<&[Json]>) -> Result<String, String> {
        let variables = context! {
            messages => Serde(messages),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
            tools => Serde(tools),
            documents => (),
        };
        let template = self.environment.get_template("chat").map_err(|error| describe(&error))?;
        template.render(variables).map_err(|error| describe(&error))
    }

    pub(crate) fn source(&self) -> String {
        self.environment.get_template("chat").map(|template| template.source().to_owned()).unwrap_or_default()
    }
}

/// JSON as Python writes it, without the escapes that a page in HTML would need.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<Value, Error> {
    let indent = match indent {
        None => options.get::<Option<usize>>("indent")?,
        given => given,
    };
    // Others (`ensure_ascii`, `sort_keys`, `separators`) change nothing that a model would miss.
    let known = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let value = serde_json::to_value(value).map_err(known)?;
    let text = indent.map_or_else(|| json::dumps(&value), |width| json::dumps_indented(&value, width));
    Ok(Value::from_safe_string(text))
}

/// Ends the answer of a model without a template before it invents the next question.
pub(crate) const PLAIN_STOP: &str = "\nUser:";

/// `Role: text` paragraphs with an empty line between them, and `Assistant:` at the end.
pub(crate) fn render_plain(messages: &[Json]) -> String {
    let text = |message: &Json, key: &str| message.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut out = String::new();
    for message in messages {
        let role = text(message, "role");
        let mut letters = role.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
        out.push_str(": ");
        out.push_str(text(message, "content").trim());
        out.push_str("\n\n");
    }
    out.push_str("Assistant:");
    out
}

/// minijinja's message and, when it is known, the line; without the template's name, which is always ours.
fn describe(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    match error.line() {
        Some(line) if error.kind() != ErrorKind::InvalidOperation || error.detail().is_none() => {
            format!("{what} (line {line} of the chat template)")
        }
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ChatTemplate, Json, render_plain};

    fn talk() -> Vec<Json> {
        vec![json!({"role": "system", "content": "Be brief."}), json!({"role": "user", "content": " Hi! "})]
    }

    fn check(source: &str, expect: Result<&str, &str>) {
        let rendered = ChatTemplate::new(source.to_owned(), "<s>".to_owned(), "</s>".to_owned())
            .and_then(|template| template.render(&talk(), None));
        assert_eq!(rendered.as_deref().map_err(String::as_str), expect);
    }

    #[test]
    fn chatml() {
        let source = "{% for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>' }}
{% endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant' }}
{% endif %}";
        check(
            source,
            Ok("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n"),
        );
    }

    #[test]
    fn what_templates_use() {
        check("{{ bos_token }}{{ eos_token }}{{ tools is none }}{{ tools is defined }}", Ok("<s></s>TrueTrue"));
        check("{{ messages[0].content.strip().upper() }}", Ok("BE BRIEF."));
        check("{{ messages[1:][0]['content'].strip().startswith('Hi') }}", Ok("True"));
        check("{{ 'a</think>b'.split('</think>')[-1] }}", Ok("b"));
        check(
            "{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            Ok("2"),
        );
        check("{{ messages[1].content | tojson }}", Ok("\" Hi! \""));
        check("{{ {'b': [1, '<é>'], 'a': 2} | tojson }}", Ok("{\"b\": [1, \"<é>\"], \"a\": 2}"));
        check("{{ {'b': 1} | tojson(indent=2) }}", Ok("{\n  \"b\": 1\n}"));
        check(
            "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
            Ok("system"),
        );
        check("{{ strftime_now('%%') }}", Ok("%"));
        check("{% macro say(m) %}[{{ m.role }}]{% endmacro %}{{ say(messages[1]) }}", Ok("[user]"));
        check("{{ messages[0].tool_calls is defined }}{{ date_string is defined }}", Ok("FalseFalse"));
    }

    #[test]
    fn tools_and_calls_in_their_order() {
        let template = |source: &str| ChatTemplate::new(source.to_owned(), String::new(), String::new()).unwrap();
        let tools =
            [json!({"type": "function", "function": {"name": "look", "parameters": {"b": 1, "a": [true, null]}}})];
        let rendered = template("{% for t in tools %}{{ t | tojson }}{% endfor %}").render(&talk(), Some(&tools));
        let expect = r#"{"type": "function", "function": {"name": "look", "parameters": {"b": 1, "a": [true, null]}}}"#;
        assert_eq!(rendered.as_deref(), Ok(expect));
        let source =
            "{% for k, v in messages[0].a.items() %}{{ k }}={{ v }};{% endfor %}{{ messages[0].content is none }}";
        let message = json!({"role": "assistant", "content": null, "a": {"z": 1, "y": "x"}});
        assert_eq!(template(source).render(&[message], None).as_deref(), Ok("z=1;y=x;True"));
    }

    #[test]
    fn errors_are_one_line() {
        check("{{ raise_exception('System role not supported') }}", Err("System role not supported"));
        check("{% if %}", Err("unexpected end of block (line 1 of the chat template)"));
        let endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        let template = ChatTemplate::new(endless.to_owned(), String::new(), String::new()).expect("parses");
        assert!(template.render(&talk(), None).is_err());
    }

    #[test]
    fn plain() {
        assert_eq!(render_plain(&talk()), "System: Be brief.\n\nUser: Hi!\n\nAssistant:");
    }
}
