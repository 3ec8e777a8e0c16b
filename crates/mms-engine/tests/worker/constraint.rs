//! Answers within grammars and schemas: whatever the small model babbles, what comes out fits.

use mms_protocol::generate::{Constraint, FinishReason, GenerateSpec, Sampling};
use mms_protocol::worker::{EngineSettings, GenerateFailure};
use serde_json::{Value, json};

use crate::support::{End, Host, ask, ramble};

fn host() -> Host {
    Host::with(EngineSettings { context_length: 1024, ..EngineSettings::default() })
}

fn within(constraint: Constraint, spec: GenerateSpec) -> GenerateSpec {
    GenerateSpec { constraint: Some(constraint), ..spec }
}

fn grammar(text: &str, spec: GenerateSpec) -> GenerateSpec {
    within(Constraint::Grammar(text.to_owned()), spec)
}

/// At a temperature at which every token comes.
fn wild(seed: u32) -> GenerateSpec {
    let spec = ramble("Tell me", 900);
    GenerateSpec { sampling: Sampling { seed: Some(seed), ..spec.sampling.clone() }, ..spec }
}

fn schema(schema: &Value, spec: GenerateSpec) -> GenerateSpec {
    within(Constraint::JsonSchema(schema.clone()), spec)
}

/// The value of the schema that the model answers, greedily and at random.
fn check(host: &mut Host, of: &Value, holds: impl Fn(&Value) -> bool) {
    let specs: Vec<GenerateSpec> =
        (0..4).map(wild).chain([ask("What is this?", 900)]).map(|spec| schema(of, spec)).collect();
    for answer in host.generate_all(&specs) {
        assert_eq!(answer.reason(), FinishReason::Stop, "{}", answer.text);
        let value: Value =
            serde_json::from_str(&answer.text).unwrap_or_else(|error| panic!("{error}: {}", answer.text));
        assert!(holds(&value), "{value} does not fit {of}");
    }
}

#[test]
fn json_of_a_schema() {
    let mut host = host();
    check(&mut host, &json!({"enum": ["red", "green", 3]}), |value| {
        [json!("red"), json!("green"), json!(3)].contains(value)
    });
    let point = json!({"type": "object", "properties": {"x": {"type": "integer", "minimum": -5, "maximum": 120}, "y": {"type": "boolean"}}, "required": ["x", "y"], "additionalProperties": false});
    check(&mut host, &point, |value| {
        value["x"].as_i64().is_some_and(|x| (-5..=120).contains(&x)) && value["y"].is_boolean()
    });
    let list = json!({"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 2, "maxItems": 4});
    check(&mut host, &list, |value| {
        let short = |item: &Value| item.as_str().is_some_and(|text| text.chars().count() <= 12);
        value.as_array().is_some_and(|list| (2..=4).contains(&list.len()) && list.iter().all(short))
    });
    let pattern = json!({"type": "string", "pattern": "^[A-Z]{3}-\\d{2,4}$"});
    check(&mut host, &pattern, |value| {
        let (letters, digits) = value.as_str().and_then(|text| text.split_once('-')).expect("a dash");
        letters.len() == 3 && letters.bytes().all(|byte| byte.is_ascii_uppercase()) && (2..=4).contains(&digits.len())
    });
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20}, "born": {"type": "string", "format": "date"},
        "address": {"$ref": "#/$defs/address"}, "other": {"anyOf": [{"$ref": "#/$defs/address"}, {"type": "null"}]}
    }, "required": ["name", "born", "address", "other"], "$defs": {
        "address": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "zip": {"type": "integer", "minimum": 1}}, "required": ["city", "zip"]}}});
    check(&mut host, &person, |value| {
        let city = |value: &Value| value == "Oslo" || value == "Rome";
        value["born"].as_str().is_some_and(|date| date.len() == 10)
            && city(&value["address"]["city"])
            && (value["other"].is_null() || city(&value["other"]["city"]))
    });
}

#[test]
fn an_object_of_any_kind() {
    let mut host = host();
    let answers = host.generate_all(&[(); 3].map(|()| within(Constraint::JsonObject, ask("What is this?", 900))));
    assert!(answers.iter().all(|answer| answer.text.starts_with('{')));
    for answer in answers.iter().filter(|answer| answer.reason() == FinishReason::Stop) {
        assert!(serde_json::from_str::<Value>(&answer.text).expect("JSON").is_object());
    }
}

