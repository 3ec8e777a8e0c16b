//! The front doors through real sockets, in front of a real manager; tests of generation have the built-in model and a real worker.

mod choices;
mod generation;
mod half_closed;
mod health_port;
mod http;
mod limits;
mod native;
mod openai;
mod support;
mod zmq;
