//! From a request's prompt to tokens.
//!
//! Special tokens: a raw prompt is tokenized as llama.cpp's own tools do it, control tokens included, since whoever writes raw
//! prompts writes templates by hand. In a chat only the template may write control tokens; see [`crate::special`]. The
//! beginning-of-sequence token is put in front when the model wants it and the prompt does not already begin with it. No
//! end-of-sequence token is ever appended: a prompt is there to be continued.
//!
//! A text whose embedding is wanted is only text: nothing in it becomes a control token. The vocabulary puts around it what it puts
//! around texts, such as `[CLS]` and `[SEP]`. Given tokens stay as they are.
//!
//! A prompt that is too long for the context is refused here, one of very many bytes without counting its tokens: in the vocabularies
//! of nearly all models (BPE and SPM) no byte but white space is lost, and no token stands for more bytes than the longest of them.

use std::sync::{Arc, OnceLock};

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;
use mms_protocol::generate::{ChatMessage, EmbedInput, Prompt, Spoken, Tool};
use mms_protocol::worker::GenerateFailure;

use crate::chat::{self, Chat, Message};
use crate::grammar::tokens::Tokens;
use crate::slot::count;
use crate::special::{ControlTokens, Part, Replaced};
use crate::sys::{VocabularyKind, vocabulary_kind};
use crate::template::{ChatTemplate, PLAIN_STOP};
use crate::tools::Syntax;

/// Turns prompts into tokens for one model.
#[derive(Debug)]
pub(crate) struct Prompter {
    vocabulary: LlamaVocab<'static>,
    control_tokens: ControlTokens,
    /// A chat gets the message when the template is broken; raw prompts still work.
    chat: Result<Chat, String>,
    context_length: u32,
    kind: VocabularyKind,
    /// Bytes that one token stands for at most; `None`: not known of this kind of vocabulary.
    longest_token: Option<usize>,
    /// Made when the first answer is to be kept in shape.
    token_texts: OnceLock<Arc<Tokens>>,
    /// Made when the first answer may call tools.
    call_texts: OnceLock<CallTexts>,
}

/// The vocabulary for answers in which tools may be called.
#[derive(Debug, Clone)]
pub(crate) struct CallTexts {
    /// Control tokens that calls are written with. They have their text there.
    pub(crate) shown: Arc<[LlamaToken]>,
    pub(crate) texts: Arc<Tokens>,
}

impl Prompter {
    /// `chat_template` replaces the model's own.
    pub(crate) fn new(model: &'static LlamaModel, chat_template: Option<String>, context_length: u32) -> Self {
        let vocabulary = model.vocab();
        let source = chat_template.or_else(|| {
            let own = model.chat_template(None).ok()?;
            Some(own.as_c_str().to_string_lossy().into_owned())
        });
        let (bos, eos) = (text_of(&vocabulary, vocabulary.bos()), text_of(&vocabulary, vocabulary.eos()));
        let template = source.filter(|source| !source.trim().is_empty());
        let template = template.map(|source| ChatTemplate::new(source, bos, eos)).transpose();
        if let Err(message) = &template {
            tracing::warn!(%message, "the chat template cannot be parsed; only raw prompts will work");
        }
        let chat = template.map(Chat::new);
        let control_tokens = ControlTokens::new(control_tokens(&vocabulary).map(|token| text_of(&vocabulary, token)));
        // Vocabularies spell some bytes with two, so their spelling is at least as long as what it stands for.
        let longest = || vocabulary.tokens().map(|token| text_of(&vocabulary, token).len()).max().unwrap_or(0).max(1);
        let kind = vocabulary_kind(model);
        let loses_nothing = matches!(kind, VocabularyKind::Bpe | VocabularyKind::Spm);
        let longest_token = loses_nothing.then(longest);
        Self {
            vocabulary,
            control_tokens,
            chat,
            context_length,
            kind,
            longest_token,
            token_texts: OnceLock::new(),
            call_texts: OnceLock::new(),
        }
    }

    /// The texts of all tokens, as grammars need them.
    pub(crate) fn token_texts(&self) -> Arc<Tokens> {
        Arc::clone(self.token_texts.get_or_init(|| Arc::new(Tokens::of(&self.vocabulary, &[]))))
    }

