//! Cosockets without Lua: client connections with timeouts, buffered reads and pools.
//!
//! Every operation is a small movable future. Polled once it finishes at once
//! when the data is there; otherwise it goes on wherever it is awaited. Generic
//! over the byte stream, so that the tests use in-memory pipes. Knows no Lua
//! value, no request and no configuration type.

pub mod buffer;
pub mod pool;
pub mod resolver;
pub mod tcp;
