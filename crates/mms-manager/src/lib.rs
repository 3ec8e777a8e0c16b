//! The manager: which models there are, which of them are resident, who gets an answer next. Deciding is apart from doing:
//! the lifecycle and the routing are plain synchronous code without I/O; one task owns their state, feeds them what happens and
//! performs what they decide; each resident model has one worker process and its socket.
//!
//! Front doors hold a [`Manager`]. Read operations are answered from a snapshot, so a slow generation never delays them.

pub mod catalogue;
pub mod config;
pub mod counters;
mod devices;
mod foresee;
pub mod gguf;
pub mod handle;
pub mod health;
pub mod lifecycle;
pub mod memory;
mod plans;
pub mod prediction;
mod random;
pub mod routing;
pub mod scan;
pub mod sim;
mod snapshot;
mod start;
mod task;
mod traffic;
pub mod worker;

pub use config::{Budget, KvStoreConfig, Limits, ManagerConfig, MemoryConfig, StartError};
pub use counters::Counters;
pub use handle::{DrainReport, GenerateEvent, Manager, TokenStream};
pub use health::HealthBoard;
