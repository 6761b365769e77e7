//! The trace IR: typed SSA instructions in a flat buffer, with a text form, a verifier and an evaluator.
//! Knows no bytecode, no heap object and no machine.

pub mod buffer;
pub mod eval;
pub mod ins;
pub mod ops;
pub mod parse;
pub mod print;
pub mod refs;
pub mod ty;
pub mod verify;
