//! Function and coroutine handles.

use std::fmt;
use std::time::Instant;

use super::convert::{FromLuaMulti, IntoLuaMulti, MultiValue};
use super::error::{Error, Result};
use super::glue;
use super::lua::{Lua, Ref};
use crate::interp::run::Resume;
use crate::state::Vm;
use crate::state::hooks::{Limit, Verdict};
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
    /// Stopped by [`VmState::Yield`]: resuming it goes on where it was, and needs no values.
    Interrupted,
    /// Finished or failed.
    Finished,
}

/// What a program whose limit is spent does next: see [`Lua::set_interrupt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// It goes on.
    Continue,
    /// It stops, with all coroutines it is in, and the host's [`Thread::resume`] returns. Where it cannot (the host
    /// has called a function, or a finalizer or debug hook runs), it goes on.
    Yield,
}

impl Lua {
    /// Sets or removes the limit of loop rounds and calls of everything that runs from now on.
    pub fn set_fuel(&self, fuel: Option<u64>) {
        self.with(|vm| vm.set_fuel(fuel));
    }

    /// Loop rounds and calls left, if they are limited.
    pub fn fuel(&self) -> Option<u64> {
        self.with(|vm| vm.fuel_left())
    }

    /// Sets or removes the time at which everything this VM runs is to end.
    pub fn set_deadline(&self, at: Option<Instant>) {
        self.with(|vm| vm.set_deadline(at));
    }

    /// Sets what decides when fuel or time is spent: to go on (the callback sets a new limit, or is asked again at the
    /// next round or call), to yield to the host, or to raise an error. Without it the program gets an error.
    pub fn set_interrupt<F>(&self, f: F)
    where
        F: Fn(&Lua) -> Result<VmState> + 'static,
    {
        let weak = self.downgrade();
        let ask = move |vm: &mut Vm, _: Limit| {
            let Some(lua) = weak.upgrade() else { return Verdict::Raise };
            // `vm` is not used until the callback has returned (see `Lua::with`).
            match f(&lua) {
                Ok(VmState::Continue) => Verdict::GoOn,
                Ok(VmState::Yield) => Verdict::Yield,
                Err(Error::RuntimeError { message, .. }) => {
                    Verdict::RaiseValue(Raw::obj(vm.heap.str(message.as_bytes())))
                }
                Err(e) => Verdict::RaiseValue(glue::error_value(vm, e)),
            }
        };
        self.with(|vm| vm.on_exhausted = Some(Box::new(ask)));
    }

    /// Takes away what [`Lua::set_interrupt`] has set.
    pub fn remove_interrupt(&self) {
        self.with(|vm| vm.on_exhausted = None);
    }

    /// A coroutine with this body.
    pub fn create_thread(&self, body: Function) -> Result<Thread> {
        let f = body.0.raw_for(self)?;
        let v = self.with(|vm| vm.new_coroutine(f));
        Ok(Thread(self.root(Raw::obj(v))))
    }
}

impl Thread {
    /// Resumes it until it yields or returns, or is interrupted: then there are no values and its status tells.
    pub fn resume<R: FromLuaMulti>(&self, args: impl IntoLuaMulti) -> Result<R> {
        let lua = &self.0.lua;
        let interrupted = match self.status() {
            ThreadStatus::Resumable => false,
            ThreadStatus::Interrupted => true,
            _ => return Err(Error::CoroutineUnresumable),
        };
        let args = args.into_lua_multi(lua)?;
        let raw: Result<Vec<Raw>> = args.iter().map(|v| v.to_raw(lua)).collect();
        let raw = raw?;
        let th = self.0.raw().as_obj().expect("a thread handle roots a thread");
        let r = lua.with(|vm| if interrupted { vm.resume_suspended(th, &[]) } else { vm.resume(th, &raw) });
        match r {
            Resume::Interrupted => R::from_lua_multi(MultiValue::new(), lua),
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
            if vm.is_preempted(th) {
                return ThreadStatus::Interrupted;
            }
            match th.get(&vm.heap).status() {
                Status::Suspended => ThreadStatus::Resumable,
                Status::Running | Status::Normal => ThreadStatus::Running,
                Status::Dead => ThreadStatus::Finished,
            }
        })
    }
}
