//! Writes small GGUF files: adapters and models with drawn weights.

/// A metadata value.
pub(crate) enum Meta {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

impl From<&str> for Meta {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Meta {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u32> for Meta {
    fn from(number: u32) -> Self {
        Self::U32(number)
    }
}

impl From<f32> for Meta {
    fn from(number: f32) -> Self {
        Self::F32(number)
    }
}

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    F32,
    /// Blocks of 32 with 4 bits each.
    Q4_0,
}

struct Tensor {
    name: String,
    dimensions: Vec<u64>,
    kind: Kind,
    bytes: Vec<u8>,
}

/// A file in the making.
#[derive(Default)]
pub(crate) struct Gguf {
    keys: Vec<(String, Meta)>,
    tensors: Vec<Tensor>,
    drawn: u64,
}

const ALIGNMENT: usize = 32;

/// The bytes, and three more.
const BYTE_TOKENS: u64 = 259;

impl Gguf {
    pub(crate) fn key(mut self, key: &str, value: impl Into<Meta>) -> Self {
        self.keys.push((key.to_owned(), value.into()));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    /// A tensor of numbers between -`size` and `size`, the same in every run.
    pub(crate) fn random(self, name: &str, dimensions: &[u64], size: f32) -> Self {
        self.tensor(name, dimensions, size, Kind::F32)
    }

    /// Gives it a vocabulary of [`BYTE_TOKENS`] tokens: each byte is one.
    fn knows_bytes(self) -> Self {
        let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
        let tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().chain(bytes).collect();
        let kinds = (0..tokens.len()).map(|token| [2, 3, 3].get(token).copied().unwrap_or(6)).collect();
        self.key("tokenizer.ggml.model", "llama")
            .key("tokenizer.ggml.scores", Meta::F32s(vec![0.0; tokens.len()]))
            .key("tokenizer.ggml.token_type", Meta::I32s(kinds))
            .key("tokenizer.ggml.tokens", Meta::Texts(tokens))
    }

    fn norm(self, name: &str, width: u64) -> Self {
        self.constant(&format!("{name}.weight"), &[width], 1.0).random(&format!("{name}.bias"), &[width], 0.1)
    }

    /// A tensor with the same number in all places.
    fn constant(self, name: &str, dimensions: &[u64], value: f32) -> Self {
        let count = usize::try_from(dimensions.iter().product::<u64>()).expect("small");
        self.values(name, dimensions, &vec![value; count])
    }

    /// A tensor of these numbers.
    pub(crate) fn values(mut self, name: &str, dimensions: &[u64], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.push(Tensor { name: name.to_owned(), dimensions: dimensions.to_vec(), kind: Kind::F32, bytes });
        self
    }

    fn tensor(mut self, name: &str, dimensions: &[u64], size: f32, kind: Kind) -> Self {
        let count = dimensions.iter().product::<u64>();
        let mut bytes = Vec::new();
        match kind {
            Kind::F32 => (0..count).for_each(|_| bytes.extend((self.draw() * size).to_le_bytes())),
            Kind::Q4_0 => (0..count / 32).for_each(|_| {
                // Its scale is 2 to the power of -10.
                bytes.extend(0x1400_u16.to_le_bytes());
                (0..8).for_each(|_| bytes.extend(((self.draw() * 32_767.0) as i16).to_le_bytes()));
            }),
        }
        self.tensors.push(Tensor { name: name.to_owned(), dimensions: dimensions.to_vec(), kind, bytes });
        self
    }

    fn draw(&mut self) -> f32 {
        self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.drawn >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            string(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0;
        for Tensor { name, dimensions, kind, bytes } in &self.tensors {
            string(&mut out, name);
            out.extend(u32::try_from(dimensions.len()).expect("few").to_le_bytes());
            dimensions.iter().for_each(|length| out.extend(length.to_le_bytes()));
            let kind = match kind {
                Kind::F32 => 0_u32,
                Kind::Q4_0 => 2,
            };
            out.extend(kind.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += bytes.len().next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.bytes);
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }
}

impl Meta {
    fn write(&self, out: &mut Vec<u8>) {
        let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
        match self {
            Self::U32(value) => {
                kind(out, 4);
                out.extend(value.to_le_bytes());
            }
            Self::Flag(value) => {
                kind(out, 7);
                out.push(u8::from(*value));
            }
            Self::F32(value) => {
                kind(out, 6);
                out.extend(value.to_le_bytes());
            }
            Self::Text(text) => {
                kind(out, 8);
                string(out, text);
            }
            Self::Texts(texts) => {
                list(out, 8, texts.len());
                texts.iter().for_each(|text| string(out, text));
            }
            Self::F32s(values) => {
                list(out, 6, values.len());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            }
            Self::I32s(values) => {
                list(out, 5, values.len());
                values.iter().for_each(|value| out.extend(value.to_le_bytes()));
            }
        }
    }
}

fn list(out: &mut Vec<u8>, kind: u32, length: usize) {
    out.extend(9_u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((length as u64).to_le_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// An adapter of rank 2 for two tensors of the built-in model.
pub(crate) fn adapter(architecture: &str) -> Gguf {
    Gguf::default()
        .key("general.type", "adapter")
        .key("general.architecture", architecture)
        .key("adapter.type", "lora")
        .key("adapter.lora.alpha", Meta::F32(2.0))
        .random("blk.0.attn_q.weight.lora_a", &[256, 2], 0.5)
        .random("blk.0.attn_q.weight.lora_b", &[2, 256], 0.5)
        .random("blk.3.ffn_down.weight.lora_a", &[512, 2], 0.5)
        .random("blk.3.ffn_down.weight.lora_b", &[2, 256], 0.5)
}

/// A Llama of four layers, most of it in `hidden` columns, that knows bytes and what it says means nothing.
pub(crate) fn random_model(kind: Kind, hidden: u64) -> Gguf {
    const WIDTH: u64 = 256;
    let mut model = Gguf::default()
        .key("general.architecture", "llama")
        .key("llama.context_length", 2048)
        .key("llama.embedding_length", 256)
        .key("llama.block_count", 4)
        .key("llama.feed_forward_length", u32::try_from(hidden).expect("small"))
        .key("llama.attention.head_count", 4)
        .key("llama.attention.head_count_kv", 4)
        .key("llama.rope.dimension_count", 64)
        .key("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .knows_bytes()
        .random("token_embd.weight", &[WIDTH, BYTE_TOKENS], 0.05)
        .random("output.weight", &[WIDTH, BYTE_TOKENS], 0.05)
        .random("output_norm.weight", &[WIDTH], 1.0);
    for layer in 0..4 {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        model = model.random(&name("attn_norm"), &[WIDTH], 1.0).random(&name("ffn_norm"), &[WIDTH], 1.0);
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            model = model.tensor(&name(part), &[WIDTH, WIDTH], 0.05, kind);
        }
        for (part, columns, rows) in
            [("ffn_gate", WIDTH, hidden), ("ffn_up", WIDTH, hidden), ("ffn_down", hidden, WIDTH)]
        {
            model = model.tensor(&name(part), &[columns, rows], 0.05, kind);
        }
    }
    model
}

/// A Mamba of two layers: its memory is one state for all that was said, which cannot go back.
pub(crate) fn recurrent_model() -> Gguf {
    const WIDTH: u64 = 64;
    const INNER: u64 = 128;
    const STATE: u64 = 16;
    const RANK: u64 = 4;
    let mut model = Gguf::default()
        .key("general.architecture", "mamba")
        .key("mamba.context_length", 2048)
        .key("mamba.embedding_length", 64)
        .key("mamba.block_count", 2)
        .key("mamba.feed_forward_length", 0)
        .key("mamba.attention.head_count", 0)
        .key("mamba.attention.layer_norm_rms_epsilon", 1e-5)
        .key("mamba.ssm.conv_kernel", 4)
        .key("mamba.ssm.inner_size", 128)
        .key("mamba.ssm.state_size", 16)
        .key("mamba.ssm.time_step_rank", 4)
        .knows_bytes()
        .random("token_embd.weight", &[WIDTH, BYTE_TOKENS], 1.0)
        .random("output.weight", &[WIDTH, BYTE_TOKENS], 1.0)
        .constant("output_norm.weight", &[WIDTH], 1.0);
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.{part}");
        model = model
            .constant(&name("attn_norm.weight"), &[WIDTH], 1.0)
            .random(&name("ssm_in.weight"), &[WIDTH, 2 * INNER], 0.3)
            .random(&name("ssm_conv1d.weight"), &[4, INNER], 0.5)
            .random(&name("ssm_conv1d.bias"), &[INNER], 0.1)
            .random(&name("ssm_x.weight"), &[INNER, RANK + 2 * STATE], 0.3)
            .random(&name("ssm_dt.weight"), &[RANK, INNER], 0.3)
            .random(&name("ssm_dt.bias"), &[INNER], 0.1)
            .constant(&name("ssm_a"), &[STATE, INNER], -0.05)
            .random(&name("ssm_d"), &[INNER], 1.0)
            .random(&name("ssm_out.weight"), &[INNER, WIDTH], 0.3);
    }
    model
}

/// A Gemma 2 of two layers, one of which sees only the last `window` tokens.
pub(crate) fn windowed_model(window: u32) -> Gguf {
    const WIDTH: u64 = 64;
    const HIDDEN: u64 = 128;
    let mut model = Gguf::default()
        .key("general.architecture", "gemma2")
        .key("gemma2.context_length", 2048)
        .key("gemma2.embedding_length", 64)
        .key("gemma2.block_count", 2)
        .key("gemma2.feed_forward_length", 128)
        .key("gemma2.attention.head_count", 4)
        .key("gemma2.attention.head_count_kv", 4)
        .key("gemma2.attention.key_length", 16)
        .key("gemma2.attention.value_length", 16)
        .key("gemma2.attention.layer_norm_rms_epsilon", 1e-5)
        .key("gemma2.attention.sliding_window", window)
        .knows_bytes()
        .random("token_embd.weight", &[WIDTH, BYTE_TOKENS], 0.1)
        .constant("output_norm.weight", &[WIDTH], 1.0);
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        for part in ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"] {
            model = model.constant(&name(part), &[WIDTH], 1.0);
        }
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            model = model.random(&name(part), &[WIDTH, WIDTH], 0.3);
        }
        for (part, columns, rows) in
            [("ffn_gate", WIDTH, HIDDEN), ("ffn_up", WIDTH, HIDDEN), ("ffn_down", HIDDEN, WIDTH)]
        {
            model = model.random(&name(part), &[columns, rows], 0.3);
        }
    }
    model
}

/// A BERT of two layers with made-up words, the letters, and `positions` positions.
pub(crate) fn encoder_model(vocabulary: u64, positions: u64) -> Gguf {
    const WIDTH: u64 = 128;
    let number = |value: u64| u32::try_from(value).expect("small");
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).into_iter();
    let letters = ('a'..='z').flat_map(|letter| [format!("▁{letter}"), letter.to_string()]);
    let words = (0..vocabulary - 57).map(|word| format!("▁word{word}"));
    let tokens: Vec<String> = special.chain(letters).chain(words).collect();
    let kinds = (0..tokens.len()).map(|token| if token < 5 { 3 } else { 1 }).collect();
    let mut model = Gguf::default()
        .key("general.architecture", "bert")
        .key("bert.context_length", number(positions))
        .key("bert.embedding_length", number(WIDTH))
        .key("bert.block_count", 2)
        .key("bert.feed_forward_length", number(2 * WIDTH))
        .key("bert.attention.head_count", 4)
        .key("bert.attention.layer_norm_epsilon", 1e-6)
        .key("bert.attention.causal", false)
        .key("bert.pooling_type", 1)
        .key("tokenizer.ggml.model", "bert")
        .key("tokenizer.ggml.token_type_count", 1)
        .key("tokenizer.ggml.tokens", Meta::Texts(tokens))
        .key("tokenizer.ggml.token_type", Meta::I32s(kinds))
        .key("tokenizer.ggml.padding_token_id", 0)
        .key("tokenizer.ggml.unknown_token_id", 1)
        .key("tokenizer.ggml.bos_token_id", 2)
        .key("tokenizer.ggml.seperator_token_id", 3)
        .key("tokenizer.ggml.mask_token_id", 4)
        .random("token_embd.weight", &[WIDTH, vocabulary], 1.0)
        .random("position_embd.weight", &[WIDTH, positions], 0.3)
        .random("token_types.weight", &[WIDTH, 1], 0.3)
        .norm("token_embd_norm", WIDTH);
    for layer in 0..2 {
        let name = |part: &str| format!("blk.{layer}.{part}");
        model = model.norm(&name("attn_output_norm"), WIDTH).norm(&name("layer_output_norm"), WIDTH);
        for (part, columns, rows) in [
            ("attn_q", WIDTH, WIDTH),
            ("attn_k", WIDTH, WIDTH),
            ("attn_v", WIDTH, WIDTH),
            ("attn_output", WIDTH, WIDTH),
            ("ffn_up", WIDTH, 2 * WIDTH),
            ("ffn_down", 2 * WIDTH, WIDTH),
        ] {
            let (weight, bias) = (name(&format!("{part}.weight")), name(&format!("{part}.bias")));
            model = model.random(&weight, &[columns, rows], 0.15).random(&bias, &[rows], 0.1);
        }
    }
    model
}
