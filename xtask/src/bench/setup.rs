//! What is measured and what it is measured with: configuration of a server of the bench, the plain loop, the load generator, the peer.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::stream::status;
use super::{Bench, data, shown};
use crate::run::command;
use crate::server::{Server, free_ports};

/// Longest wait for a peer to have its model.
const PATIENCE: Duration = Duration::from_secs(120);

/// One model of a configuration: its id, its file, lines of its own.
pub(super) type Entry<'a> = (&'a str, &'a Path, &'a str);

/// A configuration: lines of `[engine]`, further sections, models. Nothing is unloaded for being idle.
pub(super) fn config(bench: &Bench, engine: &str, sections: &str, models: &[Entry<'_>]) -> String {
    let threads = bench.threads;
    let mut text = format!(
        "[models]\nfolders = []\nidle_unload_s = 0\n\n[engine]\nthreads = {threads}\nspeculation = \"off\"\n{engine}\n\n{sections}\n"
    );
    for (id, path, own) in models {
        text.push_str(&format!("\n[[model]]\nid = \"{id}\"\npath = {:?}\n{own}\n", path.display().to_string()));
    }
    text
}

/// What a number of streams together gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Speed {
    /// Tokens of all answers per second, prompts included: from the first request to the last answer.
    pub(super) whole: f64,
    /// Tokens of one answer per second, after its first.
    pub(super) decoding: f64,
    /// Tokens of one prompt.
    pub(super) prompt_tokens: u64,
}

/// So many streams with prompts and answers of this length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) streams: u32,
    pub(super) prompt_tokens: u64,
    pub(super) tokens: u32,
}

impl Load {
    /// The plain loop of `mms-worker`, all streams in one batch.
    pub(super) fn plain(self, bench: &Bench, model: &Path, context: u32) -> Result<Speed> {
        let words = [
            ("--model", shown(model)),
            ("--streams", self.streams.to_string()),
            ("--prompt-tokens", self.prompt_tokens.to_string()),
            ("--tokens", self.tokens.to_string()),
            ("--ctx", context.to_string()),
            ("--threads", bench.threads.to_string()),
        ];
        let mut plain = command(bench.worker(), &["plain"]);
        plain.args(words.iter().flat_map(|(name, value)| [*name, value.as_str()]));
        let output = plain.output().context("could not start mms-worker plain")?;
        ensure!(output.status.success(), "mms-worker plain: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).context("mms-worker plain printed no JSON")?;
        let number = |key: &str| said[key].as_f64().with_context(|| format!("mms-worker plain tells no {key}"));
        let seconds = (number("prompt_ms")? + number("predicted_ms")?) / 1e3;
        Ok(Speed {
            whole: f64::from(self.streams * self.tokens) / seconds,
            decoding: number("tokens_per_second")? / f64::from(self.streams),
            prompt_tokens: self.prompt_tokens,
        })
    }

    /// `mms bench` against whatever `target` names.
    pub(super) fn asked(self, bench: &Bench, target: &[&str], model: &str) -> Result<Speed> {
        let mut generator = command(bench.programs.join("mms"), &["bench", "--json", "-m", model]);
        generator.args(target);
        for (name, value) in [
            ("--concurrency", u64::from(self.streams)),
            ("--requests", u64::from(self.streams)),
            ("--prompt-tokens", self.prompt_tokens),
            ("--tokens", u64::from(self.tokens)),
        ] {
            generator.args([name, &value.to_string()]);
        }
        let output = generator.output().context("could not start mms bench")?;
        ensure!(output.status.success(), "mms bench {target:?}: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).context("mms bench printed no JSON")?;
        let level = &said["levels"][0];
        let number = |value: &Value, key| value.as_f64().with_context(|| format!("mms bench tells no {key}: {level}"));
        let tokens = level["completion_tokens"].as_u64();
        let wanted = u64::from(self.streams * self.tokens);
        ensure!(tokens == Some(wanted), "answers of {tokens:?} tokens in all, not {wanted}");
        Ok(Speed {
            whole: number(&level["total_tokens_per_second"], "total_tokens_per_second")?,
            decoding: number(&level["stream_tokens_per_second"]["p50"], "stream_tokens_per_second")?,
            prompt_tokens: level["prompt_tokens"].as_u64().unwrap_or(0) / u64::from(self.streams),
        })
    }
}

/// Words for `mms bench` that name a server of the bench, asked over `door`.
pub(super) fn target(server: &Server, door: &str) -> [String; 6] {
    let http = format!("http://127.0.0.1:{}", server.http_port);
    ["--endpoint".to_owned(), server.endpoint(), "--http".to_owned(), http, "--over".to_owned(), door.to_owned()]
}

/// An llama-server; it ends with the value.
pub(super) struct Peer {
    child: Child,
    pub(super) port: u16,
}

impl Peer {
    /// The one that was named, with `model` and as many slots and as much context for each as given. `None`: none was named.
    pub(super) fn start(bench: &Bench, name: &str, model: &Path, slots: u32, context: u32) -> Result<Option<Self>> {
        let Some(program) = &bench.peer else { return Ok(None) };
        let [port] = free_ports()?;
        let folder = data(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        let log = folder.join("llama-server.log");
        let file = std::fs::File::create(&log).with_context(|| format!("could not make {}", log.display()))?;
        let words = [
            ("--model", shown(model)),
            ("--host", "127.0.0.1".to_owned()),
            ("--port", port.to_string()),
            ("--parallel", slots.to_string()),
            ("--ctx-size", (slots * context).to_string()),
            ("--threads", bench.threads.to_string()),
            ("--batch-size", "512".to_owned()),
        ];
        let child = command(program, &[])
            .args(words.iter().flat_map(|(name, value)| [*name, value.as_str()]))
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("could not share the log")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let mut peer = Self { child, port };
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if status(port, "/health").is_ok_and(|status| status == 200) {
                return Ok(Some(peer));
            }
            if let Some(status) = peer.child.try_wait()? {
                bail!("{} ended with {status}; see {}", program.display(), log.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} was not ready within {PATIENCE:?}; see {}", program.display(), log.display())
    }

    /// Words for `mms bench` that name it.
    pub(super) fn target(&self) -> [String; 2] {
        ["--url".to_owned(), format!("http://127.0.0.1:{}/v1", self.port)]
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("could not end llama-server {}: {error}", self.child.id());
        }
    }
}

/// Tokens that begin no other prompt: the same number gives the same ones. They are words without a place in the tokenizer's merges.
pub(super) fn tokens(number: u64, count: usize) -> Vec<u64> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        MADE_UP.start + (state >> 33) % (MADE_UP.end - MADE_UP.start)
    };
    std::iter::repeat_with(&mut next).take(count).collect()
}

/// Tokens of the models with random weights that are plain words.
const MADE_UP: std::ops::Range<u64> = 16_000..31_900;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_tokens_are_repeatable_and_differ_from_the_first_token_on() {
        let first: std::collections::BTreeSet<u64> = (0..100).map(|number| tokens(number, 1)[0]).collect();
        assert!(first.len() > 95, "{}", first.len());
        assert_eq!(tokens(7, 50), tokens(7, 50));
        assert!(tokens(7, 500).iter().all(|token| MADE_UP.contains(token)));
    }
}
