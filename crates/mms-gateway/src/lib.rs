//! The front doors: ZMTP on the main port, health on a port that tells ZMTP from HTTP by the first byte, and HTTP with probes, metrics,
//! OpenAI's interface and a plain JSON one. Each door only translates; all of them lead to [`mms_manager::Manager`] through
//! [`Gateway`], so an operation behaves alike wherever it is asked for.
//!
//! ```text
//! main port    ZMTP ───────────────────▶ zmq    ┐
//! health port  0xFF? ─ ZMTP ───────────▶ health ├─▶ Gateway::perform ─▶ Manager::call, or the store
//!                    └ HTTP ─▶ router ─▶ http/* │   Gateway::generate ─▶ Manager::generate
//! HTTP port    HTTP ─────────▶ router           ┘   (counted and timed there)
//! ```

mod conversations;
mod evaluations;
mod feed;
mod gateway;
mod health;
pub mod http;
mod limits;
mod metrics;
mod peer;
mod predictions;
mod serve;
mod services;
mod zmq;

pub use conversations::{ConversationOptions, Conversations};
pub use feed::Feed;
pub use gateway::{BusFigures, Gateway};
pub use health::serve_health;
pub use http::router;
pub use limits::WireLimits;
pub use serve::serve_http;
pub use services::{ServiceAddress, Services};
pub use zmq::serve_main;
