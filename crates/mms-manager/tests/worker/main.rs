//! The manager with real `mms-worker` processes and the demo model: the whole life of models and requests, and what becomes of
//! them when workers die, hang, or lose their files. Nothing here asserts how long something takes.

mod catalogue;
mod faults;
mod harness;
mod life;
mod memory;
