//! What a kind of task asks of a model. Clients write it in many ways (`text-generation`, `Code Generation`, `chat`); it is read
//! without regard to case, and `-` and spaces count as `_`.
//!
//! | task type | needs the capability | prefers models with |
//! |---|---|---|
//! | `embedding`, `embeddings`, `feature_extraction`, `sentence_similarity`, `semantic_search` | `embedding` | |
//! | `text_generation`, `generation`, `completion`, `text`, `general`, `generate` | `text_generation` | |
//! | `chat`, `conversation`, `conversational`, `dialogue`, `assistant`, `instruct` | `text_generation` | `chat` |
//! | `code_generation`, `code`, `coding`, `code_completion`, `programming` | `text_generation` | `code_generation` |
//! | `reasoning`, `summarization`, `translation`... and words that nobody has listed | `text_generation` | that word |
//! | what is about images or sound, such as `vision` or `speech_to_text` | that word | |
//!
//! What a model is preferred for stands in its `capabilities`: what its header tells, and the `tasks` of its configuration.

/// A capability of models that continue text.
pub(crate) const TEXT_GENERATION: &str = "text_generation";
/// A capability of models that compute vectors.
pub(crate) const EMBEDDING: &str = "embedding";
/// A capability of models with a chat template.
pub(crate) const CHAT: &str = "chat";

/// Words that mean the first of them.
const SAME: [&[&str]; 4] = [
    &[EMBEDDING, "embeddings", "feature_extraction", "sentence_similarity", "semantic_search"],
    &[TEXT_GENERATION, "generation", "completion", "text", "general", "generate"],
    &[CHAT, "conversation", "conversational", "dialogue", "assistant", "instruct"],
    &["code_generation", "code", "coding", "code_completion", "programming"],
];

/// Parts of words for what no text model does.
const NO_TEXT: [&str; 10] =
    ["vision", "image", "video", "audio", "speech", "voice", "transcription", "stt", "tts", "asr"];

/// Kinds of tasks that are known besides those of [`SAME`].
const KNOWN: [&str; 8] = [
    "reasoning",
    "summarization",
    "translation",
    "question_answering",
    "classification",
    "creative_writing",
    "tool_use",
    "planning",
];

/// What is asked of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// The kind, in the word that is used here.
    pub(crate) name: String,
    /// The capability that a model must have.
    pub(crate) needs: String,
    /// The capability that goes before all figures, where a model has it.
    pub(crate) prefers: Option<String>,
    /// Nobody has listed the word.
    pub(crate) unlisted: bool,
}

impl Task {
    /// Reads a kind of task.
    pub(crate) fn of(task_type: &str) -> Self {
        let word = word_of(task_type);
        let name = SAME.iter().find(|same| same.contains(&word.as_str())).map_or(word, |same| same[0].to_owned());
        let about_no_text = name.split('_').any(|part| NO_TEXT.contains(&part));
        let (needs, prefers) = match name.as_str() {
            EMBEDDING | TEXT_GENERATION => (name.clone(), None),
            _ if about_no_text => (name.clone(), None),
            _ => (TEXT_GENERATION.to_owned(), Some(name.clone())),
        };
        let listed = about_no_text || KNOWN.contains(&name.as_str()) || SAME.iter().any(|same| same[0] == name);
        Self { name, needs, prefers, unlisted: !listed }
    }

    /// Continuing a text; a chat, where it is one.
    pub(crate) fn generation(chat: bool) -> Self {
        Self::of(if chat { CHAT } else { TEXT_GENERATION })
    }
}

/// What a kind of task is called here.
pub(crate) fn task_name(task_type: &str) -> String {
    Task::of(task_type).name
}

/// A word as capabilities are written.
pub(crate) fn word_of(text: &str) -> String {
    text.trim().to_lowercase().replace(['-', ' '], "_")
}

#[cfg(test)]
mod tests {
    use super::Task;

    #[test]
    fn clients_words_are_understood() {
        for (said, name, needs, prefers) in [
            ("text-generation", "text_generation", "text_generation", None),
            (" Completion ", "text_generation", "text_generation", None),
            ("chat", "chat", "text_generation", Some("chat")),
            ("Code Generation", "code_generation", "text_generation", Some("code_generation")),
            ("coding", "code_generation", "text_generation", Some("code_generation")),
            ("reasoning", "reasoning", "text_generation", Some("reasoning")),
            ("feature-extraction", "embedding", "embedding", None),
            ("speech-to-text", "speech_to_text", "speech_to_text", None),
            ("image_captioning", "image_captioning", "image_captioning", None),
        ] {
            let task = Task::of(said);
            assert_eq!(
                (task.name.as_str(), task.needs.as_str(), task.prefers.as_deref(), task.unlisted),
                (name, needs, prefers, false)
            );
        }
    }

    #[test]
    fn a_word_that_nobody_listed_is_a_text_task_for_specialists_first() {
        let task = Task::of("Haiku-Writing");
        assert_eq!(
            (task.needs.as_str(), task.prefers.as_deref(), task.unlisted),
            ("text_generation", Some("haiku_writing"), true)
        );
    }
}
