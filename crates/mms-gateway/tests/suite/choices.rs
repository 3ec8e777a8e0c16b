//! Several answers to one request, and what OpenAI's clients can learn about their tokens, with the built-in model.

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::generation::{CHAT, chunks, hold, question, text_of};
use crate::support::{Suite, serve_model, serve_model_with_queue};

const COMPLETIONS: &str = "/v1/completions";

async fn answer(suite: &Suite, path: &str, body: &Value) -> Value {
    let reply = suite.post(path, body).await;
    let answer = reply.json().expect("JSON");
    assert_eq!(reply.status, 200, "{body}: {answer}");
    answer
}

fn contents(answer: &Value) -> Vec<&str> {
    let choices = answer["choices"].as_array().expect("choices").iter();
    choices.map(|choice| choice["message"]["content"].as_str().expect("text")).collect()
}

#[tokio::test]
async fn several_choices_have_seeds_of_their_own_and_share_their_prompt() {
    let suite = serve_model().await;
    let hot = json!({"n": 3, "temperature": 5, "min_p": 0, "top_k": 0, "top_p": 1, "seed": 5});
    let whole = answer(&suite, CHAT, &question(&hot)).await;
    let texts = contents(&whole);
    assert_eq!(texts.len(), 3);
    assert!(texts[0] != texts[1] || texts[1] != texts[2], "not one text three times: {texts:?}");
    let alone = answer(&suite, CHAT, &question(&json!({}))).await;
    assert_eq!(whole["usage"]["prompt_tokens"], alone["usage"]["prompt_tokens"], "the prompt counts once");

    // Without chance, so that the texts are the same each time.
    let whole = answer(&suite, CHAT, &question(&json!({"n": 3}))).await;
    let texts = contents(&whole);
    assert_eq!(texts, [contents(&alone)[0]; 3]);
    let tokens = |answer: &Value| answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(tokens(&whole), 3 * tokens(&alone));
    let streaming = question(&json!({"n": 3, "stream": true, "stream_options": {"include_usage": true}}));
    let streamed = chunks(&suite, CHAT, &streaming).await;
    for (index, text) in texts.iter().enumerate() {
        let of_choice: Vec<Value> =
            streamed.iter().filter(|chunk| chunk["choices"][0]["index"] == index).cloned().collect();
        assert_eq!(text_of(&of_choice, "/choices/0/delta/content"), *text, "choice {index}");
        let end = of_choice.last().unwrap();
        assert_eq!(end["choices"][0]["finish_reason"], whole["choices"][index]["finish_reason"]);
    }
    assert_eq!(streamed.last().unwrap()["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    let counted = suite.metric(r#"mms_requests_total{operation="generate",dialect="openai",outcome="ok"}"#).await;
    assert_eq!(counted, 4.0, "choices are one request");
    suite.stop().await;
}

#[tokio::test]
async fn choices_that_cannot_all_be_given_are_refused_together() {
    let suite = serve_model().await;
    let reply = suite.post(CHAT, &question(&json!({"n": 2, "model": "none"}))).await;
    assert_eq!((reply.status, &reply.json().unwrap()["error"]["code"]), (404, &json!("model_not_found")));
    let body = json!({"model": "mms-demo", "prompt": ["short", "long ".repeat(5000)], "max_tokens": 400});
    let reply = suite.post(COMPLETIONS, &body).await;
    assert_eq!((reply.status, &reply.json().unwrap()["error"]["code"]), (400, &json!("context_length_exceeded")));
    let idle = async || suite.manager.models()[0].active_requests == 0;
    crate::support::until("the other is cancelled", async || idle().await.then_some(())).await;
    suite.stop().await;
}

#[tokio::test]
async fn choices_for_which_there_is_no_room_are_refused_at_once_and_leave_nothing_behind() {
    let suite = serve_model_with_queue(1).await;
    let worker = hold(&suite).await;
    let reply = suite.post(CHAT, &question(&json!({"n": 100}))).await;
    let error = reply.json().unwrap()["error"].clone();
    assert_eq!((reply.status, &error["code"], &error["type"]), (429, &json!("queue_full"), &json!("rate_limit_error")));
    assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1, "{error}");
    kill_process(worker, Signal::CONT).expect("released");
    // What was cancelled leaves the worker one after the other.
    let served = async || (suite.post(CHAT, &question(&json!({"n": 2}))).await.status == 200).then_some(());
    crate::support::until("room again", served).await;
    suite.stop().await;
}

#[tokio::test]
async fn time_that_is_up_before_the_model_began_tells_when_to_come_back() {
    let suite = serve_model().await;
    let reply = suite.post(CHAT, &question(&json!({"timeout_ms": 1}))).await;
    let error = reply.json().unwrap()["error"].clone();
    assert_eq!((reply.status, &error["code"], &error["type"]), (503, &json!("timeout"), &json!("server_error")));
    assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1, "{error}");
    assert!(error["details"]["phase"].is_string(), "{error}");
    suite.stop().await;
}

