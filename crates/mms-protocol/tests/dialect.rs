//! The wire rules of both profiles: which dialect a request is in, what its reply looks like, and that no bytes whatever are left
//! without an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use mms_protocol::generate::{Prompt, ToolChoice};
use mms_protocol::view::{HealthView, MemoryView, Stats, StatusView};
use mms_protocol::{
    Call, Dialect, ErrorCode, Inbound, Operation, Profile, Refusal, Reply, decode, encode, encode_batch,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn call(profile: Profile, request: &Value) -> Call {
    match decode(profile, request.to_string().as_bytes()) {
        Inbound::Single(call) => *call,
        Inbound::Batch(_) => panic!("one request was read as a batch: {request}"),
    }
}

/// The reply to `request` when every operation answers like `ping`.
fn reply(profile: Profile, request: &Value) -> Value {
    let call = call(profile, request);
    let pong = Reply::Ping { agent: "ModelManagerSuite".to_owned(), version: "1".to_owned() };
    encode(profile, &call.envelope, call.operation.as_ref().map(|_| &pong), 12.5)
}

fn message(profile: Profile, request: &Value) -> String {
    call(profile, request).operation.expect_err("the request should be refused").message
}

#[test]
fn dialects_are_told_apart_in_the_order_of_the_contract() {
    let dialect = |request: Value| call(Profile::Suite, &request).envelope.dialect;
    assert_eq!(dialect(json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "action": "x"})), Dialect::JsonRpc);
    assert_eq!(dialect(json!({"method": "ping", "action": "x"})), Dialect::Method);
    assert_eq!(dialect(json!({"action": "ping", "command": "x"})), Dialect::Action);
    assert_eq!(dialect(json!({"command": "PING", "type": "x"})), Dialect::Command);
    assert_eq!(dialect(json!({"command": "PROCESS", "type": "ping"})), Dialect::Type);
    assert_eq!(dialect(json!({"type": "ping", "model_id": "x"})), Dialect::Type);
    assert_eq!(dialect(json!({"model_id": "x"})), Dialect::ModelRequest);
    assert_eq!(dialect(json!({"method": null, "action": null, "command": "PING"})), Dialect::Command, "null is absent");
    assert_eq!(dialect(json!({"action": null, "model_id": "x"})), Dialect::ModelRequest);
}

#[test]
fn a_model_request_that_fails_says_why_in_the_words_of_both_profiles() {
    let answer = reply(Profile::Suite, &json!({"model_id": "", "request_id": "r"}));
    for key in ["message", "error_message"] {
        assert_eq!(answer[key], "model_id required");
    }
    assert_eq!(
        (&answer["error_code"], &answer["error"]["code"]),
        (&json!("MISSING_MODEL_ID"), &json!("missing_argument"))
    );
    assert_eq!(answer["request_id"], "r");
}

#[test]
fn status_words_follow_profile_and_dialect() {
    let word = |profile, request| reply(profile, &request)["status"].as_str().unwrap().to_owned();
    for (request, suite, legacy) in [
        (json!({"action": "ping"}), "success", "ok"),
        (json!({"method": "ping"}), "success", "ok"),
        (json!({"type": "ping"}), "success", "success"),
        (json!({"command": "PING"}), "SUCCESS", "SUCCESS"),
        (json!({"action": "no"}), "error", "error"),
        (json!({"type": "no"}), "error", "error"),
        (json!({"command": "no"}), "ERROR", "ERROR"),
        (json!({"model_id": ""}), "ERROR_LOADING_MODEL", "ERROR_LOADING_MODEL"),
    ] {
        assert_eq!(word(Profile::Suite, request.clone()), suite, "{request}");
        assert_eq!(word(Profile::Legacy, request.clone()), legacy, "{request}");
    }
}

