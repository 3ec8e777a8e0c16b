//! Guesses in a step: where they are tried, and what becomes of them. Each token is sampled from the logits at its own place, one after
//! the other, so an answer is what it would be without guesses; a guess only has its KV and its logits ready earlier.

use mms_protocol::worker::Speculation;

use super::Engine;
use crate::plan::Share;
use crate::slot::Work;
use crate::speculate::guess;

impl Engine {
    /// Guesses for the answers of the next step. None while a prompt is computed: its tokens use the step as well, and surely.
    pub(super) fn propose(&mut self) {
        let mut answers = 0;
        let mut prompts = 0;
        for slot in &mut self.slots {
            slot.guesses.clear();
            match slot.work {
                Work::Idle | Work::Embedding(_) => {}
                Work::Prefilling(_) => prompts += 1,
                Work::Decoding { .. } => answers += 1,
            }
        }
        let measured = match self.speculation {
            Speculation::Off => return,
            Speculation::Auto if self.gauge.wants_plain(answers) => return,
            Speculation::Auto => true,
            Speculation::PromptLookup => false,
        };
        if prompts > 0 {
            return;
        }
        let context_length = self.loaded.info.context_length as usize;
        let mut spare = self.loaded.guesses.min(self.loaded.batch.saturating_sub(answers));
        for slot in &mut self.slots {
            let Work::Decoding { job, next } = &mut slot.work else { continue };
            let room = context_length.saturating_sub(slot.cached.len() + 1);
            let wanted = job.limit.saturating_sub(job.generated + 1);
            let most = (self.loaded.settings.draft_tokens.clamp(1, 64) as usize).min(spare).min(room).min(wanted);
            guess(&slot.cached, *next, most, &mut slot.guesses);
            if measured && !slot.guesses.is_empty() {
                slot.guesses.truncate(self.gauge.worthwhile(answers, &mut job.luck, most));
            }
            spare -= slot.guesses.len();
        }
    }

    /// Takes the next tokens of an answer whose share begins at the batch's token `first`: one, and one more for each right guess.
    pub(super) fn check_guesses(&mut self, share: Share, first: usize) {
        let index = share.slot;
        self.slots[index].computed(share);
        let guesses = std::mem::take(&mut self.slots[index].guesses);
        let drafted = guesses.len().min(share.tokens - 1);
        if let Work::Decoding { job, .. } = &mut self.slots[index].work {
            job.drafted += drafted;
        }
        self.sample(index, first);
        let mut accepted = 0;
        for (offset, guess) in guesses.iter().take(drafted).enumerate() {
            let slot = &mut self.slots[index];
            match &mut slot.work {
                Work::Decoding { job, next } if next == guess => job.accepted += 1,
                Work::Decoding { .. } | Work::Prefilling(_) | Work::Embedding(_) | Work::Idle => break,
            }
            slot.cached.push(*guess);
            accepted += 1;
            self.sample(index, first + offset + 1);
        }
        if let Work::Decoding { job, .. } = &mut self.slots[index].work {
            job.luck.record(drafted, accepted);
        }
        if accepted < drafted {
            let held = self.slots[index].cached.len();
            self.loaded.context.forget(index, held);
        }
        self.slots[index].guesses = guesses;
    }
}
