//! The bounds that hold for every connection; each is checked before memory is taken.

use std::time::Duration;

/// How much one message of a peer may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest message in bytes, all frames together. Longer ones are read past, and the handler is told.
    pub max_message: u64,
    /// Most frames in one message, envelope included.
    pub max_frames: usize,
    /// Most bytes of one message that are read past before the connection is given up instead.
    pub max_drained: u64,
    /// Largest command (READY with its metadata, PING, ERROR).
    pub max_command: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: 32 << 20, max_frames: 256, max_drained: 256 << 20, max_command: 16 << 10 }
    }
}

/// When to ask a silent peer whether it is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Silence after which a PING is sent.
    pub interval: Duration,
    /// Silence after that PING which means that the peer is gone.
    pub timeout: Duration,
}