#[test]
fn error_texts_that_clients_match_on() {
    for (request, suite, legacy) in [
        (json!({"action": "nope"}), "Unknown action: nope", "Unknown action: nope"),
        (json!({"command": "NOPE"}), "Unknown command: NOPE", "Unknown command: NOPE"),
        (json!({"type": "nope"}), "Unknown request type: nope", "Unknown request type: nope"),
        (json!({"action": "load_model"}), "model_id required", "model_id required"),
        (json!({"action": "generate"}), "prompt required", "Missing 'prompt' field"),
        (
            json!({"action": "generate_text", "model_id": "x"}),
            "model_id and prompt required",
            "model_id and prompt required",
        ),
        (json!("text"), "Invalid request format", "Request must be a dictionary"),
        (json!([1, 2]), "Invalid request format", "Request must be a dictionary"),
    ] {
        assert_eq!(message(Profile::Suite, &request), suite);
        assert_eq!(message(Profile::Legacy, &request), legacy);
    }
    assert!(message(Profile::Suite, &json!({"a": 1})).starts_with("Missing action field"));
    assert_eq!(message(Profile::Legacy, &json!({"a": 1})), "Missing 'command' or 'action' field");
}

#[test]
fn arguments_stand_at_the_top_or_under_params_and_the_top_wins() {
    let model = |request: Value| match call(Profile::Suite, &request).operation {
        Ok(Operation::LoadModel(load)) => load.model,
        other => panic!("{request}: {other:?}"),
    };
    assert_eq!(model(json!({"action": "LOAD_model", "model": "a"})), "a");
    assert_eq!(model(json!({"method": "load_model", "params": {"model_name": "b"}})), "b");
    assert_eq!(model(json!({"method": "load_model", "model_id": "a", "params": {"model_id": "b"}})), "a");
    assert_eq!(model(json!({"jsonrpc": "2.0", "id": 1, "method": "load_model", "params": {"model": "c"}})), "c");
    assert_eq!(model(json!({"jsonrpc": "2.0", "id": 1, "method": "load_model", "model": "d"})), "d");
}

#[test]
fn wrong_arguments_are_named_with_what_was_wanted_and_what_came() {
    let prompt = |extra: Value| {
        let mut request = json!({"action": "generate", "prompt": "hi"});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        message(Profile::Suite, &request)
    };
    assert_eq!(prompt(json!({"max_tokens": -1})), "max_tokens must be an integer from 1 to 1048576, got -1");
    assert_eq!(prompt(json!({"prompt": 5})), "prompt must be a string, got 5");
    assert_eq!(prompt(json!({"temperature": "hot"})), "temperature must be a number from 0 to 5, got \"hot\"");
    assert_eq!(prompt(json!({"top_p": 0})), "top_p must be a number above 0, at most 1, got 0");
    assert!(prompt(json!({"stop": [""]})).starts_with("stop must be a string or an array"));
    assert!(prompt(json!({"params": 3})).starts_with("params must be an object"));
    assert!(prompt(json!({"model": "x".repeat(300)})).starts_with("model must be a string of at most 256 bytes"));
}

#[test]
fn what_is_not_json_says_why() {
    for (bytes, why) in [
        (&b""[..], "the frame is empty"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"{\"action\": NaN}", "Invalid JSON: NaN at line 1 column 12 is no number in JSON"),
        (b"{\"action\": \"ping\"} x", "trailing characters"),
    ] {
        let Inbound::Single(call) = decode(Profile::Suite, bytes) else { panic!("{bytes:?} read as a batch") };
        let refusal = call.operation.unwrap_err();
        assert_eq!(refusal.code, ErrorCode::InvalidJson);
        assert!(refusal.message.contains(why), "{}", refusal.message);
    }
    let deep = "[".repeat(20_000);
    let Inbound::Single(call) = decode(Profile::Suite, deep.as_bytes()) else { panic!("read as a batch") };
    assert!(call.operation.unwrap_err().message.contains("recursion limit"));
    let wide = format!("[{}0]", "0,".repeat(200_000));
    let Inbound::Single(call) = decode(Profile::Suite, wide.as_bytes()) else { panic!("read as a batch") };
    assert!(call.operation.unwrap_err().message.contains("more than 100000 values"));
}

