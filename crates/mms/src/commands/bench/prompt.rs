//! Prompts of about a wanted number of tokens, without knowing the tokenizer: the counts that the server reports tell how many tokens a word
//! is. Each begins with a number of its own, so that no prompt shares a beginning with another.

/// Common words of most vocabularies.
const WORDS: [&str; 24] = [
    "the", "river", "was", "long", "and", "house", "stood", "near", "water", "people", "came", "from", "every", "side",
    "to", "see", "light", "over", "green", "hill", "when", "day", "had", "gone",
];
/// Longest prompt, words.
const MOST_WORDS: usize = 1 << 20;

/// Makes prompts.
#[derive(Debug)]
pub(super) struct Prompts {
    wanted: u32,
    words: usize,
    made: usize,
    start: u64,
}

impl Prompts {
    pub(super) fn new(wanted: u32) -> Self {
        // Two runs against one server must not meet each other's prompts in its cache either.
        let start = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as u64 % 1_000_000_007);
        Self { wanted, words: (wanted as usize).clamp(1, MOST_WORDS), made: 0, start }
    }

    pub(super) fn next(&mut self) -> String {
        self.made += 1;
        let number = self.start.wrapping_add(self.made as u64 * 7919) % 1_000_000_007;
        let mut text = format!("{number}");
        for index in 1..self.words {
            text.push(' ');
            text.push_str(WORDS[(index * 5 + self.made * 7 + index / WORDS.len()) % WORDS.len()]);
        }
        text
    }

    /// The last prompt had this many tokens, as the server says; the next ones are shorter or longer accordingly.
    pub(super) fn learn(&mut self, tokens: Option<u32>) {
        let Some(tokens) = tokens.filter(|tokens| *tokens > 0) else { return };
        let words = self.words as f64 * f64::from(self.wanted) / f64::from(tokens);
        self.words = (words.round() as usize).clamp(1, MOST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use super::Prompts;

    #[test]
    fn no_two_begin_alike_and_lengths_follow_the_counts() {
        let mut prompts = Prompts::new(100);
        let (first, second) = (prompts.next(), prompts.next());
        assert_eq!(first.split(' ').count(), 100);
        assert_ne!(first.split(' ').next(), second.split(' ').next());
        prompts.learn(Some(200));
        assert_eq!(prompts.next().split(' ').count(), 50);
        prompts.learn(None);
        prompts.learn(Some(0));
        assert_eq!(prompts.next().split(' ').count(), 50);
    }
}
