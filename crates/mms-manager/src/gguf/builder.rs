//! Makes GGUF files for tests, right and wrong ones.

/// A metadata value.
#[derive(Debug, Clone)]
pub(crate) enum Meta {
    U8(u8),
    U16(u16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(u8),
    Text(Vec<u8>),
    U64(u64),
    /// Item type and items, which must have that type.
    List(u32, Vec<Meta>),
    /// Type and bytes as they stand.
    Raw(u32, Vec<u8>),
}

impl From<&str> for Meta {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<u32> for Meta {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl Meta {
    fn number(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::U16(_) => 2,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::List(..) => 9,
            Self::U64(_) => 10,
            Self::Raw(number, _) => *number,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(value) | Self::Bool(value) => out.push(*value),
            Self::U16(value) => out.extend(value.to_le_bytes()),
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::I32(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::U64(value) => out.extend(value.to_le_bytes()),
            Self::Text(text) => string(out, text),
            Self::List(number, items) => {
                out.extend(number.to_le_bytes());
                out.extend((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.write(out));
            }
            Self::Raw(_, bytes) => out.extend(bytes),
        }
    }
}

/// One tensor; its offset is worked out when it is `None`.
#[derive(Debug, Clone)]
pub(crate) struct TensorSpec {
    pub(crate) name: String,
    pub(crate) dimensions: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) offset: Option<u64>,
    /// Bytes of its data in the file.
    pub(crate) bytes: u64,
}

/// A file in the making.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    pub(crate) version: u32,
    pub(crate) keys: Vec<(String, Meta)>,
    pub(crate) tensors: Vec<TensorSpec>,
    pub(crate) alignment: u64,
    /// Said instead of the true numbers.
    pub(crate) key_count: Option<u64>,
    pub(crate) tensor_count: Option<u64>,
}

impl Builder {
    pub(crate) fn empty() -> Self {
        Self { version: 3, keys: Vec::new(), tensors: Vec::new(), alignment: 32, key_count: None, tensor_count: None }
    }

    /// A small Llama: 2 layers, 4 heads of 16, 2 of them for keys and values, 3 tokens.
    pub(crate) fn llama() -> Self {
        let tokens = ["<s>", "a", "b"].map(Meta::from).to_vec();
        Self::empty()
            .key("general.architecture", "llama")
            .key("general.name", "Small One")
            .key("general.file_type", 15)
            .key("llama.context_length", 512)
            .key("llama.block_count", 2)
            .key("llama.embedding_length", 64)
            .key("llama.feed_forward_length", 128)
            .key("llama.attention.head_count", 4)
            .key("llama.attention.head_count_kv", 2)
            .key("llama.rope.freq_base", Meta::F32(1e4))
            .key("tokenizer.ggml.tokens", Meta::List(8, tokens))
            .key("tokenizer.ggml.scores", Meta::List(6, vec![Meta::F32(0.5); 3]))
            .key("tokenizer.chat_template", "{{ messages[0].content }}")
            .tensor("token_embd.weight", &[64, 3], 0, 768)
            .tensor("blk.0.ffn_up.weight", &[256, 4], 12, 576)
            .tensor("output_norm.weight", &[64], 0, 256)
    }

    pub(crate) fn key(mut self, key: &str, value: impl Into<Meta>) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self.keys.push((key.to_owned(), value.into()));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(other, _)| other != key);
        self
    }

    pub(crate) fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, bytes: u64) -> Self {
        let dimensions = dimensions.to_vec();
        self.tensors.push(TensorSpec { name: name.to_owned(), dimensions, kind, offset: None, bytes });
        self
    }

    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            string(&mut out, key.as_bytes());
            out.extend(value.number().to_le_bytes());
            value.write(&mut out);
        }
        let mut next = 0_u64;
        for tensor in &self.tensors {
            string(&mut out, tensor.name.as_bytes());
            out.extend((tensor.dimensions.len() as u32).to_le_bytes());
            tensor.dimensions.iter().for_each(|length| out.extend(length.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(next).to_le_bytes());
            next = (next + tensor.bytes).next_multiple_of(self.alignment);
        }
        out
    }

    /// The whole file, with zeros for weights.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut out = self.header();
        let start = (out.len() as u64).next_multiple_of(self.alignment);
        let mut end = 0_u64;
        for tensor in &self.tensors {
            end = end.next_multiple_of(self.alignment) + tensor.bytes;
        }
        out.resize((start + end) as usize, 0);
        out
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}
