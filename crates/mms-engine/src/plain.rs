//! `mms-worker plain`: the least that a program around llama.cpp does, as a measure for everything that `mms` adds. The model is loaded
//! as for the suite; then there is one loop that decodes all streams in one batch and takes the likeliest token of each.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::token::LlamaToken;
use mms_protocol::worker::{EXIT_LOAD_FAILED, EngineSettings, LoadSpec};
use serde_json::{Value, json};

use crate::load::{Loaded, load};
use crate::logging;
use crate::sampling::likeliest;
use crate::sys::Batch;

/// More rounds or tokens than anybody waits for.
const MOST: u32 = 1 << 20;

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
struct Task {
    model: String,
    streams: u32,
    prompt_tokens: u32,
    tokens: u32,
    rounds: u32,
    settings: EngineSettings,
}

/// Time and tokens of all rounds.
#[derive(Debug, Default)]
struct Measured {
    prompt: Duration,
    answer: Duration,
    answer_tokens: u64,
    prompt_tokens: u64,
}

/// Runs the command with the arguments behind its name.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let task = match parse(arguments) {
        Ok(task) => task,
        Err(why) => {
            eprintln!("mms-worker plain: {why}; see `mms-worker --help`");
            return ExitCode::from(crate::EXIT_USAGE);
        }
    };
    logging::init();
    match measure(task) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("mms-worker plain: {why}");
            ExitCode::from(u8::try_from(EXIT_LOAD_FAILED).unwrap_or(1))
        }
    }
}

fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Task, String> {
    let mut task = Task {
        model: String::new(),
        streams: 1,
        prompt_tokens: 128,
        tokens: 128,
        rounds: 1,
        settings: EngineSettings::default(),
    };
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = |least: u32, most: u32| match value.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            Ok(_) | Err(_) => Err(format!("{name} must be a number from {least} to {most}, not {value:?}")),
        };
        let settings = &mut task.settings;
        match name.as_str() {
            "--model" => task.model.clone_from(&value),
            "--streams" => task.streams = number(1, 64)?,
            "--prompt-tokens" => task.prompt_tokens = number(1, MOST)?,
            "--tokens" => task.tokens = number(1, MOST)?,
            "--rounds" => task.rounds = number(1, MOST)?,
            "--ctx" => settings.context_length = number(1, MOST)?,
            "--batch" => settings.batch_size = number(1, 16_384)?,
            "--threads" => settings.threads = number(0, 512)?,
            "--cache-type-k" => settings.cache_type_k = word(&name, &value)?,
            "--cache-type-v" => settings.cache_type_v = word(&name, &value)?,
            "--flash-attention" => settings.flash_attention = word(&name, &value)?,
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    if task.model.is_empty() {
        return Err("--model is missing".to_owned());
    }
    let needed = task.prompt_tokens.saturating_add(task.tokens);
    let settings = &mut task.settings;
    if settings.context_length == 0 {
        settings.context_length = needed;
    } else if settings.context_length < needed {
        return Err(format!(
            "prompt and tokens need a context of {needed} tokens, --ctx is {}",
            settings.context_length
        ));
    }
    settings.slots = task.streams;
    settings.ubatch_size = settings.ubatch_size.min(settings.batch_size);
    Ok(task)
}

fn word<T: serde::de::DeserializeOwned>(name: &str, value: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(value)).map_err(|error| format!("{name}: {error}"))
}

