//! `Lua`: one VM, shared by its handles.

use std::cell::UnsafeCell;
use std::fmt;
use std::rc::{Rc, Weak};

use super::chunk::Chunk;
use super::convert::{FromLuaMulti, IntoLuaMulti, MultiValue};
use super::error::{Error, Result};
use super::function::Function;
use super::glue;
use super::table::Table;
use super::value::{LuaString, Value};
use crate::heap::roots::RootId;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome};
use crate::userdata::Userdata;
use crate::value::Value as Raw;

/// A Lua virtual machine with its standard library. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Lua {
    inner: Rc<Inner>,
}

struct Inner {
    vm: UnsafeCell<Box<Vm>>,
}

impl Default for Lua {
    fn default() -> Self {
        Lua::new()
    }
}

impl fmt::Debug for Lua {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lua")
    }
}

/// A handle that does not keep the VM.
pub(super) struct WeakLua(Weak<Inner>);

impl WeakLua {
    pub(super) fn upgrade(&self) -> Option<Lua> {
        self.0.upgrade().map(|inner| Lua { inner })
    }
}

type CallbackFn = dyn Fn(&Lua, MultiValue) -> Result<MultiValue>;

/// A Rust callback as it lies in the userdata that keeps it.
#[derive(Clone)]
struct Callback {
    lua: Weak<Inner>,
    call: Rc<CallbackFn>,
}

impl Lua {
    /// A fresh VM with all standard libraries, interpreter only.
    pub fn new() -> Lua {
        let mut vm = Vm::new();
        crate::lib::open_all(&mut vm);
        Lua::from_vm(vm)
    }

    /// Takes over a VM that somebody else has furnished (with ffi, JIT, other libraries).
    pub fn from_vm(vm: Box<Vm>) -> Lua {
        Lua { inner: Rc::new(Inner { vm: UnsafeCell::new(vm) }) }
    }

    /// Runs `f` with the VM itself. `f` must not use handles of this VM.
    pub fn with<R>(&self, f: impl FnOnce(&mut Vm) -> R) -> R {
        // SAFETY: `Lua` is not `Send`, so one thread at a time is here. The only way to come here again while
        // a `&mut Vm` exists is through a callback, and the callback's trampoline does not touch its own
        // reference until the callback has returned.
        f(unsafe { &mut *self.inner.vm.get() })
    }

    pub(super) fn downgrade(&self) -> WeakLua {
        WeakLua(Rc::downgrade(&self.inner))
    }

    pub(super) fn same(&self, other: &Lua) -> bool {
        Rc::ptr_eq(&self.inner, &other.inner)
    }

    pub(super) fn root(&self, v: Raw) -> Ref {
        let id = self.with(|vm| vm.heap.roots.add(v));
        Ref { lua: self.clone(), id }
    }

    /// The table of globals.
    pub fn globals(&self) -> Table {
        let v = self.with(|vm| Raw::obj(vm.globals));
        Table(self.root(v))
    }

    /// A chunk of source text or bytecode, to be named, executed or evaluated.
    pub fn load(&self, source: impl AsRef<[u8]>) -> Chunk {
        Chunk::new(self.clone(), source.as_ref().to_vec())
    }

    /// An empty table.
    pub fn create_table(&self) -> Result<Table> {
        let v = self.with(|vm| Raw::obj(vm.heap.new_table(0, 0)));
        Ok(Table(self.root(v)))
    }

    /// A string.
    pub fn create_string(&self, s: impl AsRef<[u8]>) -> Result<LuaString> {
        let v = self.with(|vm| Raw::obj(vm.heap.str(s.as_ref())));
        Ok(LuaString(self.root(v)))
    }

    /// A Lua function that calls `f`. An `Err` becomes a Lua error; a panic becomes one too.
    pub fn create_function<A, R, F>(&self, f: F) -> Result<Function>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        F: Fn(&Lua, A) -> Result<R> + 'static,
    {
        let call = move |lua: &Lua, args: MultiValue| {
            let args = A::from_lua_multi(args, lua)?;
            f(lua, args)?.into_lua_multi(lua)
        };
        let cb = Callback { lua: Rc::downgrade(&self.inner), call: Rc::new(call) };
        let v = self.with(|vm| {
            let cell = vm.heap.new_udata(cb, None);
            Raw::obj(vm.new_native(NativeRow::new("?", call_back), &[Raw::obj(cell)]))
        });
        Ok(Function(self.root(v)))
    }

