//! `mms chat`: a conversation, its history kept here and sent with every turn. Answers appear while they are generated; Ctrl-C during
//! an answer ends that answer, at the prompt it ends the conversation. Works with piped input too, then without prompts.

use std::io::{self, BufRead, IsTerminal};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::ask::Server;
use super::generate::{model_of, sampling, stream_chat, system_message};
use crate::cli::ChatCommand;
use crate::exit::Failure;
use crate::output;

pub(super) async fn run(command: &ChatCommand) -> Result<(), Failure> {
    let server = Server::of(&command.target)?;
    let for_person = io::stdin().is_terminal() && io::stdout().is_terminal();
    if for_person {
        output::line("Type a message. /clear forgets the conversation, /exit ends it.")?;
    }
    let mut lines = input_lines();
    let mut history = system_message(&command.sampling);
    loop {
        if for_person {
            output::piece("> ")?;
        }
        let line = tokio::select! {
            line = lines.recv() => line,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                None
            }
        };
        let Some(line) = line else { break };
        let line = line?;
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => return Ok(()),
            "/clear" => {
                history = system_message(&command.sampling);
                if for_person {
                    output::line("The conversation is forgotten.")?;
                }
            }
            said => turn(&server, command, &mut history, said, for_person).await?,
        }
    }
    if for_person {
        output::line("")?;
    }
    Ok(())
}

/// One message and its answer. For a person a refusal ends the turn only; a script sees it as the end.
async fn turn(
    server: &Server,
    command: &ChatCommand,
    history: &mut Vec<Value>,
    said: &str,
    for_person: bool,
) -> Result<(), Failure> {
    history.push(json!({"role": "user", "content": said}));
    let mut request = sampling(&command.sampling);
    request.insert("model".to_owned(), model_of(&command.sampling));
    let outcome = tokio::select! {
        answer = stream_chat(server, request, history) => Some(answer),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            None
        }
    };
    match outcome {
        Some(Ok(answer)) => {
            history.push(json!({"role": "assistant", "content": answer}));
            output::line("")?;
        }
        Some(Err(failure @ Failure::Client(_))) if for_person => {
            history.pop();
            output::line(&format!("\n{failure}"))?;
        }
        Some(Err(failure)) => return Err(failure),
        None => {
            history.pop();
            output::line("\n(interrupted)")?;
        }
    }
    Ok(())
}

/// Lines of standard input. A thread of its own reads them, so that Ctrl-C is seen while it waits.
fn input_lines() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    lines
}
