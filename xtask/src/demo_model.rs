//! `cargo xtask demo-model`: trains the built-in model, or scores it through the same server that users have.

use anyhow::Result;

use crate::run::{cargo, check, command, root, target_dir};
use crate::server::Server;

/// Which of the two.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Train from the corpus with the fixed seed and write demo-model/mms-demo.gguf (up to an hour on 2 cores)
    Train,
    /// Start a server, ask it the listed questions and the unseen paraphrases at temperature 0, print both scores
    Score,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match args.task {
        Task::Train => train(),
        Task::Score => score(),
    }
}

fn train() -> Result<()> {
    let python = root().join("demo-model/.venv/bin/python");
    if !python.exists() {
        println!("demo-model: making demo-model/.venv");
        check(command("python3", &["-m", "venv", "demo-model/.venv"]))?;
    }
    check(command(&python, &["-m", "pip", "install", "--quiet", "-r", "demo-model/requirements.txt"]))?;
    check(command(&python, &["demo-model/train.py"]))
}

pub(crate) fn score() -> Result<()> {
    check(cargo(&["build", "--quiet"]))?;
    let mut server = Server::start(&target_dir().join("debug/mms"), &target_dir().join("demo-model-score"))?;
    server.ready()?;
    let url = format!("http://127.0.0.1:{}/v1", server.http_port);
    let scored = check(command("python3", &["demo-model/score.py", "--url", &url]));
    server.stop()?;
    scored
}
