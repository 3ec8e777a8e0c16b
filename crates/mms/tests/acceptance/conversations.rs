//! Conversations: what was said under an id is known to the next turn, on every door, in a defined order, within bounds, after restarts,
//! and only when it was said to the end.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures::StreamExt;
use mms_client::{Client, HttpClient};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::asking::{ask, eventually, requests};
use crate::support::{PATIENCE, Server};

/// An answer in this grammar has no end of its own.
const ENDLESS: &str = "root ::= [a-z ] root";

fn request(id: &str, prompt: &str) -> Value {
    json!({"action": "generate", "prompt": prompt, "conversation_id": id, "max_tokens": 24, "temperature": 0})
}

/// One turn that works.
async fn turn(server: &Server, id: &str, prompt: &str) -> Value {
    worked(server, ask(&server.main, &request(id, prompt)).await)
}

fn worked(server: &Server, reply: Value) -> Value {
    assert_eq!(reply["status"], "success", "{reply}\nserver log:\n{}", server.log());
    reply
}

/// What the model says to these messages, each a role and a text.
async fn told(server: &Server, messages: &[(&str, &str)]) -> Value {
    let messages: Vec<Value> = messages.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
    let request = json!({"action": "generate", "messages": messages, "max_tokens": 24, "temperature": 0});
    worked(server, ask(&server.main, &request).await)
}

/// The next turn of this conversation is answered as `messages` are.
async fn goes_on(server: &Server, id: &str, messages: &[(&str, &str)], turns: u64) {
    let reply = turn(server, id, messages.last().unwrap().1).await;
    let expected = told(server, messages).await;
    assert_eq!(reply["text"], expected["text"], "{reply}");
    assert_eq!(reply["usage"]["prompt_tokens"], expected["usage"]["prompt_tokens"], "{reply}");
    assert_eq!((&reply["conversation_id"], &reply["conversation_turns"]), (&json!(id), &json!(turns)), "{reply}");
}

fn text(reply: &Value) -> &str {
    reply["text"].as_str().unwrap()
}

