//! LuaJIT's FFI for the Moonlit VM.
//!
//! Layers, lowest first; a module imports only modules listed above it:
//!
//! ```text
//! ctype           types, sizes, names            no VM, no grammar
//! cparse          C declarations -> ctype        no VM
//! call            C calls by prepared signature  no VM
//! symbols, clib   where C symbols come from      no VM
//! ```
pub mod call;
pub mod clib;
pub mod cparse;
pub mod ctype;
pub mod symbols;