#[tokio::test]
async fn log_probabilities_in_both_shapes() {
    let suite = serve_model().await;
    let asked = question(&json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 6}));
    let whole = answer(&suite, CHAT, &asked).await;
    let tokens = whole["choices"][0]["logprobs"]["content"].as_array().expect("content");
    let joined: String = tokens.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(joined, contents(&whole)[0]);
    for token in tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (3, &token["token"]), "greedy takes the likeliest");
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["bytes"].is_array());
    }
    let mut streaming = asked;
    streaming["stream"] = json!(true);
    let streamed = chunks(&suite, CHAT, &streaming).await;
    let pieces = streamed.iter().filter_map(|chunk| chunk.pointer("/choices/0/logprobs/content")?.as_array());
    assert_eq!(pieces.flatten().cloned().collect::<Vec<_>>(), *tokens);

    let body = json!({"model": "mms-demo", "prompt": "The suite", "temperature": 0, "max_tokens": 5, "logprobs": 2});
    let whole = answer(&suite, COMPLETIONS, &body).await;
    let logprobs = &whole["choices"][0]["logprobs"];
    let count = logprobs["tokens"].as_array().unwrap().len();
    for key in ["token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[key].as_array().unwrap().len(), count, "{key}");
    }
    assert_eq!((&logprobs["text_offset"][0], logprobs["top_logprobs"][0].as_object().unwrap().len()), (&json!(0), 2));
    let none = answer(&suite, CHAT, &question(&json!({}))).await;
    assert_eq!(none["choices"][0]["logprobs"], Value::Null);
    suite.stop().await;
}

#[tokio::test]
async fn a_forbidden_token_never_comes() {
    let suite = serve_model().await;
    let body = json!({"model": "mms-demo", "prompt": "The suite", "temperature": 0, "max_tokens": 1, "logprobs": 0});
    let first = answer(&suite, COMPLETIONS, &body).await["choices"][0]["logprobs"]["tokens"][0].clone();
    // Which id it has, only the vocabulary knows: of all that are forbidden in turn, some change the answer.
    let mut other = body.clone();
    other["logit_bias"] = (0..512).map(|id| (id.to_string(), json!(-100))).collect::<serde_json::Map<_, _>>().into();
    let biased = answer(&suite, COMPLETIONS, &other).await;
    assert_ne!(biased["choices"][0]["logprobs"]["tokens"][0], first, "{biased}");
    let reply = suite.post(CHAT, &question(&json!({"logit_bias": {"4000000000": 1}}))).await;
    let error = reply.json().unwrap()["error"].clone();
    assert_eq!((reply.status, &error["param"]), (400, &json!("logit_bias")), "{error}");
    suite.stop().await;
}

#[tokio::test]
async fn several_prompts_as_text_and_as_tokens() {
    let suite = serve_model().await;
    let body = json!({
        "model": "mms-demo", "prompt": ["The suite", "One model"], "n": 2, "echo": true, "temperature": 0, "max_tokens": 4,
    });
    let whole = answer(&suite, COMPLETIONS, &body).await;
    let choices = whole["choices"].as_array().unwrap();
    let texts: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts.len(), 4);
    assert!(texts[..2].iter().all(|text| text.starts_with("The suite") && text.len() > 9), "{texts:?}");
    assert!(texts[2..].iter().all(|text| text.starts_with("One model") && text.len() > 9), "{texts:?}");
    assert_eq!(choices.iter().map(|choice| choice["index"].clone()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let tokens = json!({"model": "mms-demo", "prompt": [[70, 71], [72]], "max_tokens": 2});
    let whole = answer(&suite, COMPLETIONS, &tokens).await;
    assert_eq!((whole["choices"].as_array().unwrap().len(), &whole["usage"]["prompt_tokens"]), (2, &json!(3)));
    let strange = json!({"model": "mms-demo", "prompt": [4_000_000_000_u32]});
    assert_eq!(suite.post(COMPLETIONS, &strange).await.status, 400);
    suite.stop().await;
}
