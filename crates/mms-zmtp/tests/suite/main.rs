//! The crate through its public interface: the decoder on any bytes, raw TCP peers that misbehave, our clients, the probe, and libzmq
//! (through pyzmq) as the oracle in both directions. Times in here are only guards against hanging.

mod budget;
mod clients;
mod decoder;
mod misbehaviour;
mod probes;
mod pyzmq;
mod serving;
mod support;
