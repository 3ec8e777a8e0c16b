//! What travels: operations and replies, the dialects and profiles of the wire, error codes, and the messages between `mms` and
//! its workers. No I/O and no asynchronous code live here, so every rule can be tested as a plain function.
//!
//! A request goes bytes → [`decode`] → [`Operation`] → the manager → [`Reply`] or [`Refusal`] → [`encode`] → bytes.

pub mod args;
pub mod call;
pub mod conversation;
pub mod dialect;
pub mod engine;
pub mod error;
pub mod evaluation;
pub mod event;
pub mod generate;
pub mod json;
pub mod messages;
pub mod notice;
pub mod params;
pub mod prediction;
pub mod reply;
pub mod select;
pub mod time;
pub mod tools;
pub mod view;
pub mod worker;

pub use call::{EmbedArgs, GenerateArgs, KeepAlive, LoadArgs, ModelChoice, Operation};
pub use dialect::{Call, Dialect, Envelope, Inbound, Profile, decode, encode, encode_batch};
pub use error::{ErrorCode, Refusal};
pub use event::Event;
pub use notice::Notice;
pub use reply::Reply;
