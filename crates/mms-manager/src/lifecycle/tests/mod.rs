//! The lifecycle driven by hand, and by random interleavings.

mod by_hand;
mod memory;
mod preload;
mod random;
mod residency;
mod turns;
mod world;
