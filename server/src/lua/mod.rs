//! The bridge to Lua: one VM per worker, handlers as coroutines, host operations as futures.
//!
//! `worker` owns the VM, `cache` the closures of handlers, `thread` the light
//! threads of one handler run, `children` its subrequests, `bridge` drives a run as a future and implements
//! the phases' `Scripts`, `abort` tells it of clients that go away, `args` moves values, `resolvers`
//! finds who resolves names. Functions that Lua sees are in
//! `api`; here nobody knows their names.

pub mod abort;
pub mod args;
pub mod bridge;
pub mod cache;
pub mod children;
pub mod thread;
pub mod worker;
