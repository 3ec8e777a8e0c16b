//! What travels: operations and replies, the dialects and profiles of the wire, error codes, and the messages between `mms` and
//! its workers. No I/O and no asynchronous code live here, so every rule can be tested as a plain function.

pub mod generate;
pub mod worker;
