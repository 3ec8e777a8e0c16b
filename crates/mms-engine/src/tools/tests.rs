//! Grammar, recognizer and writer of every form, against each other and against garbage.

use std::sync::Arc;

use mms_protocol::generate::{Tool, ToolChoice, Tools};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::grammar;
use super::recognizer::{Piece, Recognizer};
use super::syntax::{ALL, HERMES, PastCall, Syntax};
use crate::grammar::matcher::{Matcher, Place};

fn tools(choice: ToolChoice, parallel: bool) -> Tools {
    let tool = |name: &str, parameters: Value| Tool { name: name.to_owned(), description: String::new(), parameters };
    let list = vec![
        tool(
            "look",
            json!({"type": "object", "properties": {
                "at": {"type": "string"}, "how": {"enum": ["far", "near"]}, "times": {"type": "integer", "minimum": 1, "maximum": 9},
                "where": {"type": "array", "items": {"type": "number"}, "maxItems": 2}
            }, "required": ["at"]}),
        ),
        tool(
            "look_up",
            json!({"type": "object", "properties": {"page": {"$ref": "#/$defs/page"}}, "required": ["page"],
            "$defs": {"page": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}}}),
        ),
        tool("stop", json!({"type": "object", "properties": {}})),
    ];
    Tools { list, choice, parallel }
}

fn past(name: &str, arguments: Value) -> PastCall {
    PastCall { id: String::new(), name: name.to_owned(), arguments }
}

fn some_calls() -> Vec<PastCall> {
    vec![
        past("look", json!({"at": "a \"b\" </c> {é}", "how": "near", "times": 3, "where": [1.5, -2]})),
        past("look_up", json!({"page": {"n": 7}})),
        past("stop", json!({})),
    ]
}

/// Text, calls, and how many bytes are of calls.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    text: String,
    calls: Vec<(String, Value)>,
    /// The text before each call.
    before: Vec<usize>,
    taken: usize,
}

fn see(syntax: &'static Syntax, parts: &[&str]) -> Seen {
    let mut recognizer = Recognizer::new(syntax, Arc::from(tools(ToolChoice::Auto, true).list));
    let mut pieces = Vec::new();
    for part in parts {
        recognizer.push(part, &mut pieces);
    }
    recognizer.finish(&mut pieces);
    let mut seen = Seen::default();
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                assert!(!text.is_empty());
                seen.text.push_str(&text);
            }
            Piece::Taken(bytes) => seen.taken += bytes,
            Piece::Call { name, arguments } => {
                let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
                seen.before.push(seen.text.len());
                seen.calls.push((name, arguments));
            }
        }
    }
    seen
}

/// Whatever way it comes in pieces.
fn see_all(syntax: &'static Syntax, text: &str) -> Seen {
    let whole = see(syntax, &[text]);
    let characters: Vec<String> = text.chars().map(String::from).collect();
    let characters: Vec<&str> = characters.iter().map(String::as_str).collect();
    assert_eq!(see(syntax, &characters), whole, "{text} in characters");
    for (cut, _) in text.char_indices() {
        assert_eq!(see(syntax, &[&text[..cut], &text[cut..]]), whole, "{text} cut at {cut}");
    }
    assert_eq!(whole.text.len() + whole.taken, text.len(), "{text}");
    if whole.calls.is_empty() {
        assert_eq!(whole.text, text);
    }
    whole
}

fn names_and_arguments(calls: &[PastCall]) -> Vec<(String, Value)> {
    calls.iter().map(|call| (call.name.clone(), call.arguments.clone())).collect()
}

#[test]
fn what_is_written_is_recognized() {
    for syntax in ALL {
        let mut calls = some_calls();
        if syntax.between.is_none() {
            calls.truncate(1);
        }
        let written = syntax.write(&calls);
        let seen = see_all(syntax, &written);
        assert_eq!((seen.text.as_str(), seen.calls), ("", names_and_arguments(&calls)), "{written}");
        for call in &calls {
            let seen = see_all(syntax, &syntax.write(std::slice::from_ref(call)));
            assert_eq!(seen.calls, names_and_arguments(std::slice::from_ref(call)));
        }
        let text = format!("Let me see. {{\"a\": 1}} \n\n{written}\n");
        let seen = see_all(syntax, &text);
        let expect = if syntax.whole_answer { text.as_str() } else { "Let me see. {\"a\": 1}" };
        assert_eq!(seen.text, expect, "{text}");
        assert_eq!(seen.calls.len(), if syntax.whole_answer { 0 } else { calls.len() });
        assert!(seen.before.iter().all(|before| *before == expect.len()));
    }
}

