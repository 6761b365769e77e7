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
    /// The collector's stress mode: 0 off, 1 a whole collection at every safepoint, 2 very small steps with the
    /// heap verifier. Freed cells are poisoned.
    pub zeal: u32,
    /// Addresses of C functions that `ffi.C` has beside those of the program and its libraries.
    pub symbols: Option<fn(&[u8]) -> Option<usize>>,
}

/// What [`EngineOptions::symbols`] offers.
#[cfg(feature = "ffi")]
struct Symbols(fn(&[u8]) -> Option<usize>);

#[cfg(feature = "ffi")]
impl moonlit_ffi::symbols::SymbolSource for Symbols {
    fn address(&self, name: &[u8]) -> Option<usize> {
        (self.0)(name)
    }
}

/// A VM with everything that is built in: standard library, ffi, JIT compiler.
pub fn engine(options: EngineOptions) -> Box<native::Vm> {
    let mut vm = native::Vm::with_compat(options.compat52);
    vm.heap.set_zeal(moonlit_vm::heap::zeal::Zeal::from_level(options.zeal));
    moonlit_vm::lib::open_all(&mut vm);
    #[cfg(feature = "ffi")]
    {
        let offered =
            options.symbols.map(|s| Box::new(Symbols(s)) as Box<dyn moonlit_ffi::symbols::SymbolSource>);
        moonlit_ffi::install(&mut vm, offered.into_iter().collect());
    }
    #[cfg(feature = "jit")]
    moonlit_jit::install(&mut vm, moonlit_jit::Options::default());
    vm
}

/// A [`Lua`] over [`engine`].
pub fn lua(options: EngineOptions) -> Lua {
    Lua::from_vm(engine(options))
}
