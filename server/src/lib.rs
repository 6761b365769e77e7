//! The Moonlit HTTP server: nginx's configuration and processes, OpenResty's phases.
//!
//! Layers, lowest first; a module imports only modules listed above it.

#[cfg(test)]
mod testing;

// S0: configuration.
pub mod phase;
pub mod regex;
pub mod tls;

pub mod conf;

pub mod log;

pub mod app;

pub mod memory;

pub mod cpu_time;

pub mod mapping;

pub mod counters;

// S1: a request, no Lua.
pub mod http1;

pub mod request;

pub mod flow;

// S2: services that know no Lua.
pub mod cosocket;
pub mod shared;
pub mod subprocess;
pub mod upstream;

// S3: Lua.
pub mod lua;

// S4: what Lua sees, and everything put together.
pub mod api;

pub mod application;

// S5: processes and the command line.
pub mod serve;

// What the ffi of the VMs is offered.
pub mod compat;

pub mod cli;
