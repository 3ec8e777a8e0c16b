//! The JetStream streams that keep the messages: made when they are missing, given the subjects that they lack, and where another
//! stream has some of these subjects already, left to that one.
//!
//! The old systems left streams of other shapes behind: `MODELS` over `models.*`, which matches none of its own subjects, and
//! `AGENT_ERRORS` over `errors.agents.>`, which overlaps `errors.>`.

use std::time::Duration;

use async_nats::jetstream::context::{Context, CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::Config;
use async_nats::jetstream::{self, ErrorCode};
use futures::TryStreamExt;

/// Days that messages stay.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Most messages of a stream; the oldest go.
const MAX_MESSAGES: i64 = 100_000;
/// How long a stream remembers which messages it has: a message that is sent again after an outage is taken once.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(60 * 60);
/// Most streams that are looked at for overlaps.
const MAX_STREAMS: usize = 1000;

/// A stream as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamSpec {
    pub(crate) name: &'static str,
    /// All of its subjects.
    pub(crate) subject: &'static str,
    /// The same in pieces, for when another stream has some of them.
    pub(crate) pieces: &'static [&'static str],
}

pub(crate) const MODELS: StreamSpec = StreamSpec { name: "MODELS", subject: "models.>", pieces: &["models.model.>"] };
pub(crate) const ERRORS: StreamSpec = StreamSpec {
    name: "ERRORS",
    subject: "errors.>",
    pieces: &["errors.events", "errors.agents.>", "errors.system", "errors.system.>"],
};

/// Why a stream cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamFault {
    /// The server has no JetStream.
    #[error(
        "JetStream is not enabled there, so it keeps no events; start nats-server with --jetstream, or enable it for the account"
    )]
    NoJetStream,
    /// The server does not answer.
    #[error("no answer to a question about the stream {0}; the server hangs, or its user may not publish to $JS.API.>")]
    Silent(&'static str),
    /// Other streams are in the way.
    #[error(
        "the stream {name} cannot have {subject}: {why}; {others}: delete what is not needed (nats stream rm NAME), or change its subjects"
    )]
    Overlap { name: &'static str, subject: &'static str, why: String, others: String },
    /// Something else.
    #[error("the stream {name} cannot be used: {why}; see `nats stream info {name}`, and change or delete it")]
    Refused { name: &'static str, why: String },
}

/// Makes sure that every subject of `spec` is kept by some stream; gives what is other than it should be.
pub(crate) async fn ensure(context: &Context, spec: &StreamSpec) -> Result<Option<String>, StreamFault> {
    let existing = match context.get_stream(spec.name).await {
        Ok(stream) => Some(stream.cached_info().config.clone()),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => None,
            GetStreamErrorKind::JetStream(error) => return Err(fault(spec, &error)),
            kind @ (GetStreamErrorKind::Request
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::InvalidStreamName) => {
                let said = error.to_string();
                return Err(match kind {
                    GetStreamErrorKind::Request if said.contains("does not exist") => StreamFault::NoJetStream,
                    _ if said.contains("timed out") => StreamFault::Silent(spec.name),
                    _ => StreamFault::Refused { name: spec.name, why: said },
                });
            }
        },
    };
    let wanted = match &existing {
        Some(config) if config.subjects.iter().any(|subject| covers(subject, spec.subject)) => return Ok(None),
        Some(config) => with_subjects(config, spec, &[spec.subject]),
        None => fresh(spec, &[spec.subject]),
    };
    match put(context, existing.is_some(), wanted).await {
        Ok(()) => Ok(existing.map(|_| format!("the stream {} was given the subject {}", spec.name, spec.subject))),
        Err(CreateStreamErrorKind::JetStream(error)) if error.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP => {
            share(context, spec, existing.as_ref(), &error).await
        }
        Err(kind) => Err(create_fault(spec, kind)),
    }
}

/// Leaves to other streams what they have, and takes the rest.
async fn share(
    context: &Context,
    spec: &StreamSpec,
    existing: Option<&Config>,
    overlap: &jetstream::Error,
) -> Result<Option<String>, StreamFault> {
    let others = others_over(context, spec).await?;
    let kept_there = |piece: &str| others.iter().any(|(_, subject)| covers(subject, piece));
    let ours: Vec<&str> = spec.pieces.iter().copied().filter(|piece| !kept_there(piece)).collect();
    let named = others.iter().map(|(name, subject)| format!("{name} has {subject}")).collect::<Vec<_>>().join(", ");
    let held = existing.map(|config| config.subjects.clone()).unwrap_or_default();
    let missing = ours.iter().any(|piece| !held.iter().any(|subject| covers(subject, piece)));
    if missing {
        let config = match existing {
            Some(config) => with_subjects(config, spec, &ours),
            None => fresh(spec, &ours),
        };
        match put(context, existing.is_some(), config).await {
            Ok(()) => {}
            Err(CreateStreamErrorKind::JetStream(_)) => {
                let why = overlap.to_string();
                return Err(StreamFault::Overlap { name: spec.name, subject: spec.subject, why, others: named });
            }
            Err(kind) => return Err(create_fault(spec, kind)),
        }
    }
    Ok(Some(format!(
        "{named}, so these events are kept there and not in {}; to have all of them in one stream, delete that one (nats stream rm NAME)",
        spec.name
    )))
}

