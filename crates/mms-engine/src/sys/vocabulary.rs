//! The kind of a vocabulary. `llama-cpp-2` knows some of them and ends the process on the others.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_sys_2 as ll;

use super::context::model_pointer;

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VocabularyKind {
    /// There are no tokens.
    None,
    /// SentencePiece.
    Spm,
    /// Pairs of bytes.
    Bpe,
    /// Longest known beginnings of words, as BERT has them.
    WordPiece,
    /// Another one.
    Other,
}

/// The kind of the model's vocabulary.
pub(crate) fn vocabulary_kind(model: &LlamaModel) -> VocabularyKind {
    // SAFETY: the pointers are valid while the model is borrowed; both functions only read.
    match unsafe { ll::llama_vocab_type(ll::llama_model_get_vocab(model_pointer(model))) } {
        ll::LLAMA_VOCAB_TYPE_NONE => VocabularyKind::None,
        ll::LLAMA_VOCAB_TYPE_SPM => VocabularyKind::Spm,
        ll::LLAMA_VOCAB_TYPE_BPE => VocabularyKind::Bpe,
        ll::LLAMA_VOCAB_TYPE_WPM => VocabularyKind::WordPiece,
        _ => VocabularyKind::Other,
    }
}
