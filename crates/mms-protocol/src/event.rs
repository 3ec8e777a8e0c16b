//! What happened, for whoever keeps or publishes it: the evaluation store, the live feed and the bus.

use serde::Serialize;

use crate::view::Generation;

/// One thing that happened in the manager.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A model became resident.
    ModelLoaded {
        /// Which.
        model_id: String,
        /// Measured memory, MiB.
        memory_mb: f64,
        /// Milliseconds.
        load_ms: u64,
        /// `cpu` or `cuda`.
        device: String,
    },
    /// A worker was ended on purpose.
    ModelUnloaded {
        /// Which.
        model_id: String,
        /// `requested`, `idle`, `evicted`, `removed`, `replaced`, `shutdown`.
        reason: &'static str,
    },
    /// A load failed or a worker died.
    ModelFailed {
        /// Which.
        model_id: String,
        /// Why.
        reason: String,
        /// Whether it was its load that failed.
        loading: bool,
    },
    /// A generation ended well.
    Generated(Box<Generation>),
}