    /// The texts of all tokens with those that calls in this form are written with.
    pub(crate) fn call_texts(&self, syntax: &Syntax) -> CallTexts {
        let make = || {
            let is_shown = |token: &LlamaToken| syntax.mentions(&text_of(&self.vocabulary, *token));
            let shown: Arc<[LlamaToken]> = control_tokens(&self.vocabulary).filter(is_shown).collect();
            let texts =
                if shown.is_empty() { self.token_texts() } else { Arc::new(Tokens::of(&self.vocabulary, &shown)) };
            CallTexts { shown, texts }
        };
        self.call_texts.get_or_init(make).clone()
    }

    /// How chats are shown to the model.
    pub(crate) fn chat(&self) -> Result<&Chat, GenerateFailure> {
        self.chat.as_ref().map_err(|message| GenerateFailure::Template { message: message.clone() })
    }

    /// The token that `text` is, if it is a single one.
    pub(crate) fn token_named(&self, text: &str) -> Option<LlamaToken> {
        let mut tokens = Vec::new();
        self.vocabulary.tokenize_into(text.as_bytes(), &mut tokens, false, true);
        if let [token] = tokens[..] { Some(token) } else { None }
    }

    /// Refuses token ids that the model does not have.
    pub(crate) fn check_tokens(&self, ids: impl IntoIterator<Item = u32>) -> Result<(), GenerateFailure> {
        let size = u32::try_from(self.vocabulary.n_tokens()).unwrap_or(0);
        match ids.into_iter().find(|&id| id >= size) {
            None => Ok(()),
            Some(id) => {
                let message =
                    format!("logit_bias names token {id}, but the model's tokens are 0 to {}", size.saturating_sub(1));
                Err(GenerateFailure::Constraint { message })
            }
        }
    }

    /// The tokens of a prompt: at least one, and less than the context holds. A chat is told of `offered`, and has what was `spoken` as
    /// it was generated.
    pub(crate) fn tokens(
        &self,
        prompt: &Prompt,
        offered: &[Tool],
        spoken: &[Spoken],
    ) -> Result<Vec<LlamaToken>, GenerateFailure> {
        let mut tokens = Vec::new();
        match prompt {
            Prompt::Raw(text) => {
                self.check_bytes([text.as_str()], self.most_prompt_tokens())?;
                self.vocabulary.tokenize_into(text.as_bytes(), &mut tokens, false, true);
            }
            Prompt::Tokens(ids) => {
                for &id in ids {
                    tokens.push(self.own_token(id)?);
                }
                return self.checked(tokens);
            }
            Prompt::Chat(messages) if messages.is_empty() => {}
            Prompt::Chat(messages) => self.chat_tokens(messages, offered, spoken, &mut tokens)?,
        }
        let bos = self.vocabulary.bos();
        if self.vocabulary.should_add_bos() && bos.0 >= 0 && !tokens.is_empty() && tokens.first() != Some(&bos) {
            tokens.insert(0, bos);
        }
        self.checked(tokens)
    }

    /// Tokens of one sequence.
    pub(crate) fn context_length(&self) -> u32 {
        self.context_length
    }

    /// How many tokens the texts of a message have, about: what the template makes of them is not known.
    pub(crate) fn about(&self, message: &ChatMessage) -> usize {
        let mut tokens = Vec::new();
        for text in std::iter::once(&message.content).chain(message.tool_calls.iter().map(|call| &call.arguments)) {
            self.vocabulary.tokenize_into(text.as_bytes(), &mut tokens, false, false);
        }
        tokens.len()
    }

    /// The tokens of an input for an embedding: at least one, and no more than the context holds.
    pub(crate) fn text_tokens(&self, input: &EmbedInput) -> Result<Vec<LlamaToken>, GenerateFailure> {
        let tokens = match input {
            EmbedInput::Tokens(ids) => ids.iter().map(|&id| self.own_token(id)).collect::<Result<_, _>>()?,
            EmbedInput::Text(text) => {
                self.surrounds().map_err(|message| GenerateFailure::Unsupported { message })?;
                self.check_bytes([text.as_str()], self.context_length as usize)?;
                let mut tokens = Vec::new();
                self.vocabulary.tokenize_into(text.as_bytes(), &mut tokens, true, false);
                tokens
            }
        };
        checked(tokens, self.context_length as usize).map_err(|tokens| self.refused(tokens))
    }

