//! LuaJIT's FFI for the Moonlit VM.
//!
//! Layers, lowest first; a module imports only modules listed above it:
//!
//! ```text
//! ctype           types, sizes, names            no VM, no grammar
//! cparse          C declarations -> ctype        no VM
//! call            C calls by prepared signature  no VM
//! symbols, clib   where C symbols come from      no VM
//! state           what the ffi of one VM remembers
//! cdata           objects; raw memory
//! convert         Lua values <-> C objects
//! ops             indexing, arithmetic, calls
//! callback        C calls Lua
//! lib_new         type arguments and construction
//! meta            base metatable of cdata, the VM's hooks
//! from_trace      what compiled code calls
//! lib_ffi         ffi.* functions
//! ```
pub mod call;
pub mod callback;
pub mod cdata;
pub mod clib;
pub mod convert;
pub mod cparse;
pub mod ctype;
pub mod from_trace;
mod lib_ffi;
mod lib_new;
pub mod meta;
pub mod ops;
pub mod state;
pub mod symbols;

use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::table::Table;

use clib::Library;
use symbols::SymbolSource;

/// Opens the ffi in `vm`: C data gets its metatable, `require "ffi"` finds the library (if the package library is open), and the
/// library's table is returned.
///
/// `sources` are asked for symbols that neither the program nor its libraries have.
pub fn install(vm: &mut Vm, sources: Vec<Box<dyn SymbolSource>>) -> Gc<Table> {
    let mut library = Library::default_namespace();
    for source in sources {
        library.add_source(source);
    }
    lib_ffi::open(vm, library)
}