#[test]
fn request_ids_come_back_whatever_they_are() {
    for id in [json!("a"), json!(7), json!({"x": [1]}), json!(null)] {
        assert_eq!(reply(Profile::Suite, &json!({"action": "ping", "request_id": id}))["request_id"], id);
        assert_eq!(reply(Profile::Legacy, &json!({"type": "nope", "request_id": id}))["request_id"], id);
        let beside = json!({"method": "ping", "params": {"request_id": id}});
        assert_eq!(reply(Profile::Suite, &beside)["request_id"], id);
        let rpc = |method| json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"request_id": id}});
        assert_eq!(reply(Profile::Suite, &rpc("ping"))["result"]["request_id"], id);
        assert_eq!(reply(Profile::Suite, &rpc("nope"))["error"]["data"]["request_id"], id);
    }
    assert!(reply(Profile::Suite, &json!({"action": "ping"})).get("request_id").is_none());
}

#[test]
fn refusals_carry_code_and_figures() {
    let call = call(Profile::Suite, &json!({"action": "ping"}));
    let refusal = Refusal::new(ErrorCode::ContextExceeded, "too long").with("prompt_tokens", 9);
    let suite = encode(Profile::Suite, &call.envelope, Err(&refusal), 0.0);
    let error = json!({"code": "context_exceeded", "message": "too long", "prompt_tokens": 9});
    assert_eq!(suite, json!({"status": "error", "message": "too long", "error": error}));
    let mut envelope = call.envelope;
    envelope.dialect = Dialect::Type;
    let legacy = encode(Profile::Legacy, &envelope, Err(&refusal), 0.0);
    assert_eq!(legacy["error"], "too long");
    assert_eq!(legacy["message"], "too long");
}

#[test]
fn unloading_an_unknown_model_is_an_error_on_the_suite_profile_and_done_on_the_legacy_one() {
    let request = json!({"action": "unload_model", "model": "nobody", "request_id": 7});
    let answer = |profile, known| {
        let gone = Reply::Unloaded { model: "nobody".to_owned(), known, was_loaded: false };
        encode(profile, &call(profile, &request).envelope, Ok(&gone), 0.0)
    };
    let suite = answer(Profile::Suite, false);
    assert_eq!((&suite["status"], &suite["message"]), (&json!("error"), &json!("Model not found: nobody")));
    assert_eq!((&suite["error"]["code"], &suite["request_id"]), (&json!("model_not_found"), &json!(7)));
    let legacy = answer(Profile::Legacy, false);
    assert_eq!((&legacy["status"], &legacy["unloaded"]), (&json!("ok"), &json!(true)));
    assert_eq!(legacy["message"], "No model nobody is known, so there was nothing to unload");
    assert_eq!(answer(Profile::Suite, true)["status"], "success");

    let gone = Reply::Unloaded { model: "nobody".to_owned(), known: false, was_loaded: false };
    let rpc = call(
        Profile::Suite,
        &json!({"jsonrpc": "2.0", "id": 1, "method": "unload_model", "params": {"model": "nobody"}}),
    );
    assert_eq!(encode(Profile::Suite, &rpc.envelope, Ok(&gone), 0.0)["error"]["data"]["code"], "model_not_found");
}

