//! The bytes of ZMTP as pure functions over buffers: no I/O, no clock, safe on whatever arrives.

mod command;
mod decoder;
mod greeting;
mod outbox;

pub(crate) use self::decoder::envelope_len;
pub use self::{
    command::{Command, Metadata},
    decoder::{Decoder, Item},
    greeting::{GREETING_LEN, Greeting},
    outbox::Outbox,
};