/// Streams with subjects of `spec`, each with such a subject.
async fn others_over(context: &Context, spec: &StreamSpec) -> Result<Vec<(String, String)>, StreamFault> {
    let mut streams = context.streams();
    let mut found = Vec::new();
    for _ in 0..MAX_STREAMS {
        let next = streams.try_next().await;
        let next = next.map_err(|error| StreamFault::Refused { name: spec.name, why: error.to_string() })?;
        let Some(stream) = next else { break };
        if stream.config.name != spec.name {
            let over = stream.config.subjects.into_iter().filter(|subject| overlap(subject, spec.subject));
            found.extend(over.map(|subject| (stream.config.name.clone(), subject)));
        }
    }
    Ok(found)
}

async fn put(context: &Context, exists: bool, config: Config) -> Result<(), CreateStreamErrorKind> {
    if exists {
        context.update_stream(&config).await.map(drop).map_err(|error| error.kind())
    } else {
        context.create_stream(config).await.map(drop).map_err(|error| error.kind())
    }
}

fn fresh(spec: &StreamSpec, subjects: &[&str]) -> Config {
    Config {
        name: spec.name.to_owned(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        max_age: MAX_AGE,
        max_messages: MAX_MESSAGES,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        num_replicas: 1,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    }
}

/// What somebody has set up stays; only subjects are added, and those that these contain go.
fn with_subjects(config: &Config, spec: &StreamSpec, subjects: &[&str]) -> Config {
    let mut config = config.clone();
    config.name = spec.name.to_owned();
    config.subjects.retain(|held| !subjects.iter().any(|subject| overlap(subject, held)));
    config.subjects.extend(subjects.iter().map(|subject| (*subject).to_owned()));
    config
}

fn create_fault(spec: &StreamSpec, kind: CreateStreamErrorKind) -> StreamFault {
    match kind {
        CreateStreamErrorKind::JetStreamUnavailable => StreamFault::NoJetStream,
        CreateStreamErrorKind::TimedOut => StreamFault::Silent(spec.name),
        CreateStreamErrorKind::JetStream(error) => fault(spec, &error),
        other => StreamFault::Refused { name: spec.name, why: other.to_string() },
    }
}

fn fault(spec: &StreamSpec, error: &jetstream::Error) -> StreamFault {
    match error.error_code() {
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => StreamFault::NoJetStream,
        _ => StreamFault::Refused { name: spec.name, why: error.to_string() },
    }
}

/// Whether every subject that `inner` matches, `outer` matches, too.
fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// Whether some subject is matched by both.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Config, ERRORS, MODELS, covers, overlap, with_subjects};

    #[test]
    fn subjects() {
        for (outer, inner) in
            [("models.>", "models.model.loaded"), ("a.*", "a.b"), (">", "a.>"), ("a.>", "a.>"), ("a", "a")]
        {
            assert!(covers(outer, inner) && overlap(outer, inner) && overlap(inner, outer), "{outer} {inner}");
        }
        for (outer, inner) in
            [("a.*", "a.>"), ("a.*", "a.b.c"), ("a.b", "a.*"), ("a", "a.b"), ("a.>", "a"), ("a.b", "a")]
        {
            assert!(!covers(outer, inner), "{outer} {inner}");
        }
        for (one, other) in [("a.*", "a.>"), ("a.b", "a.*"), ("*.b", "a.*")] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [("a.b", "a.c"), ("a", "a.b"), ("a.*", "a.b.c"), ("a.>", "a")] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
    }

    #[test]
    fn the_pieces_are_within_the_whole_and_apart() {
        for spec in [MODELS, ERRORS] {
            for (at, piece) in spec.pieces.iter().enumerate() {
                assert!(covers(spec.subject, piece), "{piece}");
                assert!(spec.pieces[..at].iter().all(|other| !overlap(other, piece)), "{piece}");
            }
        }
    }

    #[test]
    fn a_stream_keeps_what_its_owner_has_set_up() {
        let old = Config {
            name: "MODELS".to_owned(),
            subjects: vec!["models.*".to_owned(), "other".to_owned()],
            max_messages: 7,
            ..Config::default()
        };
        let new = with_subjects(&old, &MODELS, &[MODELS.subject]);
        assert_eq!(new.subjects, ["other", "models.>"]);
        assert_eq!(new.max_messages, 7);
    }
}