#[test]
fn json_rpc_follows_its_specification() {
    let ok = reply(Profile::Suite, &json!({"jsonrpc": "2.0", "id": "a", "method": "ping"}));
    assert_eq!(ok["jsonrpc"], "2.0");
    assert_eq!(ok["id"], "a");
    assert_eq!(ok["result"]["agent"], "ModelManagerSuite");
    let unknown = reply(Profile::Suite, &json!({"jsonrpc": "2.0", "id": 1, "method": "nope"}));
    assert_eq!(unknown["error"]["code"], -32601);
    let params = reply(Profile::Suite, &json!({"jsonrpc": "2.0", "id": 1, "method": "load_model", "params": []}));
    assert_eq!(params["error"]["code"], -32602);
    let invalid = reply(Profile::Suite, &json!({"jsonrpc": "2.0", "id": {}, "method": "ping"}));
    assert_eq!((&invalid["error"]["code"], &invalid["id"]), (&json!(-32600), &Value::Null));
    let long = reply(Profile::Suite, &json!({"jsonrpc": "2.0", "id": ["x".repeat(1000)], "method": "ping"}));
    let text = long["error"]["message"].as_str().unwrap();
    assert!(
        text.starts_with("Invalid Request: id must be a string, a number or null, got") && text.len() < 200,
        "{text}"
    );
    assert_eq!(reply(Profile::Suite, &json!({"jsonrpc": "2.0", "method": "ping"})), json!({}), "a notification");
}

#[test]
fn json_rpc_batches_answer_all_but_notifications() {
    let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "ping"}, 5]);
    let Inbound::Batch(calls) = decode(Profile::Suite, batch.to_string().as_bytes()) else { panic!("not a batch") };
    let pong = Reply::Ping { agent: "a".to_owned(), version: "1".to_owned() };
    let replies = calls
        .into_iter()
        .map(|c| (c.envelope.clone(), encode(Profile::Suite, &c.envelope, c.operation.as_ref().map(|_| &pong), 0.0)))
        .collect();
    let Value::Array(replies) = encode_batch(replies) else { panic!("the reply to a batch is an array") };
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[1]["error"]["code"], -32600);
    assert_eq!(encode_batch(Vec::new()), json!({}));
    let mixed = json!([5, {"jsonrpc": "2.0", "id": 1, "method": "ping"}]);
    assert!(matches!(decode(Profile::Suite, mixed.to_string().as_bytes()), Inbound::Batch(calls) if calls.len() == 2));
    let huge = json!(vec![json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}); 65]);
    assert!(matches!(decode(Profile::Suite, huge.to_string().as_bytes()), Inbound::Single(_)));
}

fn health() -> HealthView {
    HealthView {
        agent: "ModelManagerSuite".to_owned(),
        version: "1".to_owned(),
        ready: true,
        initialized: true,
        draining: false,
        uptime_s: 1.0,
        checks: Vec::new(),
        memory: MemoryView {
            device: "cpu".to_owned(),
            total_mb: 100.0,
            budget_mb: 80.0,
            used_mb: 8.0,
            devices: Vec::new(),
        },
        models: Arc::new([]),
        stats: Stats::default(),
    }
}

#[test]
fn health_check_speaks_each_profiles_words() {
    let request = json!({"action": "health_check", "request_id": "r"});
    let answer = |profile| {
        let call = call(profile, &request);
        encode(profile, &call.envelope, Ok(&Reply::HealthCheck(Box::new(health()))), 3.0)
    };
    let suite = answer(Profile::Suite);
    assert_eq!(suite["status"], "healthy");
    assert!(suite.get("details").is_none());
    let legacy = answer(Profile::Legacy);
    assert_eq!(legacy["status"], "ok");
    assert_eq!(legacy["request_id_received"], "r");
    assert_eq!(legacy["details"]["vram_usage"]["remaining_mb"], 72.0);
    for key in suite.as_object().unwrap().keys() {
        assert!(legacy.get(key).is_some(), "the legacy reply lacks {key}");
    }
}

