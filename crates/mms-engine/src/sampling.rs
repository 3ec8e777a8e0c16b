//! Choosing the next token of one sequence with llama.cpp's samplers, in llama.cpp's order: biases, penalties, top-k, top-p, min-p,
//! temperature, and a seeded draw. Temperature 0 takes the likeliest token after the penalties.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use mms_protocol::generate::Sampling;
use mms_protocol::worker::GenerateFailure;

/// llama.cpp reads this seed as "draw one at random".
const RANDOM_SEED: u32 = u32::MAX;

/// The sampling state of one sequence.
#[derive(Debug)]
pub(crate) struct Chooser {
    /// `None`: the likeliest token, nothing else.
    chain: Option<LlamaSampler>,
    /// Not empty: tokens that leave nothing beside them.
    forced: Vec<LlamaToken>,
}

/// Why there is no next token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChooseError {
    /// Of no token, or none of them is a number.
    #[error("the model gave no usable logits")]
    NoLogits,
    /// Biases leave no token.
    #[error("the logit biases forbid every token")]
    AllForbidden,
}

impl From<ChooseError> for GenerateFailure {
    fn from(error: ChooseError) -> Self {
        match error {
            ChooseError::NoLogits => Self::Engine { message: error.to_string() },
            ChooseError::AllForbidden => Self::Constraint { message: error.to_string() },
        }
    }
}

/// Memory for the candidates of one choice, shared by all sequences.
#[derive(Debug)]
pub(crate) struct Candidates(LlamaTokenDataArray);

impl Candidates {
    pub(crate) fn new() -> Self {
        Self(LlamaTokenDataArray::new(Vec::new(), false))
    }
}

impl Chooser {
    /// The penalties look at the end of the prompt too, and never further back than the context, since llama.cpp takes memory for
    /// as many tokens as it is told.
    pub(crate) fn new(sampling: &Sampling, model: &LlamaModel, prompt: &[LlamaToken], context_length: u32) -> Self {
        let mut samplers = Vec::new();
        let vocabulary = model.vocab();
        let Biases { added, forced } = Biases::new(&sampling.logit_bias);
        let suppressed = vocabulary.suppress_tokens().iter().map(|&token| (token, f32::NEG_INFINITY));
        let biases: Vec<_> =
            added.into_iter().chain(suppressed).map(|(id, bias)| LlamaLogitBias::new(id, bias)).collect();
        if !biases.is_empty() {
            samplers.push(LlamaSampler::logit_bias(model.n_vocab(), &biases));
        }
        let look_back = if penalizes(sampling) { sampling.repeat_last_n.min(context_length) } else { 0 };
        if look_back > 0 {
            samplers.push(LlamaSampler::penalties(
                model.n_vocab(),
                i32::try_from(look_back).unwrap_or(i32::MAX),
                sampling.repeat_penalty,
                sampling.frequency_penalty,
                sampling.presence_penalty,
            ));
        }
        if sampling.temperature > 0.0 {
            if sampling.top_k > 0 {
                samplers.push(LlamaSampler::top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)));
            }
            if sampling.top_p < 1.0 {
                samplers.push(LlamaSampler::top_p(sampling.top_p, 1));
            }
            if sampling.min_p > 0.0 {
                samplers.push(LlamaSampler::min_p(sampling.min_p, 1));
            }
            samplers.push(LlamaSampler::temp(sampling.temperature));
            samplers.push(LlamaSampler::dist(seed(sampling.seed)));
        } else if !samplers.is_empty() || !forced.is_empty() {
            samplers.push(LlamaSampler::greedy());
        }
        if samplers.is_empty() {
            return Self { chain: None, forced };
        }
        let mut chain = LlamaSampler::chain(samplers, true);
        let seen = &prompt[prompt.len().saturating_sub(look_back as usize)..];
        chain.accept_many(seen);
        Self { chain: Some(chain), forced }
    }

    /// Chooses the next token and takes note of it.
    pub(crate) fn choose(&mut self, logits: &[f32], candidates: &mut Candidates) -> Result<LlamaToken, ChooseError> {
        let Some(chain) = &mut self.chain else { return likeliest(logits).ok_or(ChooseError::NoLogits) };
        let array = &mut candidates.0;
        array.data.clear();
        let candidate = |(id, &logit): (i32, &f32)| LlamaTokenData::new(LlamaToken(id), logit, 0.0);
        let all = (0_i32..).zip(logits);
        if self.forced.is_empty() {
            array.data.extend(all.map(candidate));
        } else {
            array.data.extend(all.filter(|(id, _)| self.forced.contains(&LlamaToken(*id))).map(candidate));
        }
        array.sorted = false;
        array.selected = None;
        array.apply_sampler(chain);
        let chosen = array.selected.and_then(|index| array.data.get(index)).ok_or(ChooseError::NoLogits)?;
        if chosen.logit() == f32::NEG_INFINITY {
            return Err(ChooseError::AllForbidden);
        }
        let token = chosen.id();
        chain.accept(token);
        Ok(token)
    }
}

