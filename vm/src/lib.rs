//! The Moonlit virtual machine.
//!
//! Layers, lowest first; a module imports only modules listed above it.
pub mod bytecode;
