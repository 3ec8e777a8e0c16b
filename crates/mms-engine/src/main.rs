//! `mms-worker`: one process that hosts one model for `mms`, through llama.cpp. It is told what to do over the socket that it finds as
//! its standard input (see [`mms_protocol::worker`]) and ends when that socket does.

mod ability;
mod beat;
mod chat;
mod clock;
mod constraint;
mod crowd;
mod engine;
mod grammar;
mod history;
mod json;
mod kv;
mod load;
mod logging;
mod logprobs;
mod memory;
mod output;
mod plain;
mod plan;
mod prompt;
mod prompts;
mod reuse;
mod sampling;
mod schema;
mod serve;
mod slot;
mod special;
mod speculate;
#[expect(unsafe_code, reason = "llama.cpp is C++; what llama-cpp-2 does not wrap is wrapped here, and nowhere else")]
mod sys;
mod template;
mod text;
mod tools;
mod wire;

use std::process::ExitCode;

const HELP: &str = "\
mms-worker hosts one language model for `mms serve`, which starts it and talks to it
over a socket on standard input. It is not meant to be started by hand; use `mms`.

Usage: mms-worker [--version | --help]
       mms-worker plain --model FILE [--streams N] [--prompt-tokens N] [--tokens N]
                        [--ctx N] [--batch N] [--threads N] [--rounds N]
                        [--cache-type-k TYPE] [--cache-type-v TYPE] [--flash-attention auto|on|off]

`mms-worker plain` measures a plain loop around llama.cpp, for comparison: it computes
prompts of N tokens for all streams [128], then decodes N tokens of each [128], all
streams in one batch [1], greedy, without looking for an end; N times over [1]. The
model is loaded as `mms` loads it, with a context of N tokens for each stream
[prompt and tokens]. One line of JSON tells what was measured.

Environment:
  MMS_WORKER_LOG         what is logged to stderr, as in RUST_LOG [info,llama=error]
  MMS_WORKER_LOG_FORMAT  plain or json [plain]

Exit codes:
  0    the host ended the worker, or is gone
  2    wrong arguments, or standard input is not a socket
  3    the model could not be loaded, or does not compute (the host was told why)
  4    the host speaks another version of the worker protocol, or not the protocol
  101  the worker is at fault (its log says how)
";

/// Wrong arguments, or not started by `mms`.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next().as_ref().and_then(|argument| argument.to_str()), arguments.next()) {
        (Some("--version" | "-V"), None) => {
            println!("mms-worker {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        (Some("--help" | "-h"), None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        (Some("plain"), _) => return plain::run(std::env::args_os().skip(2)),
        (None, None) if std::env::args_os().len() <= 1 => {}
        _ => {
            eprint!("mms-worker: unexpected arguments\n\n{HELP}");
            return ExitCode::from(EXIT_USAGE);
        }
    }
    match serve::socket_on_stdin() {
        Ok(socket) => serve::serve(socket),
        Err(error) => {
            eprint!("mms-worker: {error}\n\n{HELP}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}
