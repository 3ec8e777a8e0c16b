//! The lifecycle driven by hand, and by random interleavings.
