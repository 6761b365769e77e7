//! The Moonlit virtual machine.
//!
//! Layers, lowest first; a module imports only modules listed above it:
//!
//! ```text
//! index limits cell value bytecode syntax   plain data: no heap
//! heap                                      cells, mark bits, headers, accounting
//! string table userdata cdata               objects
//! function thread error                     code and coroutines
//! state gc chunk                            the VM's state, the collector, bytecode files
//! compile                                   source to prototypes
//! interp                                    the interpreter
//! lib                                       the Lua-visible library
//! layout raw host                           the doors: machine code, jit and ffi, everybody else
//! ```
pub mod bytecode;
pub mod cdata;
pub mod cell;
pub mod chunk;
pub mod compile;
pub mod error;
pub mod function;
pub mod gc;
pub mod heap;
pub mod host;
pub mod index;
pub mod interp;
pub mod layout;
#[path = "lib/mod.rs"]
pub mod lib;
pub mod limits;
pub mod raw;
pub mod state;
pub mod string;
pub mod syntax;
pub mod table;
pub mod thread;
pub mod userdata;
pub mod value;
