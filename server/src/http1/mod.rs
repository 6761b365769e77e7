//! HTTP/1: the bytes on the wire and the connection that carries them.
//!
//! `parse` and `body` turn bytes into offsets and data, `write` makes response
//! heads, `conn` owns socket and buffers, `deadline` and `clock` are its coarse
//! time. Nothing here knows configuration, phases or Lua.

pub mod body;
pub mod clock;
pub mod conn;
pub mod deadline;
pub mod parse;
pub mod proxy_protocol;
pub mod secure;
pub mod sendfile;
pub mod strftime;
pub mod tcp_info;
pub mod write;
