//! The Moonlit HTTP server: nginx's configuration and processes, OpenResty's phases.
//!
//! Layers, lowest first; a module imports only modules listed above it.
pub mod phase;
pub mod regex;
pub mod shared;
