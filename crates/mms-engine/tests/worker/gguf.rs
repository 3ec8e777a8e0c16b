//! Writes small GGUF files: adapters and models with drawn weights.

/// A metadata value.
pub(crate) enum Meta {
    U32(u32),
    F32(f32),
    Text(String),
}

impl From<&str> for Meta {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Meta {
    fn from(number: u32) -> Self {
        Self::U32(number)
    }
}

/// A file in the making; all tensors are 32-bit floats.
#[derive(Default)]
pub(crate) struct Gguf {
    keys: Vec<(String, Meta)>,
    tensors: Vec<(String, Vec<u64>, Vec<f32>)>,
    drawn: u64,
}

const ALIGNMENT: usize = 32;

impl Gguf {
    pub(crate) fn key(mut self, key: &str, value: impl Into<Meta>) -> Self {
        self.keys.push((key.to_owned(), value.into()));
        self
    }

    /// A tensor of numbers between -`size` and `size`, the same in every run.
    pub(crate) fn random(mut self, name: &str, dimensions: &[u64], size: f32) -> Self {
        let count = dimensions.iter().product::<u64>();
        let values = (0..count).map(|_| self.draw() * size).collect();
        self.tensors.push((name.to_owned(), dimensions.to_vec(), values));
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
        for (name, dimensions, values) in &self.tensors {
            string(&mut out, name);
            out.extend(u32::try_from(dimensions.len()).expect("few").to_le_bytes());
            dimensions.iter().for_each(|length| out.extend(length.to_le_bytes()));
            out.extend(0_u32.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += (values.len() * 4).next_multiple_of(ALIGNMENT);
        }
        for (_, _, values) in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
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
            Self::F32(value) => {
                kind(out, 6);
                out.extend(value.to_le_bytes());
            }
            Self::Text(text) => {
                kind(out, 8);
                string(out, text);
            }
        }
    }
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
