//! A small BERT with random weights: an embedding model for tests. Its vocabulary (WordPiece) has all of ASCII, so every such text has
//! tokens of its own; its vectors mean nothing.

use std::io::Write;

use anyhow::Result;

use super::blocks::Kind;
use super::header::Header;
use super::{Tensor, finish};

const WIDTH: u32 = 128;
const LAYERS: u32 = 2;
const HIDDEN: u32 = 256;
const HEADS: u32 = 4;
const VOCABULARY: usize = 2048;
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Types of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// The whole file; its length.
pub(super) fn encoder(context: u32, seed: u64, out: &mut impl Write) -> Result<u64> {
    let mut header = Header::default();
    header.text("general.architecture", "bert");
    header.text("general.name", "random-encoder");
    header.text("general.description", "Random weights, for tests. Its vectors mean nothing.");
    header.u32("general.file_type", 7);
    header.u32("general.quantization_version", 2);
    for (key, value) in [
        ("bert.context_length", context),
        ("bert.embedding_length", WIDTH),
        ("bert.block_count", LAYERS),
        ("bert.feed_forward_length", HIDDEN),
        ("bert.attention.head_count", HEADS),
        // The mean.
        ("bert.pooling_type", 1),
        ("tokenizer.ggml.token_type_count", 2),
        ("tokenizer.ggml.padding_token_id", 0),
        ("tokenizer.ggml.unknown_token_id", 1),
        ("tokenizer.ggml.bos_token_id", 2),
        ("tokenizer.ggml.seperator_token_id", 3),
        ("tokenizer.ggml.mask_token_id", 4),
    ] {
        header.u32(key, value);
    }
    header.f32("bert.attention.layer_norm_epsilon", 1e-12);
    header.flag("bert.attention.causal", false);
    header.text("tokenizer.ggml.model", "bert");
    header.texts("tokenizer.ggml.tokens", &vocabulary());
    let kinds = (0..VOCABULARY).map(|token| if token < SPECIAL.len() { CONTROL } else { NORMAL });
    header.i32s("tokenizer.ggml.token_type", &kinds.collect::<Vec<_>>());
    finish(&mut header, &tensors(context.into()), seed, out)
}

/// `▁` begins a word.
fn vocabulary() -> Vec<String> {
    let characters = ('!'..='~').filter(|character| !character.is_ascii_uppercase());
    let pieces = characters.flat_map(|character| [format!("▁{character}"), character.to_string()]);
    let words = (0..).map(|number| format!("▁word{number}"));
    SPECIAL.into_iter().map(str::to_owned).chain(pieces).chain(words).take(VOCABULARY).collect()
}

fn tensors(context: u64) -> Vec<Tensor> {
    let (width, hidden) = (u64::from(WIDTH), u64::from(HIDDEN));
    let matrix = |name: String, columns, rows| Tensor { name, columns, rows, kind: Kind::Q8_0, silent: 0 };
    let norm = |name: &str| {
        let vector =
            |part, silent| Tensor { name: format!("{name}.{part}"), columns: width, rows: 1, kind: Kind::One, silent };
        [vector("weight", 0), vector("bias", 1)]
    };
    let mut all = vec![
        matrix("token_embd.weight".to_owned(), width, VOCABULARY as u64),
        matrix("position_embd.weight".to_owned(), width, context),
        // llama.cpp adds only plain numbers here.
        Tensor { name: "token_types.weight".to_owned(), columns: width, rows: 2, kind: Kind::One, silent: 0 },
    ];
    all.extend(norm("token_embd_norm"));
    for layer in 0..LAYERS {
        for (name, columns, rows) in [
            ("attn_q", width, width),
            ("attn_k", width, width),
            ("attn_v", width, width),
            ("attn_output", width, width),
            ("ffn_up", width, hidden),
            ("ffn_down", hidden, width),
        ] {
            all.push(matrix(format!("blk.{layer}.{name}.weight"), columns, rows));
        }
        for name in ["attn_output_norm", "layer_output_norm"] {
            all.extend(norm(&format!("blk.{layer}.{name}")));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_vocabulary_has_every_token_once() {
        let tokens = vocabulary();
        let once: std::collections::BTreeSet<_> = tokens.iter().collect();
        assert_eq!((tokens.len(), once.len()), (VOCABULARY, VOCABULARY));
        assert!(once.contains(&"▁a".to_owned()) && once.contains(&"~".to_owned()));
    }

    #[test]
    fn the_same_seed_gives_the_same_file() {
        let file = |seed| {
            let mut out = Vec::new();
            let length = encoder(512, seed, &mut out).expect("memory");
            assert_eq!(length, out.len() as u64);
            out
        };
        assert_eq!(file(1), file(1));
        assert_ne!(file(1), file(2));
    }
}
