//! The bridge to Lua: one VM per worker, handlers as coroutines, host operations as futures.
//!
//! `worker` owns the VM, `cache` the closures of handlers, `thread` the light
//! threads of one handler run, `bridge` drives a run as a future and implements
//! the phases' `Scripts`, `args` moves values. Functions that Lua sees are in
//! `api`; here nobody knows their names.

pub mod args;
pub mod bridge;
pub mod cache;
pub mod thread;
pub mod worker;
