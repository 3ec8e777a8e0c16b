//! Log probabilities in OpenAI's two shapes: that of chats, and the older one of completions.

use mms_protocol::generate::{Logprob, TokenProb};
use serde_json::{Map, Value, json};

/// As chats have them.
pub(super) fn of_chat(tokens: &[Logprob]) -> Value {
    let content: Vec<Value> = tokens
        .iter()
        .map(|token| {
            let mut entry = entry(&token.chosen);
            entry["top_logprobs"] = token.top.iter().map(self::entry).collect();
            entry
        })
        .collect();
    json!({"content": content, "refusal": null})
}

fn entry(token: &TokenProb) -> Value {
    json!({"token": token.token, "logprob": token.logprob, "bytes": token.bytes})
}

/// As completions have them. `top`: alternatives were asked for. `offset`: characters of the answer so far; moved on.
pub(super) fn of_completion(tokens: &[Logprob], top: bool, offset: &mut usize) -> Value {
    let offsets: Vec<usize> = tokens
        .iter()
        .map(|token| {
            let at = *offset;
            *offset += token.chosen.token.chars().count();
            at
        })
        .collect();
    let alternatives = |token: &Logprob| -> Map<String, Value> {
        token.top.iter().map(|other| (other.token.clone(), json!(other.logprob))).collect()
    };
    json!({
        "tokens": tokens.iter().map(|token| token.chosen.token.as_str()).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.chosen.logprob).collect::<Vec<_>>(),
        "top_logprobs": top.then(|| tokens.iter().map(alternatives).collect::<Vec<_>>()),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<Logprob> {
        let prob = |token: &str, logprob| TokenProb { token: token.to_owned(), bytes: token.into(), logprob };
        vec![
            Logprob { chosen: prob("Hé", -0.5), top: vec![prob("Hé", -0.5), prob("No", -2.0)] },
            Logprob { chosen: prob("llo", -1.0), top: vec![prob("llo", -1.0), prob("y", -1.5)] },
        ]
    }

    #[test]
    fn both_shapes() {
        let chat = of_chat(&tokens());
        assert_eq!(chat["content"][0]["bytes"], json!([72, 195, 169]));
        assert_eq!(chat["content"][1]["top_logprobs"][1], json!({"token": "y", "logprob": -1.5, "bytes": [121]}));
        let mut offset = 3;
        let old = of_completion(&tokens(), true, &mut offset);
        assert_eq!((&old["tokens"], &old["text_offset"]), (&json!(["Hé", "llo"]), &json!([3, 5])));
        assert_eq!((&old["token_logprobs"], offset), (&json!([-0.5, -1.0]), 8));
        assert_eq!(old["top_logprobs"][0], json!({"Hé": -0.5, "No": -2.0}));
        assert_eq!(of_completion(&tokens(), false, &mut offset)["top_logprobs"], Value::Null);
    }
}
