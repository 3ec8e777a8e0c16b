//! Choosing the next token of one sequence with llama.cpp's samplers, in llama.cpp's order: penalties, top-k, top-p, min-p,
//! temperature, and a seeded draw. Temperature 0 takes the likeliest token after the penalties.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use mms_protocol::generate::Sampling;

/// llama.cpp reads this seed as "draw one at random".
const RANDOM_SEED: u32 = u32::MAX;

/// The sampling state of one sequence.
#[derive(Debug)]
pub(crate) struct Chooser {
    /// `None`: the likeliest token, nothing else.
    chain: Option<LlamaSampler>,
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
        let suppressed = vocabulary.suppress_tokens();
        if !suppressed.is_empty() {
            let biases: Vec<_> =
                suppressed.iter().map(|&token| LlamaLogitBias::new(token, f32::NEG_INFINITY)).collect();
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
        } else if !samplers.is_empty() {
            samplers.push(LlamaSampler::greedy());
        }
        if samplers.is_empty() {
            return Self { chain: None };
        }
        let mut chain = LlamaSampler::chain(samplers, true);
        let seen = &prompt[prompt.len().saturating_sub(look_back as usize)..];
        chain.accept_many(seen);
        Self { chain: Some(chain) }
    }

    /// `None` when no token has a usable logit.
    pub(crate) fn choose(&mut self, logits: &[f32], candidates: &mut Candidates) -> Option<LlamaToken> {
        let Some(chain) = &mut self.chain else { return likeliest(logits) };
        let array = &mut candidates.0;
        array.data.clear();
        array.data.extend((0_i32..).zip(logits).map(|(id, &logit)| LlamaTokenData::new(LlamaToken(id), logit, 0.0)));
        array.sorted = false;
        array.selected = None;
        array.apply_sampler(chain);
        let token = array.selected_token()?;
        chain.accept(token);
        Some(token)
    }
}

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
fn likeliest(logits: &[f32]) -> Option<LlamaToken> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let index = logits.iter().position(|&logit| logit == highest)?;
    i32::try_from(index).ok().map(LlamaToken)
}

#[cfg(test)]
mod tests {
    use super::{likeliest, seed};

    #[test]
    fn the_likeliest_token() {
        assert_eq!(likeliest(&[0.0, 3.0, 3.0, -1.0]).map(|token| token.0), Some(1));
        assert_eq!(likeliest(&[f32::NAN, -2.0]).map(|token| token.0), Some(1));
        assert_eq!(likeliest(&[f32::NAN]), None);
        assert_eq!(likeliest(&[]), None);
    }

    #[test]
    fn a_given_seed_is_never_random() {
        assert_eq!(seed(Some(7)), 7);
        assert_ne!(seed(Some(u32::MAX)), u32::MAX);
        assert_eq!(seed(None), u32::MAX);
    }
}
