//! Prototypes, closures and upvalues.

pub mod closure;
pub mod proto;
pub mod upvalue;
