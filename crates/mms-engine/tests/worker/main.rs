//! The real `mms-worker` with the built-in model, over a real socket pair, as `mms` runs it.

mod cancel;
mod generate;
mod life;
mod sampling;
mod support;
