//! How families of models write calls of tools, as data: the grammar of calls ([`super::grammar`]), the recognizer
//! ([`super::recognizer`]) and the writer of past calls all read the same description, so they cannot disagree.
//!
//! White space in these texts may be written in any way, or left out: `\n` and a space stand for themselves where we write, a tab for
//! nothing.

use serde_json::Value;

use crate::json::dumps;

/// How one family of models writes calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// Before the first call.
    pub(super) open: &'static str,
    /// One call.
    pub(super) call: &'static [Part],
    /// Between two calls; `None`: there is one at most.
    pub(super) between: Option<&'static str>,
    /// After the last one.
    pub(super) close: &'static str,
    /// With each of them calls begin, wherever in the answer it stands.
    pub(super) triggers: &'static [&'static str],
    /// An answer that begins as a call does, up to the name of a tool, is one. Such a call is a JSON object.
    pub(super) whole_answer: bool,
}

/// A part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Text(&'static str),
    /// Some models leave it out.
    Optional(&'static str),
    /// The tool's name, as it stands.
    Name,
    /// The arguments, a JSON object.
    Arguments,
    /// Each argument by itself, with these before its name, between name and value, and after the value. A string stands as it is,
    /// other values are JSON.
    Parameters(Delimiters),
    /// `, "id": "..."`, or nothing.
    Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delimiters {
    pub(super) before: &'static str,
    pub(super) between: &'static str,
    pub(super) after: &'static str,
}

/// Begins [`Part::Id`].
pub(super) const ID: &str = ", \"id\": \"";

use Part::{Arguments, Id, Name, Optional, Parameters, Text};

const OBJECT: &[Part] = &[Text("{\t\"name\"\t: \""), Name, Text("\"\t, \"arguments\"\t: "), Arguments, Id, Text("\t}")];

/// Hermes, Qwen 2.5 and 3, Granite 4, and what models without a form of their own are asked for.
pub(crate) static HERMES: Syntax = Syntax {
    open: "",
    call: &[
        Text("<tool_call>\n{\t\"name\"\t: \""),
        Name,
        Text("\"\t, \"arguments\"\t: "),
        Arguments,
        Text("\t}\n</tool_call>"),
    ],
    between: Some("\n"),
    close: "",
    triggers: &["<tool_call>"],
    whole_answer: false,
};

/// Qwen 3 Coder.
static PARAMETER_TAGS: Syntax = Syntax {
    open: "",
    call: &[
        Optional("<tool_call>\n"),
        Text("<function="),
        Name,
        Text(">\n"),
        Parameters(Delimiters { before: "<parameter=", between: ">\n", after: "\n</parameter>\n" }),
        Text("</function>"),
        Optional("\n</tool_call>"),
    ],
    between: Some("\n"),
    close: "",
    triggers: &["<tool_call>", "<function="],
    whole_answer: false,
};

/// GLM 4.5.
static ARGUMENT_TAGS: Syntax = Syntax {
    open: "",
    call: &[
        Text("<tool_call>\t"),
        Name,
        Text("\n"),
        Parameters(Delimiters { before: "<arg_key>", between: "</arg_key>\n<arg_value>", after: "</arg_value>\n" }),
        Text("</tool_call>"),
    ],
    between: Some("\n"),
    close: "",
    triggers: &["<tool_call>"],
    whole_answer: false,
};

/// Llama 3.x in their own words for tools, Functionary 3.1.
static FUNCTION_TAG: Syntax = Syntax {
    open: "",
    call: &[Text("<function="), Name, Text(">\t"), Arguments, Text("\t</function>")],
    between: Some("\t"),
    close: "",
    triggers: &["<function="],
    whole_answer: false,
};

/// Mistral up to the middle of 2025.
static MISTRAL_LIST: Syntax = Syntax {
    open: "[TOOL_CALLS]\t[\t",
    call: OBJECT,
    between: Some(", "),
    close: "\t]",
    triggers: &["[TOOL_CALLS]"],
    whole_answer: false,
};

/// Mistral since then.
static MISTRAL_NAMED: Syntax = Syntax {
    open: "",
    call: &[Text("[TOOL_CALLS]\t"), Name, Text("\t[ARGS]\t"), Arguments],
    between: Some("\t"),
    close: "",
    triggers: &["[TOOL_CALLS]"],
    whole_answer: false,
};

/// DeepSeek V3 and R1.
static DEEPSEEK_FENCED: Syntax = Syntax {
    open: "<｜tool▁calls▁begin｜>\t",
    call: &[
        Text("<｜tool▁call▁begin｜>\tfunction\t<｜tool▁sep｜>\t"),
        Name,
        Text("\n```json\n"),
        Arguments,
        Text("\n```\t<｜tool▁call▁end｜>"),
    ],
    between: Some("\n"),
    close: "\t<｜tool▁calls▁end｜>",
    triggers: &["<｜tool▁calls▁begin｜>"],
    whole_answer: false,
};

/// DeepSeek V3.1.
static DEEPSEEK_PLAIN: Syntax = Syntax {
    open: "<｜tool▁calls▁begin｜>\t",
    call: &[
        Text("<｜tool▁call▁begin｜>\t"),
        Name,
        Text("\t<｜tool▁sep｜>\t"),
        Arguments,
        Text("\t<｜tool▁call▁end｜>"),
    ],
    between: Some("\t"),
    close: "\t<｜tool▁calls▁end｜>",
    triggers: &["<｜tool▁calls▁begin｜>"],
    whole_answer: false,
};

/// Granite 3.
static TAGGED_LIST: Syntax = Syntax {
    open: "<|tool_call|>\t[\t",
    call: OBJECT,
    between: Some(", "),
    close: "\t]",
    triggers: &["<|tool_call|>"],
    whole_answer: false,
};

/// Phi 4 mini.
static CLOSED_LIST: Syntax = Syntax {
    open: "<|tool_call|>\t[\t",
    call: OBJECT,
    between: Some(", "),
    close: "\t]\t<|/tool_call|>",
    triggers: &["<|tool_call|>"],
    whole_answer: false,
};

/// Phi 4 mini, as some of its templates have it.
static TAGGED_OBJECT: Syntax = Syntax {
    open: "",
    call: &[
        Text("<|tool_call|>\t{\t\"name\"\t: \""),
        Name,
        Text("\"\t, \"arguments\"\t: "),
        Arguments,
        Text("\t}"),
        Optional("\t<|/tool_call|>"),
    ],
    between: Some("\t"),
    close: "",
    triggers: &["<|tool_call|>"],
    whole_answer: false,
};

/// Nemotron.
static TOOLCALL_LIST: Syntax = Syntax {
    open: "<TOOLCALL>\t[\t",
    call: OBJECT,
    between: Some(", "),
    close: "\t]\t</TOOLCALL>",
    triggers: &["<TOOLCALL>"],
    whole_answer: false,
};

/// Llama 3.x.
static JSON_PARAMETERS: Syntax = Syntax {
    open: "",
    call: &[
        Optional("<|python_tag|>\t"),
        Text("{\t\"name\"\t: \""),
        Name,
        Text("\"\t, \"parameters\"\t: "),
        Arguments,
        Text("\t}"),
    ],
    between: None,
    close: "",
    triggers: &["<|python_tag|>"],
    whole_answer: true,
};

/// Nothing but a JSON object.
static JSON_ARGUMENTS: Syntax =
    Syntax { open: "", call: OBJECT, between: None, close: "", triggers: &[], whole_answer: true };

#[cfg(test)]
pub(super) static ALL: &[&Syntax] = &[
    &HERMES,
    &PARAMETER_TAGS,
    &ARGUMENT_TAGS,
    &FUNCTION_TAG,
    &MISTRAL_LIST,
    &MISTRAL_NAMED,
    &DEEPSEEK_FENCED,
    &DEEPSEEK_PLAIN,
    &TAGGED_LIST,
    &CLOSED_LIST,
    &TAGGED_OBJECT,
    &TOOLCALL_LIST,
    &JSON_PARAMETERS,
    &JSON_ARGUMENTS,
];

/// A call in the messages of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PastCall {
    pub(crate) id: String,
    pub(crate) name: String,
    /// An object; what was no JSON is a text.
    pub(crate) arguments: Value,
}

