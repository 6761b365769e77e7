//! What programs do with C data: index it, calculate with it, call it.
//!
//! Nothing here runs Lua code: where a metamethod of a metatype is to be called, the answer says so.

pub mod arith;
pub mod call;
pub mod index;