fn measure(task: Task) -> Result<Value, String> {
    let began = Instant::now();
    let backend = LlamaBackend::init().map_err(|error| error.to_string())?;
    let Task { model, streams, prompt_tokens, tokens, rounds, settings } = task;
    let spec = LoadSpec { path: model.clone(), model_id: model.clone(), settings, chat_template: None, kv_store: None };
    let (mut loaded, _prompter) = load(&backend, spec, began, |_| {})?;
    let prompt = prompt(&loaded, prompt_tokens as usize)?;
    let mut all = Measured::default();
    for _ in 0..rounds {
        round(&mut loaded, &prompt, streams as usize, tokens as usize, &mut all)?;
    }
    let per_second = |tokens: u64, took: Duration| tokens as f64 / took.as_secs_f64().max(1e-9);
    Ok(json!({
        "model": model,
        "streams": streams,
        "prompt_tokens": prompt_tokens,
        "tokens": tokens,
        "rounds": rounds,
        "context_length": loaded.info.context_length,
        "threads": loaded.context.most_threads(),
        "load_ms": loaded.info.load_ms,
        "prompt_ms": all.prompt.as_secs_f64() * 1e3 / f64::from(rounds),
        "prompt_tokens_per_second": per_second(all.prompt_tokens, all.prompt),
        "predicted_ms": all.answer.as_secs_f64() * 1e3 / f64::from(rounds),
        "tokens_per_second": per_second(all.answer_tokens, all.answer),
    }))
}

/// Tokens of text, one after the other as they stand in the vocabulary.
fn prompt(loaded: &Loaded, length: usize) -> Result<Vec<LlamaToken>, String> {
    let vocabulary = loaded.model.vocab();
    let usable: Vec<LlamaToken> = (0..loaded.model.n_vocab())
        .map(LlamaToken)
        .filter(|&token| !vocabulary.is_control(token) && !vocabulary.is_eog(token))
        .collect();
    if usable.is_empty() {
        return Err("the vocabulary has no tokens of text".to_owned());
    }
    Ok(usable.into_iter().cycle().take(length).collect())
}

/// The first token of an answer belongs to the prompt, as in the suite's figures.
fn round(
    loaded: &mut Loaded,
    prompt: &[LlamaToken],
    streams: usize,
    tokens: usize,
    all: &mut Measured,
) -> Result<(), String> {
    let began = Instant::now();
    let mut batch = Batch::default();
    let mut next = Vec::new();
    for stream in 0..streams {
        let mut output = 0;
        for (chunk, part) in prompt.chunks(loaded.batch).enumerate() {
            batch.clear();
            for (offset, &token) in part.iter().enumerate() {
                let position = chunk * loaded.batch + offset;
                batch.push(token, position, stream, position + 1 == prompt.len());
            }
            output = part.len() - 1;
            loaded.context.decode(&mut batch).map_err(|error| error.to_string())?;
        }
        next.push(take(loaded, output)?);
    }
    all.prompt += began.elapsed();
    all.prompt_tokens += (prompt.len() * streams) as u64;

    let began = Instant::now();
    for position in prompt.len()..prompt.len() + tokens - 1 {
        batch.clear();
        for (stream, &token) in next.iter().enumerate() {
            batch.push(token, position, stream, true);
        }
        loaded.context.decode(&mut batch).map_err(|error| error.to_string())?;
        for (stream, token) in next.iter_mut().enumerate() {
            *token = take(loaded, stream)?;
        }
    }
    all.answer += began.elapsed();
    all.answer_tokens += ((tokens - 1) * streams) as u64;
    for stream in 0..streams {
        loaded.context.forget(stream, 0);
    }
    Ok(())
}

fn take(loaded: &mut Loaded, index: usize) -> Result<LlamaToken, String> {
    loaded.context.logits(index).and_then(likeliest).ok_or_else(|| "the model gave no usable logits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn arguments() {
        let parse = |line: &str| parse(line.split_whitespace().map(Into::into));
        let task = parse("--model a.gguf --streams 4 --tokens 10 --cache-type-v q8_0").expect("right");
        assert_eq!((task.settings.slots, task.settings.context_length, task.prompt_tokens), (4, 138, 128));
        for (line, expect) in [
            ("", "--model is missing"),
            ("--model", "needs a value"),
            ("--model a --streams 65", "from 1 to 64"),
            ("--model a --ctx 100", "need a context of 256"),
            ("--model a --cache-type-k q9", "unknown variant"),
            ("--model a --fast 1", "unknown argument"),
        ] {
            let said = parse(line).expect_err(line);
            assert!(said.contains(expect), "{line}: {said}");
        }
    }
}
