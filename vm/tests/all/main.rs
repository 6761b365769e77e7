//! The tests of this crate from outside: one binary, one module a topic.

mod fuzz;
mod host;
mod hostile;
mod memory;
mod preempt;
