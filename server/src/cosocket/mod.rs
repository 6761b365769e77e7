//! Cosockets without Lua: client connections with timeouts, buffered reads, pools and names.
//!
//! Every operation is a small movable future. Polled once it finishes at once
//! when the data is there; otherwise it goes on wherever it is awaited. Generic
//! over the byte stream, so that the tests use in-memory pipes. Knows no Lua
//! value, no request and no configuration type.

pub mod buffer;
pub mod dns;
pub mod error;
pub mod pool;
pub mod resolver;
pub mod rw;
pub mod stream;
pub mod target;
pub mod tcp;
pub mod tls;
pub mod trace;
pub mod udp;
