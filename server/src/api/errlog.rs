//! The module `ngx.errlog`: lines of the error log that were kept for scripts, and raw lines into it.

use moonlit_vm::host::native::{Entry, NativeResult, Outcome, Raised, Table, Value, Vm};

use super::ApiFn;
use crate::conf::model::{ErrorLogs, Level};
use crate::lua::args::{fail, set_index, string};
use crate::lua::worker::{LuaWorker, here};
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.errlog.set_filter_level", Phases::ANY, set_filter_level),
    ApiFn::plain("ngx.errlog.get_logs", Phases::ANY, get_logs),
    ApiFn::plain("ngx.errlog.get_sys_filter_level", Phases::ANY, get_sys_filter_level),
    ApiFn::plain("ngx.errlog.raw_log", Phases::ANY, raw_log),
];

/// The error of a configuration that keeps no lines.
const NOT_KEPT: &str = "directive \"lua_capture_error_log\" is not set";
/// How many lines `get_logs` gives when it is not told.
const LOGS_DEFAULT: f64 = 10.0;
/// Most lines that it gives.
const LOGS_MAX: f64 = 1e6;

/// `set_filter_level(level)`: from now on only lines of this level and graver ones are kept.
///
/// Returns true, or nil and `missing "level" argument`, `bad log level: N`, the error of a configuration
/// that keeps none.
fn set_filter_level(vm: &mut Vm, _: Entry) -> NativeResult {
    if !vm.arg(0).truthy() {
        return fail(vm, "missing \"level\" argument");
    }
    let n = vm.check_int(0)?;
    let level = Level::from_number(i64::from(n));
    let set = here().logs.captured(|c| level.map(|l| c.set_level(l)));
    match set {
        None => fail(vm, NOT_KEPT),
        Some(None) => fail(vm, &format!("bad log level: {n}")),
        Some(Some(())) => Ok(Outcome::one(Value::TRUE)),
    }
}

/// `get_logs(max?, res?)`: takes the oldest kept lines out: an array of level, time, text, level, ...
fn get_logs(vm: &mut Vm, _: Entry) -> NativeResult {
    let max = vm.to_number(vm.arg(0)).unwrap_or(LOGS_DEFAULT).clamp(0.0, LOGS_MAX) as usize;
    let w = here();
    let lines = w.logs.captured(|c| std::iter::from_fn(|| c.pop()).take(max).collect::<Vec<_>>());
    let Some(lines) = lines else { return fail(vm, NOT_KEPT) };
    let t = match vm.arg(1).as_obj::<Table>() {
        Some(t) => t,
        None => vm.heap.new_table(lines.len() as u32 * 3 + 1, 0),
    };
    let mut n = 0;
    for line in lines {
        let text = string(vm, &line.text);
        set_index(vm, t, n + 1, Value::int(line.level as i32));
        set_index(vm, t, n + 2, Value::num(line.time_ms as f64 / 1000.0));
        set_index(vm, t, n + 3, text);
        n += 3;
    }
    // A table that is used again ends here.
    set_index(vm, t, n + 1, Value::NIL);
    Ok(Outcome::one(Value::obj(t)))
}

/// The logs in force where the running code stands.
pub fn logs_here(w: &LuaWorker) -> ErrorLogs {
    match w.request() {
        Some(req) => req.location().error_logs.clone(),
        None => w.config.http.as_ref().map_or(w.config.error_logs.clone(), |h| h.level.error_logs.clone()),
    }
}

/// `get_sys_filter_level()`: the level of the error log in force.
fn get_sys_filter_level(_: &mut Vm, _: Entry) -> NativeResult {
    let logs = logs_here(&here());
    let level = logs.iter().map(|l| l.level).max().unwrap_or(Level::Error);
    Ok(Outcome::one(Value::int(level as i32)))
}

fn argument_error(vm: &mut Vm, n: usize, kind: &str) -> Raised {
    vm.throw_str(format!("bad argument #{n} to 'raw_log' (must be a {kind})").as_bytes())
}

/// `raw_log(level, text)`: a line without the caller's place.
///
/// Raises `bad log level`.
fn raw_log(vm: &mut Vm, _: Entry) -> NativeResult {
    let Some(n) = vm.arg(0).as_num() else { return Err(argument_error(vm, 1, "number")) };
    if vm.arg(1).type_name() != "string" {
        return Err(argument_error(vm, 2, "string"));
    }
    let Some(level) = Level::from_number(n as i64) else { return Err(vm.throw_str(b"bad log level")) };
    let text = vm.raw_text(vm.arg(1));
    here().log(level, &text);
    Ok(Outcome::none())
}
