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

use crate::constraint::Guard;
use crate::grammar::GrammarError;
use crate::grammar::tokens::TokenSet;

/// llama.cpp reads this seed as "draw one at random".
const RANDOM_SEED: u32 = u32::MAX;

/// The sampling state of one sequence.
#[derive(Debug)]
pub(crate) struct Chooser {
    /// `None`: the likeliest token, nothing else.
    chain: Option<LlamaSampler>,
    /// Not empty: tokens that leave nothing beside them.
    forced: Vec<LlamaToken>,
    guard: Option<Guard>,
}

/// What a [`Chooser`] has before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) model: &'a LlamaModel,
    pub(crate) prompt: &'a [LlamaToken],
    pub(crate) context_length: u32,
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
    /// The grammar leaves none.
    #[error("no token can continue the answer within its grammar or schema (and the logit biases)")]
    Stuck,
    /// The grammar cannot be followed any further.
    #[error("{0}")]
    Grammar(#[from] GrammarError),
}

impl From<ChooseError> for GenerateFailure {
    fn from(error: ChooseError) -> Self {
        match error {
            ChooseError::NoLogits => Self::Engine { message: error.to_string() },
            ChooseError::AllForbidden | ChooseError::Stuck | ChooseError::Grammar(_) => {
                Self::Constraint { message: error.to_string() }
            }
        }
    }
}

/// Memory for the candidates of one choice, shared by all sequences.
#[derive(Debug)]
pub(crate) struct Candidates {
    array: LlamaTokenDataArray,
    allowed: TokenSet,
}

impl Candidates {
    pub(crate) fn new() -> Self {
        Self { array: LlamaTokenDataArray::new(Vec::new(), false), allowed: TokenSet::default() }
    }
}

impl Chooser {
    /// The penalties look at the end of the prompt too, and never further back than the context, since llama.cpp takes memory for
    /// as many tokens as it is told.
    pub(crate) fn new(sampling: &Sampling, guard: Option<Guard>, seen: Seen<'_>) -> Self {
        let Seen { model, prompt, context_length } = seen;
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
            return Self { chain: None, forced, guard };
        }
        let mut chain = LlamaSampler::chain(samplers, true);
        let seen = &prompt[prompt.len().saturating_sub(look_back as usize)..];
        chain.accept_many(seen);
        Self { chain: Some(chain), forced, guard }
    }

    /// Chooses the next token and takes note of it.
    ///
    /// With a grammar the model may choose freely first. What it chooses is nearly always within the grammar; if it is not, it chooses
    /// once more among the tokens that are, which gives each of them the same chance as choosing among them at once.
    pub(crate) fn choose(&mut self, logits: &[f32], candidates: &mut Candidates) -> Result<LlamaToken, ChooseError> {
        let mut token = self.pick(logits, candidates, false);
        if let Some(guard) = &mut self.guard {
            let fits = match token {
                Ok(token) => guard.allows(token)?,
                Err(_) => true,
            };
            if !fits {
                guard.all_allowed(&mut candidates.allowed)?;
                token = self.pick(logits, candidates, true).map_err(|_| ChooseError::Stuck);
            }
        }
        let token = token?;
        if let Some(guard) = &mut self.guard {
            guard.accept(token)?;
        }
        if let Some(chain) = &mut self.chain {
            chain.accept(token);
        }
        Ok(token)
    }

    /// The grammar lets nothing follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_complete)
    }

    /// A token by the sampling settings; `only_allowed`: of those that `candidates` has marked.
    fn pick(
        &mut self,
        logits: &[f32],
        candidates: &mut Candidates,
        only_allowed: bool,
    ) -> Result<LlamaToken, ChooseError> {
        let Candidates { array, allowed } = candidates;
        let forced = &self.forced;
        let is_candidate = |token: LlamaToken| {
            (!only_allowed || allowed.contains(token)) && (forced.is_empty() || forced.contains(&token))
        };
        let Some(chain) = &mut self.chain else {
            return likeliest_of(logits, |token| !only_allowed || allowed.contains(token)).ok_or(ChooseError::NoLogits);
        };
        array.data.clear();
        let all = (0_i32..).zip(logits).map(|(id, &logit)| LlamaTokenData::new(LlamaToken(id), logit, 0.0));
        if only_allowed || !forced.is_empty() {
            array.data.extend(all.filter(|candidate| is_candidate(candidate.id())));
        } else {
            array.data.extend(all);
        }
        if array.data.is_empty() {
            return Err(ChooseError::AllForbidden);
        }
        array.sorted = false;
        array.selected = None;
        array.apply_sampler(chain);
        let chosen = array.selected.and_then(|index| array.data.get(index)).ok_or(ChooseError::NoLogits)?;
        if chosen.logit() == f32::NEG_INFINITY {
            return Err(ChooseError::AllForbidden);
        }
        Ok(chosen.id())
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
    likeliest_of(logits, |_| true)
}

/// The same among those that `may` be chosen.
fn likeliest_of(logits: &[f32], may: impl Fn(LlamaToken) -> bool) -> Option<LlamaToken> {
    let candidates = || (0_i32..).map(LlamaToken).zip(logits.iter().copied()).filter(|(token, _)| may(*token));
    let highest = candidates().map(|(_, logit)| logit).fold(f32::NEG_INFINITY, f32::max);
    candidates().find(|(_, logit)| *logit == highest).map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::{Biases, LlamaToken, likeliest, likeliest_of, seed};

    #[test]
    fn the_likeliest_token() {
        let all = |logits: &[f32]| likeliest(logits).map(|token| token.0);
        assert_eq!(all(&[0.0, 3.0, 3.0, -1.0]), Some(1));
        assert_eq!(all(&[f32::NAN, -2.0]), Some(1));
        assert_eq!(all(&[f32::NAN]), None);
        assert_eq!(all(&[]), None);
        assert_eq!(likeliest_of(&[3.0, 1.0, 2.0], |token| token.0 > 0), Some(LlamaToken(2)));
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