impl Syntax {
    /// The one whose marks are in `text`: a call as a chat template has rendered it, or the template's source.
    pub(crate) fn by_marks(text: &str) -> Option<&'static Self> {
        let has = |mark: &str| text.contains(mark);
        if has("[TOOL_CALLS]") {
            return Some(if has("[ARGS]") { &MISTRAL_NAMED } else { &MISTRAL_LIST });
        }
        if has("<｜tool▁calls▁begin｜>") {
            return Some(if has("```json") { &DEEPSEEK_FENCED } else { &DEEPSEEK_PLAIN });
        }
        if has("<parameter=") && has("<function=") {
            return Some(&PARAMETER_TAGS);
        }
        if has("<arg_key>") {
            return Some(&ARGUMENT_TAGS);
        }
        if has("<tool_call>") {
            return Some(&HERMES);
        }
        if has("<TOOLCALL>") {
            return Some(&TOOLCALL_LIST);
        }
        if has("<|tool_call|>{") {
            return Some(&TAGGED_OBJECT);
        }
        if has("<|tool_call|>") {
            return Some(if has("<|/tool_call|>") { &CLOSED_LIST } else { &TAGGED_LIST });
        }
        has("<function=").then_some(&FUNCTION_TAG)
    }

    /// The one whose keys are in `text`: a call that is nothing but a JSON object.
    pub(crate) fn by_keys(text: &str) -> Option<&'static Self> {
        let (_, text) = text.split_once("{\"name\": ")?;
        if text.contains("\"parameters\":") {
            return Some(&JSON_PARAMETERS);
        }
        text.contains("\"arguments\":").then_some(&JSON_ARGUMENTS)
    }

    /// The text has something in it that only calls have, such as the text of a control token.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        let parts = self.call.iter().flat_map(|part| match *part {
            Part::Text(text) | Part::Optional(text) => [text, "", ""],
            Part::Parameters(Delimiters { before, between, after }) => [before, between, after],
            Part::Name | Part::Arguments | Part::Id => [""; 3],
        });
        !text.trim().is_empty() && parts.chain([self.open, self.close]).any(|own| own.contains(text))
    }

    /// Calls as the model would have written them.
    pub(crate) fn write(&self, calls: &[PastCall]) -> String {
        let calls: Vec<String> = calls.iter().map(|call| self.write_one(call)).collect();
        let between = written(self.between.unwrap_or("\n"));
        format!("{}{}{}", written(self.open), calls.join(&between), written(self.close))
    }

    fn write_one(&self, call: &PastCall) -> String {
        let mut out = String::new();
        for part in self.call {
            match *part {
                Part::Text(text) => out.push_str(&written(text)),
                // Of what models may leave out, the tags belong to the form as it is taught.
                Part::Optional(text) if !self.whole_answer => out.push_str(&written(text)),
                Part::Optional(_) | Part::Id => {}
                Part::Name => out.push_str(&call.name),
                Part::Arguments => out.push_str(&dumps(&call.arguments)),
                Part::Parameters(Delimiters { before, between, after }) => {
                    for (name, value) in call.arguments.as_object().into_iter().flatten() {
                        let value = value.as_str().map_or_else(|| dumps(value), str::to_owned);
                        out.extend(
                            [&written(before), name, &written(between), &value, &written(after)].map(String::as_str),
                        );
                    }
                }
            }
        }
        out
    }
}

/// A text as we write it.
fn written(text: &str) -> String {
    text.replace('\t', "")
}
