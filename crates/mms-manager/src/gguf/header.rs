//! What a header says about a model, with the few keys that matter here given names.

use mms_protocol::engine::ENCODERS;

use super::GgufError;
use super::metadata::Metadata;
use super::tensors::Tensors;
use super::types;

/// `pooling_type` of a file for ranking.
const RANK: u32 = 4;

/// A figure that is the same for all layers, or one for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PerLayer {
    /// The same everywhere.
    All(u32),
    /// One for each layer.
    Each(Vec<u32>),
}

impl PerLayer {
    /// The largest figure.
    pub fn max(&self) -> u32 {
        match self {
            Self::All(value) => *value,
            Self::Each(values) => values.iter().copied().max().unwrap_or(0),
        }
    }
}

/// Which part of a split model a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// From 0.
    pub no: u32,
    /// Parts in all.
    pub count: u32,
}

/// The header of one file, or of all parts of a split model together. `None`: the file does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// `general.architecture`, such as `llama`. Later parts of a split model have none.
    pub architecture: Option<String>,
    /// `general.type`: `model`, `mmproj`, `adapter`...
    pub kind: Option<String>,
    /// `general.name`.
    pub name: Option<String>,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Tensors.
    pub tensor_count: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Such as `Q4_K_M`: from `general.file_type`, else the tensor type that takes the most bytes.
    pub quantization: String,
    /// Context the model was trained with, tokens.
    pub context_length: Option<u32>,
    /// Layers.
    pub block_count: Option<u32>,
    /// Width of the hidden state.
    pub embedding_length: Option<u32>,
    /// Width of the feed-forward layers.
    pub feed_forward_length: Option<PerLayer>,
    /// Attention heads.
    pub head_count: Option<PerLayer>,
    /// Heads that keys and values have; with grouped attention fewer than `head_count`.
    pub head_count_kv: Option<PerLayer>,
    /// Width of a key of one head.
    pub key_length: Option<u32>,
    /// Width of a value of one head.
    pub value_length: Option<u32>,
    /// Tokens that a layer with sliding-window attention looks back.
    pub sliding_window: Option<u32>,
    /// Entries of the vocabulary.
    pub vocab_size: Option<u64>,
    /// The model's own chat template (Jinja).
    pub chat_template: Option<String>,
    /// How token vectors become one; 0: not at all. Embedding models have one.
    pub pooling_type: Option<u32>,
    /// Whether each token sees only those before it; embedding models say `false`.
    pub causal_attention: Option<bool>,
    /// Set in the parts of a split model.
    pub split: Option<Split>,
}

impl Header {
    pub(super) fn assemble(
        version: u32,
        file_bytes: u64,
        metadata: Metadata,
        tensors: Tensors,
    ) -> Result<Self, GgufError> {
        if tensors.count > 0 && tensors.file_end > file_bytes {
            return Err(GgufError::TensorsTruncated { needs: tensors.file_end, has: file_bytes });
        }
        let said = match metadata.u32("general.file_type")? {
            Some(file_type) => types::file_type_name(file_type),
            None => None,
        };
        let quantization = said.or(tensors.dominant_type).unwrap_or("unknown").to_owned();
        let split_count = metadata.u32("split.count")?.filter(|&count| count > 1);
        let split = split_count.map(|count| Ok(Split { no: metadata.u32("split.no")?.unwrap_or(0), count }));
        Ok(Self {
            version,
            kind: metadata.text("general.type"),
            name: metadata.text("general.name"),
            parameters: tensors.elements,
            tensor_count: tensors.count,
            tensor_bytes: tensors.bytes,
            file_bytes,
            quantization,
            context_length: metadata.arch_u32("context_length")?,
            block_count: metadata.arch_u32("block_count")?,
            embedding_length: metadata.arch_u32("embedding_length")?,
            feed_forward_length: metadata.per_layer("feed_forward_length")?,
            head_count: metadata.per_layer("attention.head_count")?,
            head_count_kv: metadata.per_layer("attention.head_count_kv")?,
            key_length: metadata.arch_u32("attention.key_length")?,
            value_length: metadata.arch_u32("attention.value_length")?,
            sliding_window: metadata.arch_u32("attention.sliding_window")?,
            vocab_size: metadata.vocab_size()?,
            chat_template: metadata.text("tokenizer.chat_template"),
            pooling_type: metadata.arch_u32("pooling_type")?,
            causal_attention: metadata.arch_bool("attention.causal")?,
            split: split.transpose()?,
            architecture: metadata.architecture(),
        })
    }

    /// Computes a text in one piece and cannot continue it.
    pub fn is_encoder(&self) -> bool {
        let architecture = self.architecture.as_deref().unwrap_or_default();
        self.causal_attention == Some(false) || ENCODERS.contains(&architecture)
    }

    /// Scores pairs of texts.
    pub fn is_ranking(&self) -> bool {
        self.pooling_type == Some(RANK)
    }

    /// Makes vectors instead of text.
    pub fn is_embedding(&self) -> bool {
        !self.is_ranking() && (self.is_encoder() || self.pooling_type.is_some_and(|pooling| pooling != 0))
    }

    /// Says of itself that it is something else than a language model: a vision projector, an adapter, a calibration file.
    pub fn is_companion(&self) -> Option<&'static str> {
        match (self.kind.as_deref(), self.architecture.as_deref()) {
            (Some("mmproj"), _) | (_, Some("clip")) => Some("a vision or audio projector"),
            (Some("adapter"), _) => Some("a LoRA or control adapter"),
            (Some("imatrix"), _) => Some("an importance matrix"),
            (_, Some("controlvector")) => Some("a control vector"),
            (Some(_) | None, Some(_) | None) => None,
        }
    }

    /// This header, which must be the first part's, with the tensors of the other parts added.
    pub fn with_parts<'a>(mut self, others: impl IntoIterator<Item = &'a Header>) -> Self {
        for other in others {
            self.parameters = self.parameters.saturating_add(other.parameters);
            self.tensor_count = self.tensor_count.saturating_add(other.tensor_count);
            self.tensor_bytes = self.tensor_bytes.saturating_add(other.tensor_bytes);
            self.file_bytes = self.file_bytes.saturating_add(other.file_bytes);
        }
        self
    }
}
