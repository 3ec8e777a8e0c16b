//! `mms top`: models, memory and requests of a running server, live on a terminal. Without one, or when told so, it prints what there
//! is to be seen as a table or as JSON and ends, or goes on line by line.

mod board;
mod draw;
mod live;
mod look;
mod rates;
mod report;
mod screen;
mod table;

use std::io::{self, IsTerminal};
use std::time::Duration;

use mms_client::Client;
use serde_json::json;

use super::ask::{QUICK, Server};
use crate::cli::TopArgs;
use crate::exit::Failure;
use crate::output;
use look::Look;
use rates::Meter;
use report::Report;

pub(super) async fn run(args: &TopArgs) -> Result<(), Failure> {
    let watcher = Watcher { server: Server::of(&args.target)?, client: None, meter: Meter::default() };
    let on_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if args.watch {
        watch(watcher, args.interval).await
    } else if args.once || args.target.json || !on_terminal {
        once(watcher, args.interval).await
    } else {
        live::run(watcher, &args.target, args.interval).await
    }
}

/// Two looks, as speeds are seen between them.
async fn once(mut watcher: Watcher, interval: Duration) -> Result<(), Failure> {
    watcher.look().await?;
    tokio::time::sleep(interval).await;
    let report = watcher.look().await?;
    Ok(watcher.server.output.either(&json!(report), || table::text(&report))?)
}

/// One look after the other. A server that is away is told, and looked for again.
async fn watch(mut watcher: Watcher, interval: Duration) -> Result<(), Failure> {
    loop {
        let seen = watcher.look().await;
        match seen {
            Ok(report) if watcher.server.output.is_json() => output::line(&json!(report).to_string())?,
            Ok(report) => output::line(&table::text(&report))?,
            Err(failure) if !watcher.may_come_back(&failure) => return Err(failure),
            Err(failure) if watcher.server.output.is_json() => {
                let endpoint = &watcher.server.endpoints.main;
                output::line(&json!({"endpoint": endpoint, "error": failure.to_string()}).to_string())?;
            }
            Err(failure) => output::line(&failure.to_string())?,
        }
        tokio::time::sleep(interval).await;
    }
}

/// Looks at a server again and again, on one connection while it lasts.
struct Watcher {
    server: Server,
    client: Option<Client>,
    meter: Meter,
}

impl Watcher {
    async fn look(&mut self) -> Result<Report, Failure> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.server.connect(QUICK).await?,
        };
        let look = Look::take(&mut client).await?;
        self.client = Some(client);
        let rates = self.meter.rates(&look);
        Ok(Report::new(self.server.endpoints.main.clone(), look, &rates))
    }

    /// A later look may find what this one did not.
    fn may_come_back(&self, failure: &Failure) -> bool {
        !matches!(
            failure,
            Failure::Usage(_) | Failure::Output(_) | Failure::Client(mms_client::ClientError::BadEndpoint { .. })
        )
    }
}
