//! LuaJIT's FFI for the Moonlit VM.
//!
//! Layers, lowest first; a module imports only modules listed above it:
//!
//! ```text
//! ctype      types, sizes, names            no VM, no grammar
//! cparse     C declarations -> ctype        no VM
//! symbols    where C symbols come from
//! clib       shared libraries
//! ```
pub mod cparse;
pub mod ctype;