#[test]
fn a_grammar_of_the_caller() {
    let mut host = host();
    let yes = host.generate(&grammar("root ::= \"yes\" | \"no\"", ask("Is this a model?", 50)));
    assert!(yes.text == "yes" || yes.text == "no");
    assert_eq!(yes.reason(), FinishReason::Stop);
    // What is beyond ASCII comes whole, even where the vocabulary has only its bytes.
    let letters = host.generate(&grammar("root ::= [éü🙂]{4} \"!\"", wild(3)));
    assert_eq!((letters.text.chars().count(), letters.reason()), (5, FinishReason::Stop));
    // The model ends by itself where it may.
    let open = host.generate(&grammar("root ::= [a-z ]+", ask("Hello", 40)));
    assert!(open.text.bytes().all(|byte| byte == b' ' || byte.is_ascii_lowercase()));
    // A limit still holds, and stop strings too.
    let cut = host.generate(&grammar("root ::= [a-z]{500}", wild(1)).clone());
    assert_eq!(cut.text.len(), 500);
    let few = GenerateSpec { max_tokens: Some(3), ..grammar("root ::= [a-z]{500}", wild(1)) };
    assert_eq!(host.generate(&few).reason(), FinishReason::Length);
    let stopped = GenerateSpec { stop: vec!["cd".to_owned()], ..grammar("root ::= \"abcdef\"", wild(1)) };
    assert_eq!(host.generate(&stopped).text, "ab");
}

#[test]
fn a_seed_means_the_same_text_within_a_grammar() {
    let spec = schema(
        &json!({"type": "array", "items": {"type": "string", "maxLength": 30}, "minItems": 3, "maxItems": 3}),
        wild(7),
    );
    let first = host().generate(&spec).text;
    let mut host = host();
    assert_eq!(host.generate(&spec).text, first);
    assert_eq!(host.generate(&spec).text, first);
    let free = host.generate(&ask("Hello, who are you?", 20));
    let loose = host.generate(&grammar("root ::= .*", ask("Hello, who are you?", 20)));
    assert_eq!(loose.text, free.text);
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_reason() {
    let mut host = host();
    let cases: [(Constraint, &str); 11] = [
        (Constraint::Grammar(String::new()), "no rule `root`"),
        (Constraint::Grammar("start ::= \"a\"".to_owned()), "no rule `root`"),
        (Constraint::Grammar("root ::= root \"a\" | \"b\"".to_owned()), "begin with itself"),
        (
            Constraint::Grammar("root ::= a b\na ::= c\nc ::= | \"x\"\nb ::= a b \"y\" | \"z\"".to_owned()),
            "begin with itself",
        ),
        (Constraint::Grammar("root ::= missing".to_owned()), "`missing`"),
        (Constraint::Grammar("root ::= x{1,100000}{1,100000}\nx ::= \"a\"".to_owned()), "too large"),
        (Constraint::Grammar("root ::= \"a".to_owned()), "line 1"),
        (Constraint::Grammar("x".repeat((1 << 20) + 1)), "limit"),
        (Constraint::JsonSchema(json!({"type": "wishes"})), "`wishes` is no type"),
        (Constraint::JsonSchema(json!({"$ref": "http://example.org/x"})), "within the schema"),
        (Constraint::JsonSchema(json!({"type": "string", "pattern": "(?=x)"})), "cannot be enforced"),
    ];
    for (constraint, expect) in cases {
        match host.generate(&within(constraint.clone(), ask("Hello", 20))).end {
            End::Failed(GenerateFailure::Constraint { message }) => assert!(message.contains(expect), "{message}"),
            end => panic!("{constraint:?}: {end:?}"),
        }
    }
    // Nothing to say: the grammar wants a character that a bias has forbidden.
    let digits = grammar("root ::= [0-9]+ \"x\"", ask("Hello", 20));
    let sampling = Sampling { logit_bias: vec![(0, 100.0)], ..digits.sampling.clone() };
    match host.generate(&GenerateSpec { sampling, ..digits }).end {
        End::Failed(GenerateFailure::Constraint { message }) => {
            assert!(message.contains("no token can continue"), "{message}")
        }
        end => panic!("{end:?}"),
    }
    // So ambiguous that others give up: it is answered or refused, and the worker lives.
    let ambiguous = format!("root ::= {} \"!\"", "[a-z ]* ".repeat(100));
    let answer = host.generate(&grammar(&ambiguous, wild(1)));
    assert!(matches!(answer.end, End::Finished { .. } | End::Failed(GenerateFailure::Constraint { .. })));
    assert!(!host.generate(&ask("Hello", 8)).text.is_empty());
}
