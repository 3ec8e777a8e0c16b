//! Commands in a terminal, as a person at one meets them: `mms top` with its keys, and bars while a model is loaded; and what `mms top`
//! prints for files and programs. A server of its own for each test.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod bars;
#[expect(dead_code, reason = "this program uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod top;
mod top_printed;
