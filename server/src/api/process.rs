//! The module `ngx.process`: what kind of process this is.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Value, Vm};

use super::ApiFn;
use crate::conf::model::Level;
use crate::lua::args::{fail, string};
use crate::lua::worker::here;
use crate::phase::{Phase, Phases};
use crate::subprocess::send_signal;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.process.type", Phases::ANY, kind),
    ApiFn::plain("ngx.process.get_master_pid", Phases::ANY, get_master_pid),
    ApiFn::plain("ngx.process.signal_graceful_exit", Phases::ANY, signal_graceful_exit),
    ApiFn::plain("ngx.process.enable_privileged_agent", Phases::ANY, enable_privileged_agent),
];

/// `type()`: `single`, `master`, `worker`, `privileged agent`.
fn kind(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    let name = match w.info.get() {
        Some(i) if i.privileged => "privileged agent",
        Some(i) if i.has_master => "worker",
        Some(_) => "single",
        None if w.config.main.master_process => "master",
        None => "single",
    };
    Ok(Outcome::one(string(vm, name)))
}

/// `get_master_pid()`: this process's own number where there is no master.
fn get_master_pid(_: &mut Vm, _: Entry) -> NativeResult {
    let pid = here().info.get().map_or(std::process::id(), |i| i.master_pid);
    Ok(Outcome::one(Value::num(f64::from(pid))))
}

/// `signal_graceful_exit()`: this process ends when its requests have ended.
fn signal_graceful_exit(_: &mut Vm, _: Entry) -> NativeResult {
    // A signal to oneself arrives.
    let _ = send_signal(std::process::id(), libc::SIGQUIT);
    Ok(Outcome::none())
}

/// `enable_privileged_agent(connections?)`: the master will start a worker that accepts nothing and keeps the
/// master's user. Only in `init_by_lua*`; returns true, or nil and the reason.
fn enable_privileged_agent(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    if w.phase() != Phase::Init {
        return fail(vm, "API disabled in the current context");
    }
    let n = vm.arg(0);
    if !n.is_nil() && !n.as_num().is_some_and(|n| n >= 0.0) {
        return fail(vm, "bad 'connections' argument: number expected and greater than 0");
    }
    if n.as_num() == Some(0.0) {
        let text = "0 worker_connection is not enough, privileged agent process cannot be spawned";
        w.log_plain(Level::Alert, text.as_bytes());
        return Ok(Outcome::one(Value::TRUE));
    }
    w.privileged_agent.set(true);
    Ok(Outcome::one(Value::TRUE))
}
