//! What a model can do: continue text, give embeddings, or both; and how the vectors of a text's tokens become one.
//!
//! A model in which each token sees only those before it continues text. Its texts are computed in pieces beside answers, token by
//! token, and pooled here. In an encoder each token sees all of its text, so a text is computed in one piece, and llama.cpp pools: some
//! encoders have layers behind their pooling.

use llama_cpp_2::model::LlamaModel;
use mms_protocol::engine::ENCODERS;
use mms_protocol::worker::Pooling;

use crate::sys::continues_text;

/// What a model can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ability {
    /// It continues text.
    Decoder {
        /// How its embeddings are pooled, or why it gives none.
        pooling: Result<Pooling, String>,
    },
    /// It only gives embeddings.
    Encoder {
        /// How they are pooled; never `Auto`.
        pooling: Pooling,
    },
}

impl Ability {
    /// By the model's header and the setting; the error says why it can do nothing for us.
    pub(crate) fn of(model: &LlamaModel, setting: Pooling) -> Result<Self, String> {
        if !continues_text(model) {
            return Err(
                "the model neither generates text token by token nor is it an encoder with embeddings (it is an \
                        encoder-decoder or a diffusion model)"
                    .to_owned(),
            );
        }
        let value = |key: &str| model.meta_val_str(key).ok();
        let architecture = value("general.architecture").unwrap_or_default();
        let is_causal = value(&format!("{architecture}.attention.causal")).as_deref() != Some("false");
        let pooling = pooling(setting, value(&format!("{architecture}.pooling_type")).as_deref());
        if is_causal && !ENCODERS.contains(&architecture.as_str()) {
            return Ok(Self::Decoder { pooling });
        }
        pooling
            .map(|pooling| Self::Encoder { pooling })
            .map_err(|why| format!("the model cannot generate text, and {why}"))
    }

    /// How an encoder's texts are pooled; `None`: it is none.
    pub(crate) fn encodes(&self) -> Option<Pooling> {
        match self {
            Self::Encoder { pooling } => Some(*pooling),
            Self::Decoder { .. } => None,
        }
    }

    /// How embeddings are pooled, or why there are none.
    pub(crate) fn pooling(&self) -> Result<Pooling, &str> {
        match self {
            Self::Encoder { pooling } => Ok(*pooling),
            Self::Decoder { pooling } => pooling.as_ref().copied().map_err(String::as_str),
        }
    }
}

/// `header` is the number that llama.cpp knows a kind of pooling by. The mean where it says none.
fn pooling(setting: Pooling, header: Option<&str>) -> Result<Pooling, String> {
    match (setting, header) {
        (Pooling::Auto, None | Some("0" | "1")) => Ok(Pooling::Mean),
        (Pooling::Auto, Some("2")) => Ok(Pooling::Cls),
        (Pooling::Auto, Some("3")) => Ok(Pooling::Last),
        (Pooling::Auto, Some("4")) => {
            Err("its file is for ranking (pooling_type rank): it scores pairs of texts and has no embeddings; set pooling to have \
                 embeddings of its tokens all the same"
                .to_owned())
        }
        (Pooling::Auto, Some(other)) => {
            Err(format!("its file names a pooling_type of {other}, which is unknown; set pooling to mean, cls or last"))
        }
        (set @ (Pooling::Mean | Pooling::Cls | Pooling::Last), _) => Ok(set),
    }
}

#[cfg(test)]
mod tests {
    use mms_protocol::worker::Pooling;

    use super::pooling;

    #[test]
    fn the_setting_goes_before_the_header() {
        for (setting, header, expect) in [
            (Pooling::Auto, None, Some(Pooling::Mean)),
            (Pooling::Auto, Some("0"), Some(Pooling::Mean)),
            (Pooling::Auto, Some("2"), Some(Pooling::Cls)),
            (Pooling::Auto, Some("3"), Some(Pooling::Last)),
            (Pooling::Auto, Some("4"), None),
            (Pooling::Auto, Some("9"), None),
            (Pooling::Last, Some("1"), Some(Pooling::Last)),
            (Pooling::Mean, Some("4"), Some(Pooling::Mean)),
        ] {
            assert_eq!(pooling(setting, header).ok(), expect, "{setting:?} {header:?}");
        }
    }
}
