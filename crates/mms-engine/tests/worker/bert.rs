//! A small BERT: its file, and the same computed here, number by number, as its paper says. So what the worker gives can be compared
//! with figures that llama.cpp had no part in.

use std::collections::BTreeMap;

use crate::gguf::{Gguf, Meta};

const WIDTH: usize = 16;
const HEADS: usize = 2;
const HIDDEN: usize = 32;
const LAYERS: usize = 2;
/// Positions that it has.
pub(crate) const CONTEXT: usize = 64;
const EPSILON: f64 = 1e-6;

const WORDS: [&str; 14] = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁the", "▁cat", "▁dog", "▁model", "s", "▁reads", "▁a", "▁text",
    "▁sees",
];
pub(crate) const CLS: u32 = 2;
pub(crate) const SEP: u32 = 3;

/// One model.
pub(crate) struct Bert {
    tensors: BTreeMap<String, (Vec<u64>, Vec<f32>)>,
    drawn: u64,
}

impl Bert {
    pub(crate) fn new() -> Self {
        let mut bert = Self { tensors: BTreeMap::new(), drawn: 7 };
        bert.draw("token_embd.weight", &[WIDTH, WORDS.len()], 0.0, 1.0);
        bert.draw("position_embd.weight", &[WIDTH, CONTEXT], 0.0, 0.3);
        bert.draw("token_types.weight", &[WIDTH, 2], 0.0, 0.3);
        bert.norm("token_embd_norm");
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
                bert.draw(&name(&format!("{part}.weight")), &[WIDTH, WIDTH], 0.0, 0.6);
                bert.draw(&name(&format!("{part}.bias")), &[WIDTH], 0.0, 0.2);
            }
            bert.norm(&name("attn_output_norm"));
            bert.draw(&name("ffn_up.weight"), &[WIDTH, HIDDEN], 0.0, 0.6);
            bert.draw(&name("ffn_up.bias"), &[HIDDEN], 0.0, 0.2);
            bert.draw(&name("ffn_down.weight"), &[HIDDEN, WIDTH], 0.0, 0.6);
            bert.draw(&name("ffn_down.bias"), &[WIDTH], 0.0, 0.2);
            bert.norm(&name("layer_output_norm"));
        }
        bert
    }

    fn norm(&mut self, name: &str) {
        self.draw(&format!("{name}.weight"), &[WIDTH], 1.0, 0.3);
        self.draw(&format!("{name}.bias"), &[WIDTH], 0.0, 0.3);
    }

    fn draw(&mut self, name: &str, dimensions: &[usize], middle: f32, size: f32) {
        let mut next = || {
            self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            middle + ((self.drawn >> 40) as f32 / (1_u64 << 23) as f32 - 1.0) * size
        };
        let values = (0..dimensions.iter().product::<usize>()).map(|_| next()).collect();
        self.tensors.insert(name.to_owned(), (dimensions.iter().map(|&n| n as u64).collect(), values));
    }

    /// Its file; `pooling` is the number of the kind.
    pub(crate) fn file(&self, pooling: Option<u32>) -> Gguf {
        let kinds = (0..WORDS.len()).map(|token| if token < 5 { 3 } else { 1 }).collect();
        let mut file = Gguf::default()
            .key("general.architecture", "bert")
            .key("bert.context_length", CONTEXT as u32)
            .key("bert.embedding_length", WIDTH as u32)
            .key("bert.block_count", LAYERS as u32)
            .key("bert.feed_forward_length", HIDDEN as u32)
            .key("bert.attention.head_count", HEADS as u32)
            .key("bert.attention.layer_norm_epsilon", EPSILON as f32)
            .key("bert.attention.causal", false)
            .key("tokenizer.ggml.model", "bert")
            .key("tokenizer.ggml.token_type_count", 2)
            .key("tokenizer.ggml.tokens", Meta::Texts(WORDS.map(str::to_owned).to_vec()))
            .key("tokenizer.ggml.token_type", Meta::I32s(kinds))
            .key("tokenizer.ggml.padding_token_id", 0)
            .key("tokenizer.ggml.unknown_token_id", 1)
            .key("tokenizer.ggml.bos_token_id", CLS)
            .key("tokenizer.ggml.seperator_token_id", SEP)
            .key("tokenizer.ggml.mask_token_id", 4);
        if let Some(pooling) = pooling {
            file = file.key("bert.pooling_type", pooling);
        }
        for (name, (dimensions, values)) in &self.tensors {
            file = file.values(name, dimensions, values);
        }
        file
    }

    /// Tokens of a text of known words, with what belongs around it.
    pub(crate) fn tokens(text: &str) -> Vec<u32> {
        let words = text.split(' ').map(|word| {
            let place = WORDS.iter().position(|known| known.strip_prefix('▁') == Some(word)).expect("a known word");
            u32::try_from(place).expect("few")
        });
        std::iter::once(CLS).chain(words).chain([SEP]).collect()
    }

    /// The last layer's vector of each token.
    pub(crate) fn compute(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let row = |name: &str, index: usize| self.get(name)[index * WIDTH..(index + 1) * WIDTH].to_vec();
        let mut states: Vec<Vec<f64>> = Vec::new();
        for (position, token) in tokens.iter().enumerate() {
            let sum = added(&row("token_embd.weight", *token as usize), &row("position_embd.weight", position));
            states.push(self.normed("token_embd_norm", &added(&sum, &row("token_types.weight", 0))));
        }
        for layer in 0..LAYERS {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let all = |part: &str| states.iter().map(|state| self.linear(&name(part), state)).collect::<Vec<_>>();
            let (queries, keys, values) = (all("attn_q"), all("attn_k"), all("attn_v"));
            let attended = queries.iter().map(|query| attend(query, &keys, &values));
            let states_after: Vec<Vec<f64>> = attended
                .zip(&states)
                .map(|(mixed, state)| {
                    let state = added(&self.linear(&name("attn_output"), &mixed), state);
                    let state = self.normed(&name("attn_output_norm"), &state);
                    let hidden: Vec<f64> = self.linear(&name("ffn_up"), &state).into_iter().map(gelu).collect();
                    let state = added(&self.linear(&name("ffn_down"), &hidden), &state);
                    self.normed(&name("layer_output_norm"), &state)
                })
                .collect();
            states = states_after;
        }
        states
    }

    fn get(&self, name: &str) -> Vec<f64> {
        self.tensors[name].1.iter().map(|value| f64::from(*value)).collect()
    }

    fn linear(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let weights = self.get(&format!("{name}.weight"));
        let rows = weights.chunks(input.len()).map(|row| dot(row, input)).collect::<Vec<_>>();
        added(&rows, &self.get(&format!("{name}.bias")))
    }

    fn normed(&self, name: &str, input: &[f64]) -> Vec<f64> {
        let mean = input.iter().sum::<f64>() / input.len() as f64;
        let spread = input.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / input.len() as f64;
        let scaled: Vec<f64> = input.iter().map(|value| (value - mean) / (spread + EPSILON).sqrt()).collect();
        let weighted: Vec<f64> = scaled.iter().zip(self.get(&format!("{name}.weight"))).map(|(a, b)| a * b).collect();
        added(&weighted, &self.get(&format!("{name}.bias")))
    }
}

fn attend(query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
    let size = WIDTH / HEADS;
    let mut mixed = Vec::new();
    for head in 0..HEADS {
        let part = head * size..(head + 1) * size;
        let scores =
            keys.iter().map(|key| (dot(&query[part.clone()], &key[part.clone()]) / (size as f64).sqrt()).exp());
        let scores: Vec<f64> = scores.collect();
        let total: f64 = scores.iter().sum();
        for column in part {
            mixed.push(scores.iter().zip(values).map(|(score, value)| score / total * value[column]).sum());
        }
    }
    mixed
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn added(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}