    /// Bytes in use by the VM's heap.
    pub fn used_memory(&self) -> usize {
        self.with(|vm| vm.heap.total_bytes())
    }

    /// Sets the hard limit of the heap in bytes (0: none) and returns the previous one. Beyond it the program
    /// gets the catchable error "not enough memory".
    pub fn set_memory_limit(&self, bytes: usize) -> Result<usize> {
        Ok(self.with(|vm| {
            let before = vm.heap.acct.limit;
            vm.heap.set_limit(if bytes == 0 { usize::MAX } else { bytes });
            before
        }))
    }

    /// Runs a whole collection.
    pub fn gc_collect(&self) -> Result<()> {
        self.with(crate::gc::full);
        Ok(())
    }

    pub(super) fn value(&self, v: Raw) -> Value {
        Value::from_raw(self, v)
    }

    /// Calls a raw function value with a traceback taken at the point of an error.
    pub(super) fn call_raw(&self, f: Raw, args: &[Raw]) -> Result<Vec<Raw>> {
        self.with(|vm| vm.call_traced(f, args)).map_err(|(err, traceback)| self.error_of(err, traceback))
    }

    pub(super) fn error_of(&self, err: Raw, traceback: Vec<u8>) -> Error {
        self.with(|vm| {
            if let Some(e) = glue::host_error(vm, err) {
                return e;
            }
            let text = vm.error_string(err).unwrap_or_else(|| b"(error object is not a string)".to_vec());
            let message = String::from_utf8_lossy(&text).into_owned();
            if message == "not enough memory" {
                return Error::MemoryError(message);
            }
            Error::RuntimeError { message, traceback: String::from_utf8_lossy(&traceback).into_owned() }
        })
    }
}

/// The native behind every function made by [`Lua::create_function`]; its upvalue is the callback's cell.
fn call_back(vm: &mut Vm, _e: Entry) -> NativeResult {
    let args: Vec<Raw> = (0..vm.nargs()).map(|i| vm.arg(i)).collect();
    let cell = vm.upvalue(0);
    let found = cell.as_obj::<Userdata>().and_then(|u| u.downcast::<Callback>(&vm.heap).cloned());
    let Some(cb) = found else { return Err(vm.throw_str(b"callback is gone")) };
    let Some(inner) = cb.lua.upgrade() else { return Err(vm.throw_str(b"VM is being dropped")) };
    let lua = Lua { inner };
    let values: MultiValue = args.into_iter().map(|v| lua.value(v)).collect();
    // `vm` is not used from here until the callback has returned (see `Lua::with`).
    let result = (cb.call)(&lua, values).and_then(|out| {
        let raw: Result<Vec<Raw>> = out.iter().map(|v| v.to_raw(&lua)).collect();
        // The handles in `out` live until after the values are on the Lua stack: nothing collects in between.
        raw.map(|r| (r, out))
    });
    match result {
        Ok((raw, _keep)) => {
            vm.ensure_slots(raw.len())?;
            for v in &raw {
                vm.push(*v);
            }
            Ok(Outcome::top(raw.len()))
        }
        Err(Error::RuntimeError { message, .. }) => Err(vm.throw_str(message.as_bytes())),
        Err(e) => {
            let v = glue::error_value(vm, e);
            Err(vm.throw(v))
        }
    }
}

/// A rooted value: alive while this is.
pub(super) struct Ref {
    pub(super) lua: Lua,
    id: RootId,
}

impl Ref {
    pub(super) fn raw_in(&self, vm: &Vm) -> Raw {
        vm.heap.roots.get(self.id)
    }

    pub(super) fn raw(&self) -> Raw {
        self.lua.with(|vm| vm.heap.roots.get(self.id))
    }

    /// The value, if it belongs to this VM.
    pub(super) fn raw_for(&self, lua: &Lua) -> Result<Raw> {
        if self.lua.same(lua) { Ok(self.raw()) } else { Err(Error::MismatchedVm) }
    }
}

impl Clone for Ref {
    fn clone(&self) -> Self {
        let v = self.raw();
        self.lua.root(v)
    }
}

impl Drop for Ref {
    fn drop(&mut self) {
        self.lua.with(|vm| vm.heap.roots.remove(self.id));
    }
}
