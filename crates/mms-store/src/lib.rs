//! The evaluation store: performance metrics and model evaluations in one SQLite file, in the two tables that the old suite had, and
//! the uses of models in a third.
//!
//! One thread writes. Everything that waits for it goes into one transaction, so that many writers share the cost of one `fsync`;
//! a row is acknowledged after that transaction is on the disk. The file is in WAL mode with `synchronous=FULL`: `NORMAL` would
//! survive the death of the process too, but after a power cut it may lose transactions that were acknowledged.
//!
//! Conversations have a file of their own; see [`ConversationFile`].
//!
//! A file that cannot be used is a named error, never a reason to stop serving: a [`Store`] made by [`Store::open_or_retry`] says in
//! its [`StoreStatus`] what is wrong and goes on trying.

mod conversations;
mod error;
mod events;
mod read;
mod rows;
mod schema;
mod store;
mod time;
mod trust;
mod usage;
mod writer;

pub use conversations::{
    Conversation, ConversationFile, ConversationFileOptions, ConversationFileStatus, SpokenBy, Turn,
};
pub use error::StoreError;
pub use events::metrics_of;
pub use mms_protocol::evaluation::{
    EvaluationFilter, EvaluationRow, MetricFilter, MetricRow, NewEvaluation, NewMetric, Page, Window,
};
pub use store::{Store, StoreOptions, StoreStatus};
pub use usage::Usage;