/// The meaning of [`Sampling::logit_bias`].
struct Biases {
    /// What is added to logits.
    added: Vec<(LlamaToken, f32)>,
    /// Nothing but these.
    forced: Vec<LlamaToken>,
}

impl Biases {
    fn new(biases: &[(u32, f32)]) -> Self {
        let token = |id: u32| LlamaToken(i32::try_from(id).unwrap_or(i32::MAX));
        let forced = biases.iter().filter(|(_, bias)| *bias >= FORCES).map(|&(id, _)| token(id)).collect();
        let bias = |bias: f32| if bias <= FORBIDS { f32::NEG_INFINITY } else { bias };
        let added = biases.iter().filter(|(_, bias)| *bias < FORCES).map(|&(id, by)| (token(id), bias(by))).collect();
        Self { added, forced }
    }
}

/// From these biases on a token has no alternative, or is none.
const FORCES: f32 = 100.0;
const FORBIDS: f32 = -100.0;

/// A given seed always means itself, also the one that llama.cpp reads as "random".
fn seed(seed: Option<u32>) -> u32 {
    match seed {
        None => RANDOM_SEED,
        Some(RANDOM_SEED) => RANDOM_SEED - 1,
        Some(seed) => seed,
    }
}

fn penalizes(sampling: &Sampling) -> bool {
    sampling.repeat_penalty != 1.0 || sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0
}

/// The first of the highest logits, as llama.cpp's greedy sampler takes it; not-a-number never wins.
pub(crate) fn likeliest(logits: &[f32]) -> Option<LlamaToken> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let index = logits.iter().position(|&logit| logit == highest)?;
    i32::try_from(index).ok().map(LlamaToken)
}

#[cfg(test)]
mod tests {
    use super::{Biases, LlamaToken, likeliest, seed};

    #[test]
    fn the_likeliest_token() {
        assert_eq!(likeliest(&[0.0, 3.0, 3.0, -1.0]).map(|token| token.0), Some(1));
        assert_eq!(likeliest(&[f32::NAN, -2.0]).map(|token| token.0), Some(1));
        assert_eq!(likeliest(&[f32::NAN]), None);
        assert_eq!(likeliest(&[]), None);
    }

    #[test]
    fn biases() {
        let Biases { added, forced } = Biases::new(&[(1, 2.5), (2, -100.0), (3, 100.0), (4, -99.0)]);
        let expect = [(1, 2.5), (2, f32::NEG_INFINITY), (4, -99.0)].map(|(id, bias)| (LlamaToken(id), bias));
        assert_eq!((added.as_slice(), forced), (&expect[..], vec![LlamaToken(3)]));
    }

    #[test]
    fn a_given_seed_is_never_random() {
        assert_eq!(seed(Some(7)), 7);
        assert_ne!(seed(Some(u32::MAX)), u32::MAX);
        assert_eq!(seed(None), u32::MAX);
    }
}
