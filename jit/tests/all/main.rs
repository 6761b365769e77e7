//! The integration tests of the JIT, in one binary.

mod filetests;
mod limits;
mod programs;