#[test]
fn a_call_is_told_of_when_its_arguments_are_whole() {
    let mut recognizer = Recognizer::new(&HERMES, Arc::from(tools(ToolChoice::Auto, true).list));
    let mut pieces = Vec::new();
    recognizer.push("See:\n<tool_call>\n{\"name\": \"stop\", \"arguments\": {", &mut pieces);
    assert_eq!(pieces, [Piece::Text("See:".to_owned())]);
    pieces.clear();
    recognizer.push("}", &mut pieces);
    let call = Piece::Call { name: "stop".to_owned(), arguments: "{}".to_owned() };
    assert_eq!(pieces.last(), Some(&call));
    pieces.clear();
    // The rest may be missing.
    recognizer.push("}\n</tool_c", &mut pieces);
    recognizer.finish(&mut pieces);
    assert!(pieces.iter().all(|piece| matches!(piece, Piece::Taken(_))), "{pieces:?}");
}

#[test]
fn what_is_no_call_is_text() {
    for syntax in ALL {
        let written = syntax.write(&some_calls()[..1]);
        // Cut off before the arguments are whole, at every place.
        let whole = written.rfind(['}', '>']).unwrap_or(0);
        let end = written[..whole].rfind("near").unwrap_or(0);
        for cut in (0..end).filter(|cut| written.is_char_boundary(*cut)) {
            assert_eq!(see(syntax, &[&written[..cut]]).text, written[..cut]);
        }
        let unknown = syntax.write(&[past("unknown", json!({}))]);
        assert_eq!(see_all(syntax, &unknown).text, unknown);
    }
    for text in [
        "<tool_call>{}",
        "<tool_call>\n{\"name\": 5}",
        "a <tool_call",
        "<tool_call> {\"name\": \"look\", \"arguments\": [1]}",
        "  \n",
    ] {
        assert_eq!(see_all(&HERMES, text).text, text);
    }
    // Behind something that only began like a call.
    let text = "<tool_call> no <tool_call>{\"name\":\"stop\",\"arguments\":{}}</tool_call>";
    let seen = see_all(&HERMES, text);
    assert_eq!((seen.text.as_str(), seen.calls.len()), ("<tool_call> no", 1));
}

#[test]
fn lists_with_ids_and_answers_that_are_json() {
    let list = "[TOOL_CALLS] [{\"name\": \"stop\", \"arguments\": {}, \"id\": \"abcdefgh1\"},{\"name\":\"stop\",\"arguments\":{}}]";
    let mistral = ALL.iter().find(|syntax| syntax.open.starts_with("[TOOL_CALLS]")).expect("there");
    assert_eq!(see_all(mistral, list).calls.len(), 2);
    let json = Syntax::by_keys("{\"name\": \"x\", \"parameters\": {}}").expect("there");
    assert_eq!(see_all(json, " {\"name\": \"stop\", \"parameters\": {}}").calls.len(), 1);
    assert_eq!(see_all(json, "<|python_tag|>{\"name\": \"stop\", \"parameters\": {}}").calls.len(), 1);
    assert_eq!(see_all(json, "I say {\"name\": \"stop\", \"parameters\": {}}").calls.len(), 0);
    let other = "{\"name\": \"Ann\", \"parameters\": {}}";
    assert_eq!(see_all(json, other).text, other);
}

#[test]
fn arguments_by_themselves_have_the_types_of_the_schema() {
    let tags = Syntax::by_marks("<function=x><parameter=y>").expect("there");
    let text = "<function=look><parameter=at>\n 5\nlines\n</parameter>\n<parameter=times>\n5\n</parameter><parameter=other>x</parameter></function>";
    let seen = see_all(tags, text);
    assert_eq!(seen.calls, [("look".to_owned(), json!({"at": " 5\nlines", "times": 5, "other": "x"}))]);
}

fn matcher(tools: &Tools, syntax: &Syntax, several: bool) -> Matcher {
    let grammar = grammar(tools, syntax, several).expect("a grammar");
    Matcher::new(Arc::new(grammar)).expect("texts fit")
}

/// Whether the text may come, and whether it may, and must, end then.
fn follow(matcher: &Matcher, text: &str) -> Option<(bool, bool)> {
    let mut matcher = matcher.clone();
    let place = matcher.after(matcher.here(), text.as_bytes()).expect("not ambiguous");
    if place == Place::DEAD {
        return None;
    }
    matcher.accept(place);
    Some((matcher.may_end(), matcher.must_end()))
}

