//! `ngx.worker.*`.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Value, Vm};

use super::{ApiFn, yes};
use crate::conf::settings::WorkerCount;
use crate::lua::worker::here;
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.worker.pid", Phases::ANY, pid),
    ApiFn::plain("ngx.worker.id", Phases::ANY, id),
    ApiFn::plain("ngx.worker.count", Phases::ANY, count),
    ApiFn::plain("ngx.worker.exiting", Phases::ANY, exiting),
];

/// `ngx.worker.pid()`.
fn pid(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(f64::from(std::process::id()))))
}

/// `ngx.worker.id()`: from 0; nil in the master.
fn id(_: &mut Vm, _: Entry) -> NativeResult {
    let id = here().info.get().map(|i| Value::num(f64::from(i.id)));
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
