//! Embeddings through all doors: of an encoder with random weights, and of the built-in model, which generates.

use std::process::{Command, Output};

use mms_client::HttpClient;
use serde_json::{Value, json};

use crate::asking::{ask, model};
use crate::support::{PATIENCE, Server};

/// With the models `encoder` and `mislabelled`, which is the same and said to generate.
fn server() -> Server {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("models")).unwrap();
    let file = folder.path().join("models/encoder.gguf");
    let made = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "-p", "xtask", "--", "random-model", "--size", "encoder", "--out"])
        .arg(&file)
        .status()
        .unwrap();
    assert!(made.success(), "the encoder cannot be made");
    std::fs::copy(&file, folder.path().join("models/mislabelled.gguf")).unwrap();
    let config = "[[model]]\nid = \"mislabelled\"\ncapabilities = [\"text_generation\", \"chat\"]\n";
    std::fs::write(folder.path().join("mms.toml"), config).unwrap();
    Server::start_in(folder, &[])
}

async fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let client = HttpClient::new(&server.http).unwrap().with_timeout(PATIENCE);
    let reply = client.post_json(path, body).await.unwrap();
    (reply.status, reply.json().unwrap())
}

fn numbers(vector: &Value) -> Vec<f64> {
    vector.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

fn near(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3), "{a:?} is not {b:?}");
}

fn code(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn one_text_has_one_vector_on_all_doors() {
    let server = server();
    assert_eq!(model(&server, "encoder").await["capabilities"], json!(["embedding"]));
    let able = model(&server, "mms-demo").await["capabilities"].clone();
    assert_eq!(able, json!(["text_generation", "chat"]));
    // Without a name it is the model that is made for it.
    let texts = ["A first text.", "Another one!", "A first text."];
    let reply = ask(&server.main, &json!({"action": "embed", "input": texts})).await;
    assert_eq!((&reply["status"], &reply["model_id"]), (&json!("success"), &json!("encoder")), "{reply}");
    let vectors: Vec<Vec<f64>> = reply["embeddings"].as_array().unwrap().iter().map(numbers).collect();
    assert_eq!((vectors.len(), vectors[0].len(), &reply["dimensions"]), (3, 128, &json!(128)));
    near(&vectors[0], &vectors[2]);
    assert!((vectors[0].iter().map(|value| value * value).sum::<f64>() - 1.0).abs() < 1e-4);
    assert!(vectors[0].iter().zip(&vectors[1]).any(|(a, b)| (a - b).abs() > 0.01), "other texts, other vectors");
    let tokens = reply["usage"]["prompt_tokens"].as_u64().unwrap();

    let body = |extra: Value| {
        let mut body = json!({"model": "encoder", "input": texts});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    let (status, reply) = post(&server, "/v1/embeddings", &body(json!({}))).await;
    assert_eq!((status, &reply["usage"]["prompt_tokens"]), (200, &json!(tokens)), "{reply}");
    for (index, vector) in vectors.iter().enumerate() {
        assert_eq!(reply["data"][index]["index"], index);
        near(&numbers(&reply["data"][index]["embedding"]), vector);
    }
    let (status, reply) = post(&server, "/v1/embeddings", &body(json!({"dimensions": 8}))).await;
    assert_eq!((status, numbers(&reply["data"][1]["embedding"]).len()), (200, 8), "{reply}");
    let (status, reply) = post(&server, "/v1/embeddings", &body(json!({"encoding_format": "base64"}))).await;
    // 128 numbers of 4 bytes, 3 bytes in 4 characters.
    assert_eq!((status, reply["data"][0]["embedding"].as_str().unwrap().len()), (200, 684));

    let printed = server.ok(&["embed", texts[0], texts[1]]);
    let lines: Vec<Vec<f64>> = printed.lines().map(|line| numbers(&serde_json::from_str(line).unwrap())).collect();
    near(&lines[0], &vectors[0]);
    near(&lines[1], &vectors[1]);
    assert_eq!(server.json(&["embed", texts[0], "--dimensions", "4"])["dimensions"], 4);
    // A model that generates, by its name.
    let reply = server.json(&["embed", "Hello!", "--model", "mms-demo"]);
    assert_eq!((&reply["model_id"], &reply["dimensions"]), (&json!("mms-demo"), &json!(256)));

    let stats = ask(&server.main, &json!({"action": "get_stats"})).await;
    assert_eq!(stats["metrics"]["embeddings"], 7, "{stats}");
    server.stop();
}

#[tokio::test]
async fn what_an_encoder_cannot_do_is_refused_on_all_doors() {
    let server = server();
    // By what the catalogue knows of it, and by the worker where that is wrong.
    for (id, why) in [("encoder", "cannot generate text"), ("mislabelled", "it is an encoder: it gives embeddings")] {
        let request = json!({"action": "generate_text", "model": id, "prompt": "Hello!"});
        let reply = ask(&server.main, &request).await;
        assert_eq!(reply["error"]["code"], "invalid_argument", "{reply}");
        assert!(reply["message"].as_str().unwrap().contains(why), "{reply}");
        let chat = json!({"model": id, "messages": [{"role": "user", "content": "Hello!"}]});
        for (path, body) in [
            ("/v1/chat/completions", chat),
            ("/v1/completions", json!({"model": id, "prompt": "Hello!", "stream": true})),
        ] {
            let (status, reply) = post(&server, path, &body).await;
            assert_eq!(status, 400, "{reply}");
            assert!(reply["error"]["message"].as_str().unwrap().contains(why), "{reply}");
        }
        let (exit, said) = code(&server.mms(&["generate", "Hello!", "--model", id]));
        assert!(exit == 4 && said.contains(why), "{exit}: {said}");
    }
    let long = "word ".repeat(600);
    let reply = ask(&server.main, &json!({"action": "embed", "model": "encoder", "input": ["a", long]})).await;
    assert_eq!(reply["error"]["code"], "context_exceeded", "{reply}");
    let (status, reply) = post(&server, "/v1/embeddings", &json!({"model": "encoder", "input": long})).await;
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(status == 400 && message.contains("2402 tokens") && message.contains("512"), "{reply}");
    let many = json!({"model": "encoder", "input": "a", "dimensions": 129});
    let (status, reply) = post(&server, "/v1/embeddings", &many).await;
    assert_eq!(status, 400, "{reply}");
    assert!(
        reply["error"]["message"].as_str().unwrap().contains("dimensions is 129, its embeddings have 128"),
        "{reply}"
    );
    server.stop();
}