    /// Whether the vocabulary has the tokens that it puts around texts; llama.cpp ends the process where it has not.
    pub(crate) fn surrounds(&self) -> Result<(), String> {
        let vocabulary = &self.vocabulary;
        let is_there = |token: LlamaToken| (0..vocabulary.n_tokens()).contains(&token.0);
        let is_word_piece = self.kind == VocabularyKind::WordPiece;
        let missing = if (is_word_piece || vocabulary.should_add_bos()) && !is_there(vocabulary.bos()) {
            "begins with"
        } else if is_word_piece && !is_there(vocabulary.sep())
            || vocabulary.should_add_eos() && !is_there(vocabulary.eos())
        {
            "ends with"
        } else {
            return Ok(());
        };
        Err(format!("its vocabulary lacks the token that each text {missing}"))
    }

    fn own_token(&self, id: u32) -> Result<LlamaToken, GenerateFailure> {
        let size = self.vocabulary.n_tokens();
        i32::try_from(id).ok().filter(|&id| id < size).map(LlamaToken).ok_or_else(|| GenerateFailure::Unsupported {
            message: format!("the prompt has the token {id}, the vocabulary ends before {size}"),
        })
    }

    /// Refuses a prompt without tokens, and one that leaves no room for a token of the answer.
    fn checked(&self, tokens: Vec<LlamaToken>) -> Result<Vec<LlamaToken>, GenerateFailure> {
        checked(tokens, self.most_prompt_tokens()).map_err(|tokens| self.refused(tokens))
    }

    /// A token of the answer needs room as well.
    fn most_prompt_tokens(&self) -> usize {
        (self.context_length as usize).saturating_sub(1)
    }

    fn refused(&self, tokens: usize) -> GenerateFailure {
        if tokens == 0 { GenerateFailure::EmptyPrompt } else { self.exceeded(tokens, false) }
    }

