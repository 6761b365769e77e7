//! Function and coroutine handles.

use std::fmt;

use super::convert::{FromLuaMulti, IntoLuaMulti, MultiValue};
use super::error::{Error, Result};
use super::lua::Ref;
use crate::interp::run::Resume;
use crate::thread::Status;
use crate::value::Value as Raw;

/// A handle to a function.
#[derive(Clone)]
pub struct Function(pub(super) Ref);

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function")
    }
}

impl Function {
    /// Calls it. An error carries the traceback of the place where it was raised.
    pub fn call<R: FromLuaMulti>(&self, args: impl IntoLuaMulti) -> Result<R> {
        let lua = &self.0.lua;
        let args = args.into_lua_multi(lua)?;
        let raw: Result<Vec<Raw>> = args.iter().map(|v| v.to_raw(lua)).collect();
        let out = lua.call_raw(self.0.raw(), &raw?)?;
        let values: MultiValue = out.into_iter().map(|v| lua.value(v)).collect();
        R::from_lua_multi(values, lua)
    }
}

/// A handle to a coroutine.
#[derive(Clone)]
pub struct Thread(pub(super) Ref);

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("thread")
    }
}

/// State of a coroutine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadStatus {
    /// Can be resumed.
    Resumable,
    /// Running, or waiting for a coroutine it resumed.
    Running,
    /// Finished or failed.
    Finished,
}

impl super::Lua {
    /// A coroutine with this body.
    pub fn create_thread(&self, body: Function) -> Result<Thread> {
        let f = body.0.raw_for(self)?;
        let v = self.with(|vm| vm.new_coroutine(f));
        Ok(Thread(self.root(Raw::obj(v))))
    }
}

impl Thread {
    /// Resumes it until it yields or returns.
    pub fn resume<R: FromLuaMulti>(&self, args: impl IntoLuaMulti) -> Result<R> {
        let lua = &self.0.lua;
        if self.status() != ThreadStatus::Resumable {
            return Err(Error::CoroutineUnresumable);
        }
        let args = args.into_lua_multi(lua)?;
        let raw: Result<Vec<Raw>> = args.iter().map(|v| v.to_raw(lua)).collect();
        let raw = raw?;
        let th = self.0.raw().as_obj().expect("a thread handle roots a thread");
        match lua.with(|vm| vm.resume(th, &raw)) {
            Resume::Finished(v) | Resume::Yielded(v) => {
                let values: MultiValue = v.into_iter().map(|v| lua.value(v)).collect();
                R::from_lua_multi(values, lua)
            }
            Resume::Error(e) => Err(lua.error_of(e, Vec::new())),
            Resume::Suspended(_) => Err(Error::runtime("coroutine waits for a host operation")),
        }
    }

    /// Its state.
    pub fn status(&self) -> ThreadStatus {
        self.0.lua.with(|vm| {
            let th: crate::cell::gc_ref::Gc<crate::thread::Thread> =
                self.0.raw_in(vm).as_obj().expect("a thread handle roots a thread");
            match th.get(&vm.heap).status() {
                Status::Suspended => ThreadStatus::Resumable,
                Status::Running | Status::Normal => ThreadStatus::Running,
                Status::Dead => ThreadStatus::Finished,
            }
        })
    }
}
