//! `ngx.worker.*`.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Value, Vm};

use super::{ApiFn, yes};
use crate::conf::settings::WorkerCount;
use crate::lua::args::{fail, set_index};
use crate::lua::worker::here;
use crate::phase::{Phase, Phases};

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.worker.pid", Phases::ANY, pid),
    ApiFn::plain("ngx.worker.id", Phases::ANY, id),
    ApiFn::plain("ngx.worker.pids", Phases::ANY, pids),
    ApiFn::plain("ngx.worker.count", Phases::ANY, count),
    ApiFn::plain("ngx.worker.exiting", Phases::ANY, exiting),
];

/// `ngx.worker.pid()`.
fn pid(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(f64::from(std::process::id()))))
}

/// `ngx.worker.pids()`: the processes of all workers; nil and `API disabled in the current context` in
/// `init_by_lua*` and `init_worker_by_lua*`.
fn pids(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    if matches!(w.phase(), Phase::Init | Phase::InitWorker) {
        return fail(vm, "API disabled in the current context");
    }
    let pids = w.pids.get().map_or_else(|| vec![std::process::id()], |p| p.all());
    let t = vm.heap.new_table(pids.len() as u32 + 1, 0);
    for (i, pid) in pids.iter().enumerate() {
        set_index(vm, t, i + 1, Value::num(f64::from(*pid)));
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// `ngx.worker.id()`: from 0; nil in the master and in the privileged agent.
fn id(_: &mut Vm, _: Entry) -> NativeResult {
    let id = here().info.get().filter(|i| !i.privileged).map(|i| Value::num(f64::from(i.id)));
    Ok(Outcome::one(id.unwrap_or(Value::NIL)))
}

/// `ngx.worker.count()`.
fn count(_: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    let n = match (w.info.get(), w.config.main.worker_processes) {
        (Some(info), _) => info.count,
        (None, WorkerCount::Fixed(n)) => n,
        (None, WorkerCount::Auto) => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
    };
    Ok(Outcome::one(Value::num(f64::from(n))))
}

/// `ngx.worker.exiting()`.
fn exiting(_: &mut Vm, _: Entry) -> NativeResult {
    yes(here().exiting())
}