    /// Refuses what has so many bytes that its tokens need not be counted.
    fn check_bytes<'a>(&self, texts: impl IntoIterator<Item = &'a str>, most: usize) -> Result<(), GenerateFailure> {
        let Some(longest) = self.longest_token else { return Ok(()) };
        let is_white = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
        let bytes: usize = texts.into_iter().map(|text| text.bytes().filter(|byte| !is_white(byte)).count()).sum();
        let least = bytes.div_ceil(longest);
        if least > most { Err(self.exceeded(least, true)) } else { Ok(()) }
    }

    fn exceeded(&self, tokens: usize, at_least: bool) -> GenerateFailure {
        GenerateFailure::ContextExceeded { prompt_tokens: count(tokens), at_least, context_length: self.context_length }
    }

    /// A stop string that belongs to the form of the prompt.
    pub(crate) fn implied_stop(&self, prompt: &Prompt) -> Option<String> {
        match (prompt, &self.chat) {
            (Prompt::Chat(_), Ok(chat)) if chat.is_plain() => Some(PLAIN_STOP.to_owned()),
            (Prompt::Chat(_) | Prompt::Raw(_) | Prompt::Tokens(_), _) => None,
        }
    }

    fn chat_tokens(
        &self,
        messages: &[ChatMessage],
        offered: &[Tool],
        spoken: &[Spoken],
        tokens: &mut Vec<LlamaToken>,
    ) -> Result<(), GenerateFailure> {
        let mut marked: Vec<_> = spoken.iter().filter_map(|spoken| self.worth_marking(messages, spoken)).collect();
        if !marked.is_empty() && self.rendered_tokens(messages, offered, &marked, tokens)? {
            return Ok(());
        }
        // Mostly it is the space before an answer that templates have a will of their own about.
        let all = marked.len();
        marked.retain(|(place, _)| !messages[*place].content.starts_with(char::is_whitespace));
        if (1..all).contains(&marked.len()) && self.rendered_tokens(messages, offered, &marked, tokens)? {
            return Ok(());
        }
        self.rendered_tokens(messages, offered, &[], tokens).map(drop)
    }

    /// The place and the tokens of an answer that its text would not give, or that templates trim.
    fn worth_marking(&self, messages: &[ChatMessage], spoken: &Spoken) -> Option<(usize, Vec<LlamaToken>)> {
        let place = spoken.message as usize;
        let text = &messages.get(place)?.content;
        let tokens: Vec<LlamaToken> = spoken.tokens.iter().map(|&id| self.own_token(id).ok()).collect::<Option<_>>()?;
        let mut bytes = Vec::with_capacity(text.len());
        tokens.iter().for_each(|&token| self.vocabulary.token_to_piece_into(token, &mut bytes, false, None));
        let mut usual = Vec::new();
        self.vocabulary.tokenize_into(text.as_bytes(), &mut usual, false, false);
        (bytes == text.as_bytes() && (usual != tokens || text.trim() != text)).then_some((place, tokens))
    }

    /// False: a marked answer is not shown as it was generated, and no tokens were added.
    fn rendered_tokens(
        &self,
        messages: &[ChatMessage],
        offered: &[Tool],
        marked: &[(usize, Vec<LlamaToken>)],
        tokens: &mut Vec<LlamaToken>,
    ) -> Result<bool, GenerateFailure> {
        let mut replaced = Replaced::default();
        let mut hide = |text: &str| self.control_tokens.hide(text, &mut replaced).into_owned();
        let mut messages: Vec<Message> = messages.iter().map(|message| Message::new(message, &mut hide)).collect();
        let offered: Vec<_> = offered.iter().map(|tool| chat::tool(tool, &mut hide)).collect();
        for (place, tokens) in marked {
            messages[*place].mark(tokens.clone(), &mut replaced);
        }
        let rendered = self.chat()?.render(messages, &offered);
        let rendered = rendered.map_err(|message| GenerateFailure::Template { message })?;
        let Some(parts) = replaced.split(&rendered).filter(|parts| self.are_apart(parts)) else { return Ok(false) };
        let texts = parts.iter().filter_map(|part| match *part {
            Part::Template(text) | Part::Plain(text) => Some(text),
            Part::Spoken(_) => None,
        });
        self.check_bytes(texts, self.most_prompt_tokens())?;
        for part in parts {
            match part {
                Part::Template(text) => self.vocabulary.tokenize_into(text.as_bytes(), tokens, false, true),
                Part::Plain(text) => self.vocabulary.tokenize_into(text.as_bytes(), tokens, false, false),
                Part::Spoken(spoken) => tokens.extend_from_slice(spoken),
            }
        }
        Ok(true)
    }

    /// What follows marked answers gets the same tokens as without them: some vocabularies put a space before each text.
    fn are_apart(&self, parts: &[Part<'_>]) -> bool {
        let is_apart = |pair: &[Part<'_>]| match pair {
            [Part::Spoken(_), Part::Template(text)] => self.control_tokens.begins(text),
            [Part::Spoken(_), Part::Plain(_) | Part::Spoken(_)] => false,
            _ => true,
        };
        self.kind == VocabularyKind::Bpe || parts.windows(2).all(is_apart)
    }
}

/// The error is how many there are.
fn checked(tokens: Vec<LlamaToken>, most: usize) -> Result<Vec<LlamaToken>, usize> {
    if tokens.is_empty() || tokens.len() > most { Err(tokens.len()) } else { Ok(tokens) }
}

/// The text of a token as the vocabulary spells it; empty when there is no such token.
fn text_of(vocabulary: &LlamaVocab<'_>, token: LlamaToken) -> String {
    if token.0 < 0 {
        return String::new();
    }
    vocabulary.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Those that text of strangers must not become.
fn control_tokens<'a>(vocabulary: &'a LlamaVocab<'static>) -> impl Iterator<Item = LlamaToken> + 'a {
    vocabulary.tokens().filter(|&token| {
        let attributes = vocabulary.attr(token);
        attributes.contains(LlamaTokenAttr::Control) || attributes.contains(LlamaTokenAttr::Unknown)
    })
}
