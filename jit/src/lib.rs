//! The tracing JIT.
//!
//! Layers, lowest first; a module imports only modules listed above it:
//!
//! ```text
//! options abort      parameters; why recording stops
//! ir                 the trace IR: buffer, text form, verifier, evaluator
//! trace              a trace with its snapshots
//! opt                fold, forwarding, CSE, loop peeling, DCE
//! ```
#![warn(missing_docs)]

pub mod abort;
pub mod ir;
pub mod opt;
pub mod trace;
