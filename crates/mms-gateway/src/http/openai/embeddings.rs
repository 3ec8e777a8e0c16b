//! `POST /v1/embeddings`.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mms_protocol::args::Args;
use mms_protocol::call::MAX_TIMEOUT_MS;
use mms_protocol::generate::EmbedSpec;
use mms_protocol::params::{MAX_DIMENSIONS, read_embed_inputs};
use mms_protocol::view::Embedding;
use mms_protocol::{EmbedArgs, ErrorCode, KeepAlive, Operation, Profile, Refusal, Reply};
use serde_json::{Map, Value, json};

use super::{DIALECT, error, params};
use crate::http::{Http, body};

const KNOWN: [&str; 6] = ["model", "input", "dimensions", "encoding_format", "timeout_ms", "keep_alive"];

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// An array of numbers.
    Float,
    /// Base64 of 32-bit floats, the lowest byte first.
    Base64,
}

pub(super) async fn embeddings(State(http): State<Http>, request: Request) -> Response {
    let asked = body::object(request, &http.body).await.and_then(|object| read(&object));
    let (operation, encoding) = match asked {
        Ok((args, encoding)) => (Ok(Operation::Embed(args)), encoding),
        // Counted like every other refusal.
        Err(refusal) => (Err(refusal), Encoding::Float),
    };
    match http.gateway.perform(Profile::Suite, DIALECT, operation).await {
        Ok(Reply::Embedded(embedding)) => Json(object(&embedding, encoding)).into_response(),
        Ok(_) => {
            let refusal = Refusal::new(ErrorCode::Internal, "the embeddings gave another reply than embeddings");
            error::response(&refusal)
        }
        Err(refusal) => error::response(&refusal),
    }
}

fn read(object: &Map<String, Value>) -> Result<(EmbedArgs, Encoding), Refusal> {
    params::check(object, &[&KNOWN], &[])?;
    let args = Args::of_request(object)?;
    let encoding = match args.get("encoding_format") {
        None => Encoding::Float,
        Some(value) => match value.as_str() {
            Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            _ => return Err(Refusal::invalid("encoding_format", "float or base64", value)),
        },
    };
    let dimensions = args.integer("dimensions", 1, MAX_DIMENSIONS.into())?.map(|n| n as u32);
    let inputs = match args.get("input") {
        None => return Err(Refusal::missing_argument("input", "input is required: the texts to embed")),
        Some(_) => read_embed_inputs(&args)?,
    };
    let embed = EmbedArgs {
        choice: params::model(&args)?,
        spec: EmbedSpec { inputs, dimensions },
        timeout_ms: args.integer("timeout_ms", 1, MAX_TIMEOUT_MS)?,
        keep_alive: KeepAlive::read(&args)?,
    };
    Ok((embed, encoding))
}

fn object(embedding: &Embedding, encoding: Encoding) -> Value {
    let data = embedding.vectors.iter().enumerate().map(|(index, vector)| {
        let vector = match encoding {
            Encoding::Float => json!(vector),
            Encoding::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                json!(STANDARD.encode(bytes))
            }
        };
        json!({"object": "embedding", "index": index, "embedding": vector})
    });
    json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": embedding.model_id,
        "usage": {"prompt_tokens": embedding.prompt_tokens, "total_tokens": embedding.prompt_tokens},
    })
}

#[cfg(test)]
mod tests {
    use mms_protocol::generate::EmbedInput;

    use super::*;

    fn asked(extra: Value) -> Result<(EmbedArgs, Encoding), Refusal> {
        let mut request = json!({"model": "m", "input": "once"});
        for (key, value) in extra.as_object().unwrap() {
            request[key] = value.clone();
        }
        read(request.as_object().unwrap())
    }

    #[test]
    fn texts_and_tokens_one_and_many() {
        let text = |text: &str| EmbedInput::Text(text.to_owned());
        for (input, expected) in [
            (json!("once"), vec![text("once")]),
            (json!(["once", "upon"]), vec![text("once"), text("upon")]),
            (json!([5, 6]), vec![EmbedInput::Tokens(vec![5, 6])]),
            (json!([[5], [6]]), vec![EmbedInput::Tokens(vec![5]), EmbedInput::Tokens(vec![6])]),
        ] {
            assert_eq!(asked(json!({"input": input})).unwrap().0.spec.inputs, expected);
        }
        let (args, encoding) = asked(json!({"encoding_format": "base64", "dimensions": 3, "user": "u"})).unwrap();
        assert_eq!((args.spec.dimensions, encoding), (Some(3), Encoding::Base64));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (extra, param) in [
            (json!({"input": null}), "input"),
            (json!({"input": ""}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": ["a", ""]}), "input"),
            (json!({"input": [[]]}), "input"),
            (json!({"input": {"text": "a"}}), "input"),
            (json!({"model": null}), "model"),
            (json!({"encoding_format": "hex"}), "encoding_format"),
            (json!({"dimensions": 0}), "dimensions"),
            (json!({"prompt": "a"}), "prompt"),
        ] {
            let refusal = asked(extra.clone()).err().unwrap_or_else(|| panic!("accepted: {extra}"));
            assert_eq!(refusal.details["argument"], param, "{extra}");
        }
    }

    #[test]
    fn both_encodings_hold_the_same_numbers() {
        let embedding =
            Embedding { model_id: "m".to_owned(), vectors: vec![vec![0.5, -1.0]], prompt_tokens: 2, total_ms: 1.0 };
        assert_eq!(object(&embedding, Encoding::Float)["data"][0]["embedding"], json!([0.5, -1.0]));
        let coded = object(&embedding, Encoding::Base64);
        assert_eq!(coded["data"][0]["embedding"], "AAAAPwAAgL8=");
        assert_eq!(coded["usage"]["total_tokens"], 2);
    }
}
