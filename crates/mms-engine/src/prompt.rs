//! From a request's prompt to tokens.
//!
//! Special tokens: a raw prompt is tokenized as llama.cpp's own tools do it, control tokens included, since whoever writes raw
//! prompts writes templates by hand. In a chat only the template may write control tokens; see [`crate::special`]. The
//! beginning-of-sequence token is put in front when the model wants it and the prompt does not already begin with it. No
//! end-of-sequence token is ever appended: a prompt is there to be continued.

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use llama_cpp_2::vocab::LlamaVocab;
use mms_protocol::generate::{ChatMessage, Prompt, Role};
use mms_protocol::worker::GenerateFailure;

use crate::special::{ControlTokens, Part, Replaced};
use crate::template::{ChatTemplate, PLAIN_STOP, TemplateMessage, render_plain};

/// Turns prompts into tokens for one model.
#[derive(Debug)]
pub(crate) struct Prompter {
    vocabulary: LlamaVocab<'static>,
    control_tokens: ControlTokens,
    template: Template,
}

#[derive(Debug)]
enum Template {
    Own(Box<ChatTemplate>),
    Plain,
    /// Raw prompts still work; a chat gets this message.
    Broken(String),
}

impl Prompter {
    /// `chat_template` replaces the model's own.
    pub(crate) fn new(model: &'static LlamaModel, chat_template: Option<String>) -> Self {
        let vocabulary = model.vocab();
        let source = chat_template.or_else(|| {
            let own = model.chat_template(None).ok()?;
            Some(own.as_c_str().to_string_lossy().into_owned())
        });
        let template = match source.filter(|source| !source.trim().is_empty()) {
            None => Template::Plain,
            Some(source) => {
                let (bos, eos) = (text_of(&vocabulary, vocabulary.bos()), text_of(&vocabulary, vocabulary.eos()));
                match ChatTemplate::new(source, bos, eos) {
                    Ok(template) => Template::Own(Box::new(template)),
                    Err(message) => {
                        tracing::warn!(%message, "the chat template cannot be parsed; only raw prompts will work");
                        Template::Broken(message)
                    }
                }
            }
        };
        let control = vocabulary.tokens().filter(|&token| {
            let attributes = vocabulary.attr(token);
            attributes.contains(LlamaTokenAttr::Control) || attributes.contains(LlamaTokenAttr::Unknown)
        });
        let control_tokens = ControlTokens::new(control.map(|token| text_of(&vocabulary, token)));
        Self { vocabulary, control_tokens, template }
    }

    /// The tokens of a prompt, at least one.
    pub(crate) fn tokens(&self, prompt: &Prompt) -> Result<Vec<LlamaToken>, GenerateFailure> {
        let mut tokens = Vec::new();
        match prompt {
            Prompt::Raw(text) => self.vocabulary.tokenize_into(text.as_bytes(), &mut tokens, false, true),
            Prompt::Chat(messages) if messages.is_empty() => {}
            Prompt::Chat(messages) => self.chat_tokens(messages, &mut tokens)?,
        }
        if tokens.is_empty() {
            return Err(GenerateFailure::EmptyPrompt);
        }
        let bos = self.vocabulary.bos();
        if self.vocabulary.should_add_bos() && bos.0 >= 0 && tokens.first() != Some(&bos) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// A stop string that belongs to the form of the prompt.
    pub(crate) fn implied_stop(&self, prompt: &Prompt) -> Option<String> {
        match (prompt, &self.template) {
            (Prompt::Chat(_), Template::Plain) => Some(PLAIN_STOP.to_owned()),
            (Prompt::Chat(_) | Prompt::Raw(_), _) => None,
        }
    }

    fn chat_tokens(&self, messages: &[ChatMessage], tokens: &mut Vec<LlamaToken>) -> Result<(), GenerateFailure> {
        let mut replaced = Replaced::default();
        let contents: Vec<_> =
            messages.iter().map(|message| self.control_tokens.hide(&message.content, &mut replaced)).collect();
        let messages: Vec<TemplateMessage<'_>> = messages
            .iter()
            .zip(&contents)
            .map(|(message, content)| TemplateMessage { role: role_name(message.role), content })
            .collect();
        let rendered = match &self.template {
            Template::Own(template) => template.render(&messages),
            Template::Plain => Ok(render_plain(&messages)),
            Template::Broken(message) => Err(message.clone()),
        };
        let rendered = rendered.map_err(|message| GenerateFailure::Template { message })?;
        for part in replaced.split(&rendered) {
            match part {
                Part::Template(text) => self.vocabulary.tokenize_into(text.as_bytes(), tokens, false, true),
                Part::Plain(text) => self.vocabulary.tokenize_into(text.as_bytes(), tokens, false, false),
            }
        }
        Ok(())
    }
}

/// The text of a token as the vocabulary spells it; empty when there is no such token.
fn text_of(vocabulary: &LlamaVocab<'_>, token: LlamaToken) -> String {
    if token.0 < 0 {
        return String::new();
    }
    vocabulary.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}
