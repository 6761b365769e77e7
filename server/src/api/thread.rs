//! Light threads: `ngx.thread.spawn`, `wait`, `kill`.

use std::rc::Rc;
use std::task::Poll;

use moonlit_vm::host::native::{Entry, NativeResult, NativeRow, Outcome, Raised, Table, Thread, Value, Vm};

use super::ApiFn;
use crate::lua::args::{fail, set_field, string};
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
    let by = Value::obj(vm.cur);
    Ok(here().suspend(Handoff::Spawn { f, args, by }, 0))
}

fn light_of(vm: &mut Vm, i: usize) -> Result<Option<Rc<Light>>, Raised> {
    let w = here();
    let Some(co) = vm.arg(i).as_obj::<Thread>() else { return Err(vm.arg_error(i, b"lua thread expected")) };
    Ok(w.run().and_then(|run| run.find(vm, co)))
}

/// Puts a `coroutine.status` in place that knows light threads.
pub fn install(vm: &mut Vm) {
    let Some(t) = vm.global(b"coroutine").as_obj::<Table>() else { return };
    let plain = t.get_bytes(&vm.heap, b"status");
    let f = vm.new_native(NativeRow::new("coroutine.status", status), &[plain]);
    set_field(vm, t, b"status", Value::obj(f));
}

/// `coroutine.status(co)`: a light thread is `running` while it waits, `zombie` when it has ended and its parent
/// has not asked for it.
fn status(vm: &mut Vm, _: Entry) -> NativeResult {
    let co = vm.arg(0).as_obj::<Thread>();
    let light = co.and_then(|co| here().run().and_then(|run| run.find(vm, co)));
    let text = match light.as_ref().map(|l| (l, l.standing())) {
        Some((_, Standing::Alive)) if co != Some(vm.cur) => {
            let waits = light.as_ref().is_some_and(|l| !here().light().is_some_and(|me| Rc::ptr_eq(&me, l)));
            if waits { Some("running") } else { None }
        }
        Some((l, Standing::Zombie)) => {
            let asked = l.parent().is_some_and(|p| p.standing() == Standing::Alive);
            Some(if asked { "zombie" } else { "dead" })
        }
        Some((_, Standing::Gone)) => Some("dead"),
        _ => None,
    };
    if let Some(text) = text {
        return Ok(Outcome::one(string(vm, text)));
    }
    let (plain, v) = (vm.upvalue(0), vm.arg(0));
    vm.prepare_call(plain);
    vm.push(v);
    Ok(Outcome::tail_call(1))
}

/// `ngx.thread.wait(...)`: waits for the first of the threads to end; returns true and its results, or false
/// and its error.
///
/// Nil and `already waited or killed` when the last one is. Raises `at least one coroutine should be specified`,
/// `only the parent coroutine can wait on the thread`, `attempt to wait on a coroutine that is not a user
/// thread`.
fn wait(vm: &mut Vm, _: Entry) -> NativeResult {
    let mut lights = Vec::new();
    let n = vm.nargs();
    if n == 0 {
        return Err(vm.throw_str(b"at least one coroutine should be specified"));
    }
    for i in 0..n {
        let Some(l) = light_of(vm, i)?.filter(|l| !l.is_entry()) else {
            return Err(vm.throw_str(b"attempt to wait on a coroutine that is not a user thread"));
        };
        if !l.is_child_of(vm, vm.cur) {
            return Err(vm.throw_str(b"only the parent coroutine can wait on the thread"));
        }
        match l.standing() {
            // Whoever stands later is not looked at.
            Standing::Zombie => {
                lights = vec![l];
                break;
            }
            Standing::Gone if i + 1 == n => return fail(vm, "already waited or killed"),
            Standing::Gone => {}
            Standing::Alive => lights.push(l),
        }
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
    if !l.is_child_of(vm, vm.cur) {
        return fail(vm, "killer not parent");
    }
    match l.standing() {
        Standing::Alive if l.subrequests.get() > 0 => fail(vm, "pending subrequests"),
        Standing::Alive => {
            l.kill();
            Ok(Outcome::one(Value::int(1)))
        }
        Standing::Zombie => fail(vm, "already terminated"),
        Standing::Gone => fail(vm, "already waited or killed"),
    }
}