async fn clear(server: &Server, id: &str) -> Value {
    worked(server, ask(&server.main, &json!({"action": "clear_conversation", "conversation_id": id})).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_knows_those_before_it() {
    let server = Server::start("");
    let first = turn(&server, "c", "Hello!").await;
    assert_eq!((&first["conversation_turns"], &first["turns_left_out"]), (&json!(1), &json!(0)), "{first}");
    assert_eq!((&first["using_kv_cache"], &first["usage"]["cached_tokens"]), (&json!(false), &json!(0)), "{first}");
    let second = turn(&server, "c", "What is this?").await;
    assert_eq!(second["using_kv_cache"], true, "{second}");
    assert!(second["usage"]["cached_tokens"].as_u64() > Some(4), "{second}");
    let talk =
        [("user", "Hello!"), ("assistant", text(&first)), ("user", "What is this?"), ("assistant", text(&second))];
    assert_eq!(told(&server, &talk[..3]).await["text"], second["text"]);
    // With instructions from now on; they stay.
    let mut third = request("c", "Thank you.");
    third["system_prompt"] = json!("Be brief.");
    let third = worked(&server, ask(&server.main, &third).await);
    let mut talk: Vec<(&str, &str)> = [&[("system", "Be brief.")], &talk[..], &[("user", "Thank you.")]].concat();
    assert_eq!(told(&server, &talk).await["text"], third["text"]);
    talk.extend([("assistant", text(&third)), ("user", "And how do I load a model?")]);
    goes_on(&server, "c", &talk, 4).await;
    // Another one, and one without an id, know nothing of it.
    goes_on(&server, "d", &[("user", "And how do I load a model?")], 1).await;
    let none = worked(
        &server,
        ask(&server.main, &json!({"action": "generate", "prompt": "Hello!", "conversation_id": ""})).await,
    );
    assert_eq!((&none["conversation_id"], none.get("conversation_turns")), (&Value::Null, None));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_goes_on_with_the_same_conversation() {
    let server = Server::start("");
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let first = turn(&server, "c", "Hello!").await;
    let args = json!({"model": "mms-demo", "prompt": "What is this?", "conversation_id": "c", "max_tokens": 24, "temperature": 0});
    let second = http.post_json("/api/v1/generate_text", &args).await.unwrap().json().unwrap();
    let chat = |text: &str| {
        json!({"model": "mms-demo", "messages": [{"role": "user", "content": text}], "conversation_id": "c", "max_tokens": 24,
            "temperature": 0})
    };
    let third = http.post_json("/v1/chat/completions", &chat("Thank you.")).await.unwrap().json().unwrap();
    assert_eq!((&third["conversation_id"], &third["conversation_turns"]), (&json!("c"), &json!(3)), "{third}");
    let mut streamed = chat("And who made you?");
    streamed["stream"] = json!(true);
    let lines: Vec<String> =
        http.post_sse("/v1/chat/completions", &streamed).await.unwrap().unwrap().map(Result::unwrap).collect().await;
    let chunks: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(chunks.last().unwrap()["conversation_turns"], 4, "{lines:?}");
    let third = third["choices"][0]["message"]["content"].as_str().unwrap();
    let talk = [
        ("user", "Hello!"),
        ("assistant", text(&first)),
        ("user", "What is this?"),
        ("assistant", text(&second)),
        ("user", "Thank you."),
        ("assistant", third),
        ("user", "And who made you?"),
        ("assistant", &said),
        ("user", "Goodbye!"),
    ];
    goes_on(&server, "c", &talk, 5).await;
    let printed = server.ok(&["generate", "--conversation", "c", "-t", "0", "-n", "8", "--json", "Hello again!"]);
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["conversation_turns"], 6);
    assert!(!server.ok(&["generate", "--stream", "--conversation", "c", "-t", "0", "-n", "8", "And you?"]).is_empty());
    assert_eq!(turn(&server, "c", "Hello!").await["conversation_turns"], 8);
    assert_eq!(server.ok(&["clear-conversation", "c"]), "Conversation c cleared\n");
    let reply = clear(&server, "c").await;
    let nothing = "No conversation c is kept, so there was nothing to clear";
    assert_eq!((&reply["message"], &reply["cleared"]), (&json!(nothing), &json!(false)), "{reply}");
    goes_on(&server, "c", &[("user", "Goodbye!")], 1).await;
    let metrics = http.get("/metrics").await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body);
    for line in ["mms_conversations 1", "mms_conversations_gone_total{reason=\"cleared\"} 1"] {
        assert!(metrics.contains(line), "{line}:\n{metrics}");
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_tools_and_their_results_are_turns() {
    let server = Server::start("");
    let parameters = json!({"type": "object", "properties": {"at": {"enum": ["sky", "sea"]}}, "required": ["at"]});
    let tools = json!([{"type": "function", "function": {"name": "look", "parameters": parameters}}]);
    let mut first = request("c", "What colour is the sky?");
    (first["tools"], first["tool_choice"], first["max_tokens"]) = (tools.clone(), json!("required"), json!(200));
    first["parallel_tool_calls"] = json!(false);
    let first = worked(&server, ask(&server.main, &first).await);
    let call = &first["tool_calls"][0];
    let result = json!({"role": "tool", "tool_call_id": call["id"], "content": "It is blue."});
    let second = json!({"action": "generate", "messages": [result], "tools": tools, "conversation_id": "c", "max_tokens": 24,
        "temperature": 0});
    let second = worked(&server, ask(&server.main, &second).await);
    assert_eq!(second["conversation_turns"], 2, "{second}");
    let called = json!({"role": "assistant", "content": null, "tool_calls": [{"id": call["id"], "type": "function",
        "function": {"name": "look", "arguments": call["arguments"]}}]});
    let messages = json!([{"role": "user", "content": "What colour is the sky?"}, called, result]);
    let whole = json!({"action": "generate", "messages": messages, "tools": tools, "max_tokens": 24, "temperature": 0});
    let whole = worked(&server, ask(&server.main, &whole).await);
    assert_eq!(
        (&second["text"], &second["usage"]["prompt_tokens"]),
        (&whole["text"], &whole["usage"]["prompt_tokens"])
    );
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_conversation_are_answered_in_their_order() {
    let server = Server::start("[engine]\nslots = 4\n");
    let mut first = request("c", "Go on.");
    (first["grammar"], first["max_tokens"]) = (json!(ENDLESS), json!(400));
    let slow = tokio::spawn({
        let (endpoint, first) = (server.main.clone(), first);
        async move { ask(&endpoint, &first).await }
    });
    eventually("the first to be in work", async || requests(&server).await == 1).await;
    // On one connection, so that their order is known.
    let mut client = Client::connect(&server.main, PATIENCE).await.unwrap();
    let batch: Value = (2..6)
        .map(|number| {
            let params = json!({"prompt": format!("Number {number}"), "conversation_id": "c", "max_tokens": 4, "temperature": 0});
            json!({"jsonrpc": "2.0", "id": number, "method": "generate", "params": params})
        })
        .collect();
    let others = client.send_json("batch", &batch);
    let ((), others) = tokio::join!(
        async {
            // Others go on beside it.
            assert_eq!(turn(&server, "d", "Hello!").await["conversation_turns"], 1);
        },
        others
    );
    let first = worked(&server, slow.await.unwrap());
    assert_eq!(first["conversation_turns"], 1);
    let mut tokens = 400;
    for (reply, turns) in others.unwrap().as_array().unwrap().iter().zip(2..) {
        let result = &reply["result"];
        assert_eq!((&reply["id"], &result["conversation_turns"]), (&json!(turns), &json!(turns)), "{reply}");
        let prompt = result["usage"]["prompt_tokens"].as_u64().unwrap();
        assert!(prompt > tokens, "{reply}");
        tokens = prompt;
    }
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_does_not_end_well_leaves_nothing() {
    let server = Server::start("[engine]\ncontext_overflow = \"shift\"\n");
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let first = turn(&server, "c", "Hello!").await;
    // Refused, timed out, timed out while it waited for another turn.
    let mut refused = request("c", "And this?");
    refused["grammar"] = json!("root ::= (");
    assert_eq!(ask(&server.main, &refused).await["status"], "error");
    let mut timed = request("c", "Go on.");
    (timed["grammar"], timed["max_tokens"], timed["timeout_ms"]) = (json!(ENDLESS), json!(100_000), json!(300));
    assert_eq!(ask(&server.main, &timed).await["error"]["code"], "timeout");
    // A client leaves amid its stream, another waits for that turn.
    let body = json!({"model": "mms-demo", "messages": [{"role": "user", "content": "Go on."}], "conversation_id": "c",
        "stream": true, "max_tokens": 100_000, "grammar": ENDLESS});
    let mut lines = http.post_sse("/v1/chat/completions", &body).await.unwrap().unwrap();
    for _ in 0..4 {
        lines.next().await.unwrap().unwrap();
    }
    let mut waits = request("c", "And this?");
    waits["timeout_ms"] = json!(200);
    let reply = ask(&server.main, &waits).await;
    assert_eq!((&reply["error"]["code"], &reply["error"]["phase"]), (&json!("timeout"), &json!("queued")), "{reply}");
    drop(lines);
    goes_on(&server, "c", &[("user", "Hello!"), ("assistant", text(&first)), ("user", "What is this?")], 2).await;
    // Cleared amid a turn: that one is not kept.
    let mut cleared = request("c", "Go on.");
    (cleared["grammar"], cleared["max_tokens"]) = (json!(ENDLESS), json!(400));
    let slow = tokio::spawn({
        let endpoint = server.main.clone();
        async move { ask(&endpoint, &cleared).await }
    });
    eventually("the turn to be in work", async || requests(&server).await == 1).await;
    assert_eq!(clear(&server, "c").await["cleared"], true);
    assert_eq!(worked(&server, slow.await.unwrap())["conversation_turns"], 0);
    goes_on(&server, "c", &[("user", "What is this?")], 1).await;
    server.stop();
}

/// A server with its data in `data`.
fn start_with(data: &Path, config: &str) -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mms.toml"), config).unwrap();
    Server::start_in(folder, &["--data-dir", data.to_str().unwrap()])
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("kept");
    let file = data.join("conversations.db");
    let server = start_with(&data, "[log]\nlevel = \"debug\"\n");
    let first = turn(&server, "c", "Hello!").await;
    turn(&server, "other", "Zanzibar is an island.").await;
    for name in ["conversations.db", "conversations.db-wal"] {
        let mode = std::fs::metadata(data.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let second = turn(&server, "c", "What is this?").await;
    assert!(!server.log().contains("Zanzibar"));
    server.stop();
    let server = start_with(&data, "");
    let mut talk =
        vec![("user", "Hello!"), ("assistant", text(&first)), ("user", "What is this?"), ("assistant", text(&second))];
    talk.push(("user", "Thank you."));
    let third = turn(&server, "c", "Thank you.").await;
    assert_eq!(third["text"], told(&server, &talk).await["text"]);
    assert_eq!(third["conversation_turns"], 3);
    talk.extend([("assistant", text(&third)), ("user", "And now?")]);
    // What is cleared is gone from the file, too.
    let has = |word: &str| {
        let files =
            ["conversations.db", "conversations.db-wal"].map(|name| std::fs::read(data.join(name)).unwrap_or_default());
        files.iter().any(|bytes| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    };
    assert!(has("Zanzibar"));
    clear(&server, "other").await;
    eventually("the text to be overwritten", async || !has("Zanzibar")).await;
    eventually("the turn to be written", async || has("Thank you.")).await;
    server.signal(Signal::KILL);
    drop(server);
    let server = start_with(&data, "");
    goes_on(&server, "c", &talk, 4).await;
    goes_on(&server, "other", &[("user", "What is this?")], 1).await;
    server.stop();
    let server = start_with(&data, "[conversations]\nkeep_on_disk = false\n");
    assert_eq!(turn(&server, "c", "Hello!").await["conversation_turns"], 1);
    server.stop();
    assert!(file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_told_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("kept");
    std::fs::create_dir(&data).unwrap();
    let file = data.join("conversations.db");
    std::fs::write(&file, "no pages of SQLite, but long enough to be looked at. ".repeat(50)).unwrap();
    let server = start_with(&data, "");
    let first = turn(&server, "c", "Hello!").await;
    let health = async || ask(&server.health, &json!({})).await;
    eventually("the file to be told", async || health().await["health_checks"]["conversations"] == false).await;
    let state = health().await;
    assert_eq!((&state["ready"], &state["status"]), (&json!(true), &json!("degraded")), "{state}");
    let detail = state["health_details"]["conversations"].as_str().unwrap();
    assert!(detail.contains("is not an SQLite database") && detail.contains("memory alone"), "{detail}");
    std::fs::remove_file(&file).unwrap();
    eventually("the file to be made", async || health().await["health_checks"]["conversations"] == true).await;
    server.stop();
    let server = start_with(&data, "");
    goes_on(&server, "c", &[("user", "Hello!"), ("assistant", text(&first)), ("user", "What is this?")], 2).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_bounded() {
    let server = Server::start("[conversations]\nmax_conversations = 2\nmax_age_s = 3\n");
    for id in ["a", "b", "a", "c"] {
        turn(&server, id, "Hello!").await;
    }
    // The one used longest ago has gone.
    assert_eq!(clear(&server, "b").await["cleared"], false);
    assert_eq!(turn(&server, "a", "Hello!").await["conversation_turns"], 3);
    let http = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    eventually("both to be too old", async || {
        let metrics = http.get("/metrics").await.unwrap();
        String::from_utf8_lossy(&metrics.body).contains("mms_conversations 0")
    })
    .await;
    assert_eq!(turn(&server, "a", "Hello!").await["conversation_turns"], 1);
    server.stop();
    // Not wanted at all.
    let server = Server::start("[conversations]\nmax_conversations = 0\n");
    for _ in 0..2 {
        let reply = turn(&server, "a", "Hello!").await;
        assert_eq!((&reply["conversation_id"], reply.get("conversation_turns")), (&json!("a"), None), "{reply}");
    }
    assert_eq!(clear(&server, "a").await["cleared"], false);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_turns_are_left_out_of_a_full_context_and_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("kept");
    let config = "[engine]\ncontext_length = 256\nslots = 1\nkv_store_mb = 0\n";
    let server = start_with(&data, config);
    let mut turns = 0;
    let mut last = Value::Null;
    while last["turns_left_out"].as_u64().is_none_or(|left_out| left_out == 0) {
        turns += 1;
        last = turn(&server, "c", &format!("Number {turns}: what is a model?")).await;
        assert_eq!(last["conversation_turns"], turns, "{last}");
    }
    let left_out = last["turns_left_out"].as_u64().unwrap();
    assert!(turns > 3 && left_out < turns - 1, "{last}");
    // The next turn goes on from there, also after a restart, and from what is computed.
    let next = turn(&server, "c", "And then?").await;
    assert_eq!(next["turns_left_out"], left_out, "{next}");
    assert!(
        next["usage"]["cached_tokens"].as_u64().unwrap() + 60 > next["usage"]["prompt_tokens"].as_u64().unwrap(),
        "{next}"
    );
    server.stop();
    let server = start_with(&data, config);
    let next = turn(&server, "c", "And then?").await;
    assert_eq!((&next["turns_left_out"], &next["conversation_turns"]), (&json!(left_out), &json!(turns + 2)), "{next}");
    // What is new must fit by itself.
    let reply = ask(&server.main, &request("c", &"word ".repeat(400))).await;
    assert_eq!(reply["error"]["code"], "context_exceeded", "{reply}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_ids_are_refused_by_name() {
    let server = Server::start("");
    for (id, must_be) in [
        (json!("x".repeat(257)), "a string of at most 256 bytes"),
        (json!("a\nb"), "a string without control characters"),
        (json!(5), "a string"),
    ] {
        for operation in ["generate", "clear_conversation"] {
            let reply =
                ask(&server.main, &json!({"action": operation, "prompt": "Hello!", "conversation_id": id})).await;
            assert_eq!(reply["error"]["code"], "invalid_argument", "{reply}");
            let message = reply["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("conversation_id must be {must_be}, got ")), "{message}");
        }
    }
    let raw = json!({"action": "generate", "prompt": "Hello!", "raw": true, "conversation_id": "c"});
    let reply = ask(&server.main, &raw).await;
    assert!(reply["message"].as_str().unwrap().starts_with("conversation_id cannot be used with raw"), "{reply}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_computed_is_found_again_and_cleared_with_the_conversation() {
    let server = Server::start("[engine]\nslots = 1\nkv_store_mb = 16\n");
    let states = || -> usize {
        let entries = std::fs::read_dir(server.folder().join("data/kv")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".kv")).count()
    };
    let unload =
        async || worked(&server, ask(&server.main, &json!({"action": "unload_model", "model": "mms-demo"})).await);
    let topic = |topic: &str| format!("{topic} is what this is about, and {topic} only. ").repeat(12);
    let first = turn(&server, "ship", &topic("A ship")).await;
    turn(&server, "boat", &topic("The boat")).await;
    unload().await;
    assert_eq!(states(), 2);
    let second = turn(&server, "ship", "Where is it?").await;
    let (prompt, cached) = (&first["usage"]["prompt_tokens"], &second["usage"]["cached_tokens"]);
    assert!(cached.as_u64().unwrap() + 2 > prompt.as_u64().unwrap() && second["using_kv_cache"] == true, "{second}");
    // While its model is loaded: in the slot and on disk; the other stays.
    clear(&server, "ship").await;
    eventually("its states to go", async || states() == 1).await;
    let anew = turn(&server, "ship", &topic("A ship")).await;
    assert!(anew["usage"]["cached_tokens"].as_u64() < Some(4), "{anew}");
    let other = turn(&server, "boat", "Where is it?").await;
    assert!(other["usage"]["cached_tokens"].as_u64() > Some(100), "{other}");
    // While its model is not.
    unload().await;
    assert_eq!(states(), 2);
    clear(&server, "boat").await;
    eventually("its state to go", async || states() == 1).await;
    server.stop();
}
