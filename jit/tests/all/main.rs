//! The integration tests of the JIT, in one binary.

mod filetests;
mod programs;
