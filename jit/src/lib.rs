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
//! view               what the recorder sees of the running VM
//! record             bytecode to IR
//! dump               traces in the numbers of jit.util
//! lib_util           what Lua sees: jit.on, jit.off, jit.status, jit.opt
//! restore            trace exits back to interpreter frames
//! engine             the state machine; implements the VM's hooks
//! ```
#![warn(missing_docs)]

pub mod abort;
pub mod code;
#[cfg(target_arch = "x86_64")]
pub mod disasm;
pub mod dump;
pub mod engine;
pub mod ir;
pub mod lib_dump;
pub mod lib_util;
pub mod lower;
pub mod opt;
pub mod options;
pub mod record;
pub mod restore;
pub mod trace;
pub mod view;
pub mod worker;

pub use engine::install;
pub use options::Options;
