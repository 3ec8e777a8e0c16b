//! The live view: looks at the server come in from one side, keys from the other, and after each the picture is drawn. What keys ask
//! of the server is done beside it, so that neither a long load nor a silent server holds up the view.

use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Watcher;
use super::board::{Action, Board};
use super::draw::draw;
use super::report::Report;
use super::screen::Screen;
use crate::cli::Target;
use crate::commands::ask::{PATIENT, Server, args, text};
use crate::exit::Failure;

/// Shows the server until a key or a signal ends it.
pub(super) async fn run(watcher: Watcher, target: &Target, interval: Duration) -> Result<(), Failure> {
    let mut board = Board::new(watcher.server.endpoints.main.clone());
    let mut stops = Stops::new()?;
    let mut screen = Screen::take()?;
    let mut keys = EventStream::new();
    let mut looking = Box::pin(look_after(Duration::ZERO, watcher));
    let mut acting: FuturesUnordered<BoxFuture<'_, String>> = FuturesUnordered::new();
    loop {
        screen.terminal().draw(|frame| draw(frame, &board))?;
        tokio::select! {
            (watcher, seen) = &mut looking => {
                match seen {
                    Err(failure) if !watcher.may_come_back(&failure) => return Err(failure),
                    seen => board.seen(seen.map_err(|failure| failure.to_string())),
                }
                looking.set(look_after(interval, watcher));
            }
            Some(outcome) = acting.next() => board.notice = outcome,
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => match board.press(key) {
                    Some(Action::Quit) => return Ok(()),
                    Some(Action::Load(model)) => acting.push(Box::pin(ask(target, "load_model", model))),
                    Some(Action::Unload(model)) => acting.push(Box::pin(ask(target, "unload_model", model))),
                    None => {}
                },
                // Such as another size: it is drawn anew in any case.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                // The terminal has gone.
                None => return Ok(()),
            },
            number = stops.next() => return Err(Failure::Ended(number)),
        }
    }
}

async fn look_after(pause: Duration, mut watcher: Watcher) -> (Watcher, Result<Report, Failure>) {
    tokio::time::sleep(pause).await;
    let seen = watcher.look().await;
    (watcher, seen)
}

/// Asks for something about a model; gives what came of it, for a person.
async fn ask(target: &Target, operation: &str, model: String) -> String {
    let reply = match Server::of(target) {
        Ok(server) => server.call(operation, args([("model", model.into())]), PATIENT).await,
        Err(failure) => Err(failure),
    };
    match reply {
        Ok(reply) => text(&reply, "message").to_owned(),
        Err(failure) => failure.to_string(),
    }
}

/// The signals that ask a program on a terminal to end.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Stops {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        };
        kind.as_raw_value()
    }
}