#[test]
fn status_shows_routing_and_memory() {
    let view = StatusView {
        health: health(),
        routing_policy: BTreeMap::from([("fast".to_owned(), "a".to_owned())]),
        routing_models: BTreeMap::new(),
        preloading: Default::default(),
    };
    let call = call(Profile::Suite, &json!({"action": "status"}));
    let answer = encode(Profile::Suite, &call.envelope, Ok(&Reply::Status(Box::new(view))), 3.0);
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["routing_policy"]["fast"], "a");
    assert_eq!(answer["total_vram_mb"], 100.0);
    assert_eq!(answer["health"], "ok");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(Operation::NAMES.to_vec()).prop_map(Value::from),
    ];
    let keys = [
        "jsonrpc", "id", "method", "action", "command", "type", "model_id", "prompt", "params", "stop", "seed",
        "context",
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(keys.to_vec()), inner, 0..6).prop_map(|map| map
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(Profile::Suite, &bytes);
    }

    #[test]
    fn every_request_has_one_reply_that_is_an_object_with_a_status(value in any_json(), legacy in any::<bool>()) {
        let profile = if legacy { Profile::Legacy } else { Profile::Suite };
        let pong = Reply::Ping { agent: "a".to_owned(), version: "1".to_owned() };
        match decode(profile, value.to_string().as_bytes()) {
            Inbound::Single(call) => {
                let answer = encode(profile, &call.envelope, call.operation.as_ref().map(|_| &pong), 0.0);
                let rpc = call.envelope.dialect == Dialect::JsonRpc;
                prop_assert!(rpc || answer["status"].is_string(), "{answer}");
                if let Err(refusal) = &call.operation {
                    prop_assert!(!refusal.message.is_empty());
                }
            }
            Inbound::Batch(calls) => prop_assert!(!calls.is_empty()),
        }
    }
}

#[test]
fn seeds_are_64_bit_integers_and_minus_one_is_random() {
    let seed = |seed: Value| match call(Profile::Suite, &json!({"action": "generate", "prompt": "hi", "seed": seed}))
        .operation
    {
        Ok(Operation::Generate(args)) => Ok(args.spec.sampling.seed),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.message),
    };
    assert_eq!(seed(json!(7)), Ok(Some(7)));
    assert_eq!(seed(json!(-1)), Ok(None));
    assert_eq!(seed(json!(null)), Ok(None));
    assert_eq!(seed(json!(u32::MAX)), Ok(Some(u32::MAX - 1)), "llama.cpp takes the largest one for random");
    assert_eq!(seed(json!(i64::MAX)), seed(json!(i64::MAX)));
    assert_ne!(seed(json!(1_u64 << 40)), Ok(Some(0)));
    assert_eq!(seed(json!("x")), Err("seed must be a 64-bit integer, got \"x\"".to_owned()));
    assert_eq!(seed(json!(1.5)), Err("seed must be a 64-bit integer, got 1.5".to_owned()));
}

#[test]
fn messages_and_tools_stand_in_place_of_a_prompt() {
    let tool = json!({"type": "function", "function": {"name": "look"}});
    let talk = json!([{"role": "system", "content": "short"}, {"role": "user", "content": "hi"}]);
    let request = |extra: Value| {
        let mut request = json!({"action": "generate_text", "model": "m", "messages": talk.clone()});
        request.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        call(Profile::Suite, &request).operation
    };
    let Ok(Operation::GenerateText(args)) = request(json!({"tools": [tool.clone()], "tool_choice": "required"})) else {
        panic!("messages and tools are read");
    };
    let Prompt::Chat(messages) = &args.spec.prompt else { panic!("{:?}", args.spec.prompt) };
    assert_eq!((messages.len(), messages[1].content.as_str()), (2, "hi"));
    assert_eq!(args.spec.tools.unwrap().choice, ToolChoice::Required);
    for (extra, argument) in [
        (json!({"prompt": "x"}), "prompt"),
        (json!({"system_prompt": "x"}), "system_prompt"),
        (json!({"raw": true}), "raw"),
        (json!({"tools": [tool.clone()], "json": true}), "tools"),
        (json!({"messages": null, "prompt": "x", "raw": true, "tools": [tool]}), "tools"),
        (json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), "messages[0].content[0]"),
    ] {
        let refusal = request(extra.clone()).expect_err(&extra.to_string());
        assert_eq!(refusal.details["argument"], argument, "{extra}");
    }
}
