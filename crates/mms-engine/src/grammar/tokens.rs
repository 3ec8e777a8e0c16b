//! The tokens of a vocabulary as a grammar sees them: their bytes in a tree, so that all that may come next are found by following
//! common beginnings once.

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;

use super::matcher::{Matcher, Place};
use super::{GrammarError, TEXTLESS, TOKEN_MARK, token_bytes};

/// The texts of all tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// By token; empty: it has no text.
    texts: Vec<Box<[u8]>>,
    /// Depth first; children are in the order of their bytes.
    tree: Vec<Node>,
    /// Tokens in the order of their texts.
    sorted: Vec<u32>,
    /// They end an answer.
    ends: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    byte: u8,
    /// The root's children have 0.
    depth: u32,
    /// The node after all below this one.
    skip: u32,
    /// Tokens in `sorted` that end here.
    tokens: (u32, u32),
}

/// A set of tokens.
#[derive(Debug, Default)]
pub(crate) struct TokenSet(Vec<u64>);

impl TokenSet {
    pub(crate) fn contains(&self, token: LlamaToken) -> bool {
        let Ok(token) = usize::try_from(token.0) else { return false };
        self.0.get(token / 64).is_some_and(|word| word >> (token % 64) & 1 == 1)
    }

    fn clear(&mut self, size: usize) {
        self.0.clear();
        self.0.resize(size.div_ceil(64), 0);
    }

    fn insert(&mut self, token: usize) {
        self.0[token / 64] |= 1 << (token % 64);
    }
}

impl Tokens {
    /// Control tokens have no text but those of `shown`.
    pub(crate) fn of(vocabulary: &LlamaVocab<'_>, shown: &[LlamaToken]) -> Self {
        let text = |token| vocabulary.token_to_piece(token, shown.contains(&token), None).into_boxed_slice();
        let is_end: Vec<bool> = vocabulary.tokens().map(|token| vocabulary.is_eog(token)).collect();
        Self::new(vocabulary.tokens().map(text).collect(), is_end)
    }

    pub(super) fn new(mut texts: Vec<Box<[u8]>>, ends: Vec<bool>) -> Self {
        for (text, _) in texts.iter_mut().zip(&ends).filter(|(_, ends)| **ends) {
            *text = Box::default();
        }
        let mut sorted: Vec<u32> =
            (0..super::index(texts.len())).filter(|&id| !texts[id as usize].is_empty()).collect();
        sorted.sort_by(|&a, &b| texts[a as usize].cmp(&texts[b as usize]).then(a.cmp(&b)));
        let mut tree: Vec<Node> = Vec::new();
        let mut path: Vec<usize> = Vec::new();
        let mut before: &[u8] = &[];
        for (place, &id) in sorted.iter().enumerate() {
            let text = &texts[id as usize];
            let place = super::index(place);
            let common = before.iter().zip(text.iter()).take_while(|(a, b)| a == b).count();
            if common < text.len() {
                for closed in path.drain(common..) {
                    tree[closed].skip = super::index(tree.len());
                }
                for &byte in &text[common..] {
                    path.push(tree.len());
                    let depth = super::index(path.len() - 1);
                    tree.push(Node { byte, depth, skip: 0, tokens: (place, place) });
                }
            }
            if let Some(&last) = path.last() {
                tree[last].tokens.1 = place + 1;
            }
            before = text;
        }
        for closed in path {
            tree[closed].skip = super::index(tree.len());
        }
        Self { texts, tree, sorted, ends }
    }

    /// The token ends an answer.
    pub(crate) fn is_end(&self, token: LlamaToken) -> bool {
        usize::try_from(token.0).ok().and_then(|token| self.ends.get(token)).copied().unwrap_or(false)
    }

    pub(crate) fn text(&self, token: LlamaToken) -> &[u8] {
        usize::try_from(token.0).ok().and_then(|token| self.texts.get(token)).map_or(&[], |text| text)
    }

    /// Where the token leads; [`Place::DEAD`] when it may not come next.
    pub(crate) fn after(&self, token: LlamaToken, matcher: &mut Matcher) -> Result<Place, GrammarError> {
        if self.is_end(token) {
            return Ok(if matcher.may_end() { matcher.here() } else { Place::DEAD });
        }
        if matcher.grammar().tokens.binary_search(&token).is_ok() {
            let named = matcher.after(matcher.here(), &token_bytes(token))?;
            if named != Place::DEAD {
                return Ok(named);
            }
        }
        match self.text(token) {
            [] if matcher.grammar().textless => matcher.after(matcher.here(), &TEXTLESS),
            [] => Ok(Place::DEAD),
            text if text.contains(&TOKEN_MARK) => Ok(Place::DEAD),
            text => matcher.after(matcher.here(), text),
        }
    }

    /// Puts all tokens that may come next into `allowed`.
    pub(crate) fn all_allowed(&self, matcher: &mut Matcher, allowed: &mut TokenSet) -> Result<(), GrammarError> {
        allowed.clear(self.texts.len());
        let mut places = vec![matcher.here()];
        let mut at = 0;
        while let Some(&Node { byte, depth, skip, tokens }) = self.tree.get(at) {
            places.truncate(depth as usize + 1);
            let place = matcher.after(places[depth as usize], &[byte])?;
            if place == Place::DEAD || byte == TOKEN_MARK {
                at = skip as usize;
                continue;
            }
            for &token in &self.sorted[tokens.0 as usize..tokens.1 as usize] {
                allowed.insert(token as usize);
            }
            places.push(place);
            at += 1;
        }
        for token in matcher.grammar().tokens.clone() {
            let is_known = usize::try_from(token.0).is_ok_and(|token| token < self.texts.len());
            if is_known && self.after(token, matcher)? != Place::DEAD {
                allowed.insert(usize::try_from(token.0).unwrap_or(0));
            }
        }
        if matcher.grammar().textless && matcher.after(matcher.here(), &TEXTLESS)? != Place::DEAD {
            let textless = (0..self.texts.len()).filter(|&token| self.texts[token].is_empty() && !self.ends[token]);
            textless.for_each(|token| allowed.insert(token));
        }
        if matcher.may_end() {
            (0..self.ends.len()).filter(|&token| self.ends[token]).for_each(|token| allowed.insert(token));
        }
        Ok(())
    }
}
