//! The real `mms-worker` with the built-in model, over a real socket pair, as `mms` runs it.

mod bert;
mod cancel;
mod constraint;
mod embed;
mod embed_models;
mod forget;
mod generate;
mod gguf;
mod history;
mod kv;
mod kv_disk;
mod life;
mod load;
mod overflow;
mod plan;
mod sampling;
mod speculation;
mod support;
mod tools;
