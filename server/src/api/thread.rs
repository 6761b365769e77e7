//! Light threads: `ngx.thread.spawn`, `wait`, `kill`.

use std::rc::Rc;
use std::task::Poll;

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Thread, Value, Vm};

use super::ApiFn;
use crate::lua::args::fail;
use crate::lua::thread::{Handoff, Light, Standing};
use crate::lua::worker::here;
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::yields("ngx.thread.spawn", Phases::YIELDABLE, spawn),
    ApiFn::yields("ngx.thread.wait", Phases::YIELDABLE, wait),
    ApiFn::yields("ngx.thread.kill", Phases::YIELDABLE, kill),
];

/// `ngx.thread.spawn(f, ...)`: starts a light thread, which runs at once until it waits. Returns its coroutine.
fn spawn(vm: &mut Vm, _: Entry) -> NativeResult {
    vm.check_func(0)?;
    let f = vm.arg(0);
    let args = (1..vm.nargs()).map(|i| vm.arg(i)).collect();
    Ok(here().suspend(Handoff::Spawn { f, args }, 0))
}

fn light_of(vm: &mut Vm, i: usize) -> Result<Option<Rc<Light>>, Raised> {
    let w = here();
    let Some(co) = vm.arg(i).as_obj::<Thread>() else { return Err(vm.type_error(i, "coroutine")) };
    Ok(w.run().and_then(|run| run.find(vm, co)))
}

fn is_parent(child: &Light) -> bool {
    match (child.parent(), here().light()) {
        (Some(p), Some(me)) => Rc::ptr_eq(p, &me),
        _ => false,
    }
}

/// `ngx.thread.wait(...)`: waits for the first of the threads to end; returns true and its results, or false
/// and its error.
///
/// Raises `only the parent coroutine can wait on the thread`, `attempt to wait on a coroutine that is not a
/// user thread`, `already waited or killed`.
fn wait(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut lights = Vec::new();
    for i in 0..vm.nargs().max(1) {
        let Some(l) = light_of(vm, i)?.filter(|l| !l.is_entry()) else {
            return Err(vm.throw_str(b"attempt to wait on a coroutine that is not a user thread"));
        };
        if !is_parent(&l) {
            return Err(vm.throw_str(b"only the parent coroutine can wait on the thread"));
        }
        if l.standing() == Standing::Gone {
            return Err(vm.throw_str(b"already waited or killed"));
        }
        lights.push(l);
    }
    let pending = move |vm: &mut Vm, _: &mut std::task::Context<'_>| {
        for l in &lights {
            if let Some((ok, values)) = l.reap(vm) {
                let mut out = vec![Value::bool(ok)];
                out.extend(values);
                return Poll::Ready(out);
            }
        }
        if lights.iter().all(|l| l.standing() == Standing::Gone) {
            return Poll::Ready(vec![Value::FALSE]);
        }
        Poll::Pending
    };
    let w = here();
    match w.with_cx(|cx| pending(vm, cx)) {
        Poll::Ready(values) => crate::lua::args::results(vm, &values),
        Poll::Pending => Ok(w.suspend(Handoff::Wait(Box::new(pending)), 0)),
    }
}

/// `ngx.thread.kill(thread)`: 1, or nil and `already waited or killed`, `already terminated`,
/// `not user thread`, `killer not parent`.
fn kill(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(l) = light_of(vm, 0)?.filter(|l| !l.is_entry()) else { return fail(vm, "not user thread") };
    if !is_parent(&l) {
        return fail(vm, "killer not parent");
    }
    match l.standing() {
        Standing::Alive => {
            l.kill();
            Ok(Outcome::one(Value::int(1)))
        }
        Standing::Zombie => fail(vm, "already terminated"),
        Standing::Gone => fail(vm, "already waited or killed"),
    }
}
