//! Moonlit: a Lua 5.1/LuaJIT-compatible VM with a tracing JIT, LuaJIT's ffi and an OpenResty-compatible server.
//!
//! This crate is the facade: it wires the packages together as the features say.
//!
//! ```
//! let lua = moonlit::Lua::new();
//! assert_eq!(lua.load("1 + 1").eval::<f64>().unwrap(), 2.0);
//! ```
//!
//! [`Lua::new`] is the interpreter alone; [`engine`] adds the JIT compiler and the ffi when they are built in.

pub mod cli;

pub use moonlit_vm::host::native;
pub use moonlit_vm::host::{
    Chunk, Error, FromLua, FromLuaMulti, Function, IntoLua, IntoLuaMulti, LightUserData, Lua, LuaString,
    MultiValue, Result, Table, TablePairs, Thread, ThreadStatus, Value, Variadic,
};

/// What a VM is furnished with.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineOptions {
    /// The LUA52COMPAT set, as OpenResty builds its LuaJIT.
    pub compat52: bool,
    /// The collector's stress mode: a whole collection at every safepoint, freed cells are poisoned.
    pub zeal: bool,
}

/// A VM with everything that is built in: standard library, ffi, JIT compiler.
pub fn engine(options: EngineOptions) -> Box<native::Vm> {
    let mut vm = native::Vm::with_compat(options.compat52);
    vm.heap.zeal = options.zeal;
    moonlit_vm::lib::open_all(&mut vm);
    #[cfg(feature = "ffi")]
    let _ = &mut vm; // ffi
    #[cfg(feature = "jit")]
    let _ = &mut vm; // jit
    vm
}

/// A [`Lua`] over [`engine`].
pub fn lua(options: EngineOptions) -> Lua {
    Lua::from_vm(engine(options))
}
