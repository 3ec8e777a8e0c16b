//! A worker that is started for one question and ends with the answer: what devices there are, or what a model would take.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use mms_protocol::worker::{LoadSpec, MemoryPlan, PROTOCOL_VERSION, ToHost, ToWorker, WorkerHello};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::{LAST_WORDS, Spawner, codec, ending, read_stderr};

/// What the worker answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who it is, and what devices it has.
    pub(crate) hello: WorkerHello,
    /// What the model would take, or why it cannot be loaded; `None`: that was not asked.
    pub(crate) planned: Option<Result<MemoryPlan, String>>,
}

/// Starts the program, asks, and ends it. Without a model only its greeting is waited for. The error says what went wrong with the
/// worker, not with the model; whoever drops the future ends the process.
pub(crate) async fn ask(
    spawner: &Spawner,
    program: &Path,
    model: Option<LoadSpec>,
    patience: Duration,
) -> Result<Answer, String> {
    let (mut child, socket) = spawner.spawn(program).await.map_err(|error| format!("did not start: {error}"))?;
    let (name, pid) = (model.as_ref().map_or("", |model| &model.model_id).to_owned(), child.id().unwrap_or_default());
    // What nobody reads would stop it in the end.
    let stderr = child.stderr.take().map(|stderr| tokio::spawn(read_stderr(stderr, name, pid)));
    let answer = tokio::time::timeout(patience, converse(socket, model)).await;
    let end = match &answer {
        // It ends by itself, mostly.
        Ok(_) => tokio::time::timeout(LAST_WORDS, child.wait()).await.ok(),
        Err(_) => None,
    };
    let status = match end {
        Some(status) => Some(status),
        None => {
            if let Err(error) = child.kill().await {
                tracing::warn!(pid, %error, "a worker that was asked a question cannot be ended");
            }
            None
        }
    };
    match answer {
        Err(_) => Err(format!("said nothing for {} s", patience.as_secs_f64())),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(fault)) => {
            let lines = match stderr {
                Some(task) => {
                    tokio::time::timeout(LAST_WORDS, task).await.ok().and_then(Result::ok).unwrap_or_default()
                }
                None => VecDeque::new(),
            };
            Err(status.map_or_else(|| fault.clone(), |status| ending(status, Some(fault.clone()), &lines, false)))
        }
    }
}

async fn converse(socket: UnixStream, model: Option<LoadSpec>) -> Result<Answer, String> {
    let mut frames = Framed::new(socket, codec());
    say(&mut frames, &ToWorker::Hello { protocol_version: PROTOCOL_VERSION }).await?;
    let hello = loop {
        if let ToHost::Hello(hello) = next(&mut frames).await? {
            break hello;
        }
    };
    let Some(model) = model else { return Ok(Answer { hello, planned: None }) };
    if hello.protocol_version != PROTOCOL_VERSION {
        return Err(format!("speaks protocol {}, this server {PROTOCOL_VERSION}", hello.protocol_version));
    }
    say(&mut frames, &ToWorker::Plan(Box::new(model))).await?;
    loop {
        match next(&mut frames).await? {
            ToHost::Planned(plan) => return Ok(Answer { hello, planned: Some(Ok(plan)) }),
            ToHost::LoadFailed { reason } => return Ok(Answer { hello, planned: Some(Err(reason)) }),
            _ => {}
        }
    }
}

async fn say(frames: &mut Framed<UnixStream, LengthDelimitedCodec>, message: &ToWorker) -> Result<(), String> {
    let frame = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    frames.send(Bytes::from(frame)).await.map_err(|error| format!("did not listen: {error}"))
}

async fn next(frames: &mut Framed<UnixStream, LengthDelimitedCodec>) -> Result<ToHost, String> {
    let frame = frames.next().await.ok_or("ended without an answer")?;
    let frame = frame.map_err(|error| format!("did not answer: {error}"))?;
    serde_json::from_slice(&frame).map_err(|error| format!("answered what cannot be read: {error}"))
}