#[test]
fn grammars_let_pass_what_is_written_and_nothing_else() {
    for syntax in ALL {
        let calls = some_calls();
        let (auto, must) = (tools(ToolChoice::Auto, true), tools(ToolChoice::Required, true));
        let (auto, must) = (matcher(&auto, syntax, true), matcher(&must, syntax, true));
        let one = matcher(&tools(ToolChoice::Required, false), syntax, true);
        let named = matcher(&tools(ToolChoice::Named("look".to_owned()), true), syntax, true);
        let single = matcher(&tools(ToolChoice::Auto, true), syntax, false);
        for call in &calls {
            let written = syntax.write(std::slice::from_ref(call));
            for matcher in [&auto, &must, &one, &single] {
                assert_eq!(follow(matcher, &written).map(|(may, _)| may), Some(true), "{written}");
            }
            // An optional end may still come.
            assert!(
                follow(&one, &format!("{written} <tool_call>")).is_none()
                    && follow(&one, &format!("{written} text")).is_none()
            );
            assert_eq!(follow(&named, &written).is_some(), call.name == "look", "{written}");
            if !syntax.whole_answer {
                assert_eq!(follow(&auto, &format!("See: {written}")).map(|(may, _)| may), Some(true));
            }
            assert_eq!(follow(&must, "See: "), None);
            assert_eq!(follow(&auto, &format!("{written} and more text")), None);
        }
        let all = syntax.write(&calls);
        assert_eq!(follow(&must, &all).is_some(), syntax.between.is_some(), "{all}");
        assert_eq!(follow(&one, &all), None);
        assert_eq!(follow(&auto, "Just text {} < [ <tool <|to [TOO").map(|(may, _)| may), Some(true));
        // Once a call has begun, its arguments fit.
        for wrong in [
            past("look", json!({})),
            past("look", json!({"at": "x", "how": "up"})),
            past("stop", json!({"x": 1})),
            past("up", json!({})),
        ] {
            let written = syntax.write(&[wrong]);
            let is_open = syntax.whole_answer && written.contains("\"up\", ");
            assert_eq!(follow(&auto, &written).is_some(), is_open, "{written}");
            assert_eq!(follow(&must, &written), None);
        }
    }
}

#[test]
fn tools_that_cannot_be_followed_are_refused() {
    let refused = |parameters: Value| {
        let tool = Tool { name: "look".to_owned(), description: String::new(), parameters };
        let tools = Tools { list: vec![tool], choice: ToolChoice::Auto, parallel: true };
        grammar(&tools, &HERMES, true).err()
    };
    let reason = refused(json!({"type": "string"})).expect("refused");
    assert!(reason.contains("tool look must be of the type object"), "{reason}");
    let reason = refused(json!({"properties": {"a": {"type": "wishes"}}})).expect("refused");
    assert!(reason.contains("tool look: the schema at /properties/a: `wishes`"), "{reason}");
    assert_eq!(refused(json!({})), None);
    assert_eq!(refused(json!({"type": "object", "properties": {"n": {"type": "number", "multipleOf": 3}}})), None);
}

/// A text of the grammar, by chance.
fn walk(matcher: &mut Matcher, seed: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    for turn in 0..1000 {
        if matcher.must_end() {
            break;
        }
        let random = usize::from(seed[turn % seed.len()]) + turn / seed.len() * 7;
        if matcher.may_end() && random.is_multiple_of(3) {
            break;
        }
        let mut next = Vec::new();
        for byte in 0..0xff {
            let place = matcher.after(matcher.here(), &[byte]).expect("not ambiguous");
            if place != Place::DEAD && (byte < 0x80 || next.is_empty()) {
                next.push((byte, place));
            }
        }
        // What ends something comes sooner or later.
        let ending = next.iter().position(|(byte, _)| b"\"}]<".contains(byte)).filter(|_| random % 4 == 1);
        let (byte, place) = next[ending.unwrap_or(random % next.len())];
        bytes.push(byte);
        matcher.accept(place);
    }
    matcher.may_end().then(|| String::from_utf8(bytes).expect("UTF-8"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn what_a_grammar_lets_pass_is_recognized(seed in proptest::collection::vec(any::<u8>(), 20..60), which in 0..ALL.len(), parallel in any::<bool>()) {
        let syntax = ALL[which];
        let mut matcher = matcher(&tools(ToolChoice::Required, parallel), syntax, true);
        let Some(text) = walk(&mut matcher, &seed) else { return Ok(()) };
        let seen = see(syntax, &[&text]);
        prop_assert_eq!(seen.text.trim(), "", "{}", text);
        prop_assert!(!seen.calls.is_empty(), "{}", text);
        if !parallel {
            prop_assert_eq!(seen.calls.len(), 1, "{}", text);
        }
        for (name, arguments) in seen.calls {
            prop_assert!(name != "look" || arguments["at"].is_string(), "{}", text);
            prop_assert!(name != "stop" || arguments == json!({}), "{}", text);
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_text_however_it_is_cut(
        parts in proptest::collection::vec(prop_oneof![
            proptest::sample::select(vec![
                "<tool_call>", "</tool_call>", "{\"name\": \"", "look", "look_up", "stop", "\", \"arguments\": ", "\", \"parameters\": ", "{}", "}",
                "{\"at\": \"x\"}", "<function=", ">", "<parameter=", "at", "</parameter>", "</function>", "[TOOL_CALLS]", "[", "]", ", ", "[ARGS]",
                "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "function", "<｜tool▁sep｜>", "\n```json\n", "```", "<｜tool▁call▁end｜>",
                "<｜tool▁calls▁end｜>", "<|tool_call|>", "<|/tool_call|>", "<|python_tag|>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
                "<TOOLCALL>", "</TOOLCALL>", "\n", " ", ", \"id\": \"", "\"", "\\", "é🙂",
            ]).prop_map(str::to_owned),
            "[a-z<>{}\"\\[\\] ]{0,5}",
        ], 0..16),
        which in 0..ALL.len(),
    ) {
        see_all(ALL[which], &parts.concat());
    }
}
