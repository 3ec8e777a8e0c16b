//! Load and swap times of a suite: the model is unloaded and loaded again, and with a second model each takes the other's place. What
//! was loaded before is loaded afterwards.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use mms_client::{Client, ClientError};

use super::report::{Report, Swap};
use crate::cli::BenchArgs;
use crate::commands::ask::{PATIENT, Server, args};
use crate::commands::models::is_loaded;
use crate::exit::Failure;

pub(super) async fn run(
    bench: &BenchArgs,
    server: &Server,
    model: &str,
    report: &RefCell<Report>,
) -> Result<(), Failure> {
    let mut client = server.connect(PATIENT).await?;
    let other = bench.swap_with.as_deref();
    let mut before = Vec::new();
    for id in [Some(model), other].into_iter().flatten() {
        before.push((id, is_loaded(&mut client, id).await?));
    }
    for _ in 0..bench.rounds {
        for id in [Some(model), other].into_iter().flatten() {
            unload(&mut client, id).await?;
            let took = load(&mut client, id).await?;
            report.borrow_mut().loads.push((id.to_owned(), took));
        }
        let Some(other) = other else { continue };
        unload(&mut client, model).await?;
        // `other` is loaded now; each takes the other's place once.
        for (from, to) in [(other, model), (model, other)] {
            let begun = Instant::now();
            unload(&mut client, from).await?;
            load(&mut client, to).await?;
            let swap = Swap { from: from.to_owned(), to: to.to_owned(), took: begun.elapsed() };
            report.borrow_mut().swaps.push(swap);
        }
    }
    for (id, was_loaded) in before {
        match was_loaded {
            true => drop(load(&mut client, id).await?),
            false => unload(&mut client, id).await?,
        }
    }
    Ok(())
}

async fn load(client: &mut Client, id: &str) -> Result<Duration, ClientError> {
    let begun = Instant::now();
    client.call("load_model", args([("model", id.into())])).await?;
    Ok(begun.elapsed())
}

async fn unload(client: &mut Client, id: &str) -> Result<(), ClientError> {
    client.call("unload_model", args([("model", id.into())])).await.map(drop)
}
