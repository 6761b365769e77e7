//! The door for embedders: rooted handles and conversions, in the shape Rust programmers know from `mlua`.
//!
//! ```no_run
//! use moonlit_vm::host::Lua;
//! # fn main() -> moonlit_vm::host::Result<()> {
//! let lua = Lua::new();
//! let add = lua.create_function(|_, (a, b): (f64, f64)| Ok(a + b))?;
//! lua.globals().set("add", add)?;
//! let five: f64 = lua.load("return add(2, 3)").set_name("=example").eval()?;
//! assert_eq!(five, 5.0);
//! # Ok(())
//! # }
//! ```
//! A handle keeps its value alive until it is dropped. Handles belong to one VM: giving one to another VM is an
//! error. Nothing here is `Send`.

mod chunk;
mod convert;
mod error;
mod function;
mod glue;
mod lua;
mod table;
mod value;

pub use chunk::Chunk;
pub use convert::{FromLua, FromLuaMulti, IntoLua, IntoLuaMulti, MultiValue, Variadic};
pub use error::{Error, Result};
pub use function::{Function, Thread, ThreadStatus, VmState};
pub use lua::Lua;
pub use table::{Table, TablePairs};
pub use value::{LightUserData, LuaString, Value};

/// What crates that extend the VM with natives of their own use (the server, the root): the native ABI.
pub mod native {
    pub use crate::bytecode::ops::Mm;
    pub use crate::cell::gc_ref::Gc;
    pub use crate::chunk::dump::DumpOptions;
    pub use crate::function::closure::Func;
    pub use crate::heap::roots::RootId;
    pub use crate::index::NativeId;
    pub use crate::interp::run::Resume;
    pub use crate::state::Vm;
    pub use crate::state::hooks::{Limit, Verdict};
    pub use crate::state::interrupt::Interrupt;
    pub use crate::state::native::{
        Effect, Entry, NativeFn, NativeResult, NativeRow, Outcome, Raised, SigType, TypedSig,
    };
    pub use crate::string::Str;
    pub use crate::table::Table;
    pub use crate::thread::Thread;
    pub use crate::userdata::Userdata;
    pub use crate::value::Value;
}
