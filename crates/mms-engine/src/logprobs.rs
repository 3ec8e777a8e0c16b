//! How likely tokens were as the model saw it: the logarithm of the softmax of its logits, before any sampling setting.

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use mms_protocol::generate::{Logprob, TokenProb};

/// The chosen token with the `most` likeliest ones. A logit that is no number counts as impossible.
pub(crate) fn logprob(logits: &[f32], chosen: LlamaToken, most: usize, vocabulary: &LlamaVocab<'_>) -> Logprob {
    let total = log_sum(logits);
    let of = |index: usize| {
        let token = LlamaToken(i32::try_from(index).unwrap_or(i32::MAX));
        let bytes = vocabulary.token_to_piece(token, true, None);
        let logit = logits.get(index).copied().filter(|logit| !logit.is_nan()).unwrap_or(f32::NEG_INFINITY);
        TokenProb { token: String::from_utf8_lossy(&bytes).into_owned(), bytes, logprob: bounded(logit, total) }
    };
    let top = likeliest(logits, most).into_iter().map(of).collect();
    Logprob { chosen: of(usize::try_from(chosen.0).unwrap_or(usize::MAX)), top }
}

/// JSON has no infinity; this is less likely than anything that a model can be asked for.
const LEAST: f64 = -9999.0;

fn bounded(logit: f32, total: f64) -> f32 {
    let value = f64::from(logit) - total;
    if value.is_nan() { LEAST as f32 } else { value.clamp(LEAST, 0.0) as f32 }
}

/// The logarithm of the sum of the exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !highest.is_finite() {
        return f64::from(highest);
    }
    let sum: f64 = logits.iter().filter(|logit| !logit.is_nan()).map(|logit| f64::from((logit - highest).exp())).sum();
    f64::from(highest) + sum.ln()
}

/// Places of the `most` highest, best first; of equal ones the first.
fn likeliest(logits: &[f32], most: usize) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::with_capacity(most + 1);
    for (index, &logit) in logits.iter().enumerate() {
        let is_better = |&other: &usize| logit > logits[other];
        if logit.is_nan() || (best.len() == most && !best.last().is_some_and(is_better)) {
            continue;
        }
        let place = best.partition_point(|&other| logits[other] >= logit);
        best.insert(place, index);
        best.truncate(most);
    }
    best
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{bounded, likeliest, log_sum};

    #[test]
    fn the_likeliest_come_first() {
        assert_eq!(likeliest(&[0.0, 3.0, f32::NAN, 3.0, -1.0], 3), [1, 3, 0]);
        assert_eq!(likeliest(&[1.0, 2.0], 5), [1, 0]);
        assert_eq!(likeliest(&[1.0, 2.0], 0), Vec::<usize>::new());
    }

    #[test]
    fn what_cannot_be_is_still_a_number() {
        assert_eq!(bounded(f32::NEG_INFINITY, 0.0), -9999.0);
        assert_eq!(bounded(1.0, log_sum(&[])), 0.0);
        assert_eq!(bounded(f32::NEG_INFINITY, log_sum(&[f32::NAN])), -9999.0);
    }

    proptest! {
        #[test]
        fn probabilities_sum_up_to_one(logits in proptest::collection::vec(-80.0_f32..80.0, 1..50)) {
            let total = log_sum(&logits);
            let sum: f64 = logits.iter().map(|&logit| f64::from(bounded(logit, total)).exp()).sum();
            prop_assert!((sum - 1.0).abs() < 1e-3, "{}", sum);
        }
    }
}
