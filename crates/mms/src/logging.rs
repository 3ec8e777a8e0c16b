//! The log on standard error: text for people, coloured on a terminal, or JSON.

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Starts logging as `config` says. Libraries are heard from `warning` on only, unless everything is wanted.
pub(crate) fn start(config: LogConfig) {
    let (own, others) = match config.level {
        LogLevel::Trace => (Level::TRACE, Level::TRACE),
        LogLevel::Debug => (Level::DEBUG, Level::INFO),
        LogLevel::Info => (Level::INFO, Level::WARN),
        LogLevel::Warning => (Level::WARN, Level::WARN),
        LogLevel::Error => (Level::ERROR, Level::ERROR),
    };
    // What the NATS library says of lost connections, `mms_bus` says once, with what to do.
    let nats = if config.level == LogLevel::Trace { LevelFilter::TRACE } else { LevelFilter::OFF };
    let filter = Targets::new()
        .with_default(LevelFilter::from_level(others))
        .with_target("mms", own)
        .with_target("async_nats", nats);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match config.format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Auto => lines.with_ansi(io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
