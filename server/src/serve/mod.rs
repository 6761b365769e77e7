//! Processes: start-up, master and workers, signals, sockets.
//!
//! The master is single-threaded and has no runtime: it loads the configuration, binds, prepares the
//! application, forks workers and waits for signals. A worker is one thread with one runtime. What
//! they serve is an `App`, of which nothing is known here.

pub mod listener;
pub mod master;
pub mod os;
pub mod signal;
pub mod start;
pub mod worker;

/// Exit code of a worker that is not to be started again.
pub const FATAL_EXIT: i32 = 2;
