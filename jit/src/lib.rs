//! The tracing JIT.
//!
//! Layers, lowest first; a module imports only modules listed above it:
//!
//! ```text
//! abort              why recording stops
//! ir                 the trace IR: buffer, text form, verifier, evaluator
//! trace              a trace with its snapshots
//! opt                fold, forwarding, CSE, loop peeling, DCE
//! options            flags and parameters
//! code               code memory, stubs, exit cells
//! lower              IR to Cranelift; runtime helpers
//! worker             the compilation thread
//! ```
#![warn(missing_docs)]

pub mod abort;
pub mod code;
pub mod ir;
pub mod lower;
pub mod opt;
pub mod options;
pub mod trace;
pub mod worker;
