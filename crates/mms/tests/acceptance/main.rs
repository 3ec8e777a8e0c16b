//! Acceptance tests over real sockets: the built `mms`, the built `mms-worker`, the built-in model. A server of its own for each test.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod asking;
mod bad_input;
mod bench;
mod clients;
mod conversations;
mod embeddings;
mod eval;
mod evaluations;
mod files;
mod import;
mod predictions;
mod routing;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod traces;
mod workers;
