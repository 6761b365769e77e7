//! `ngx.timer.at`, `ngx.timer.every` and their counts.

use std::rc::Rc;
use std::time::Duration;

use moonlit_vm::host::native::{Entry, Func, NativeResult, Outcome, Value, Vm};

use super::ApiFn;
use crate::conf::model::Level;
use crate::lua::args::fail;
use crate::lua::bridge::{Start, drive};
use crate::lua::thread::Run;
use crate::lua::worker::{LuaWorker, Rooted, here};
use crate::phase::{Phase, Phases};

/// Where timers may be made: not before the workers are there, not when they exit.
const PHASES: Phases = Phases::ANY.without(Phases::of(Phase::Init)).without(Phases::of(Phase::ExitWorker));

/// The functions.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.timer.at", PHASES, at),
    ApiFn::plain("ngx.timer.every", PHASES, every),
    ApiFn::plain("ngx.timer.pending_count", Phases::ANY, pending_count),
    ApiFn::plain("ngx.timer.running_count", Phases::ANY, running_count),
];

/// `ngx.timer.at(delay, f, ...)`: runs `f(premature, ...)` once, outside of any request.
///
/// Returns 1, or nil and `process exiting`, `too many pending timers`.
fn at(vm: &mut Vm, _: Entry) -> NativeResult {
    create(vm, false)
}

/// `ngx.timer.every(delay, f, ...)`: the same again and again.
fn every(vm: &mut Vm, _: Entry) -> NativeResult {
    create(vm, true)
}

fn create(vm: &mut Vm, repeat: bool) -> NativeResult {
    let delay = vm.check_num(0)?;
    vm.check_func(1)?;
    if !(delay >= 0.0) {
        return Err(vm.arg_error(0, b"delay cannot be negative"));
    }
    if repeat && delay == 0.0 {
        return Err(vm.arg_error(0, b"delay cannot be zero"));
    }
    let w = here();
    if w.exiting() && delay > 0.0 {
        return fail(vm, "process exiting");
    }
    let max = w.http().lua.settings.lua_max_pending_timers as usize;
    if w.timers.pending.get() >= max {
        return fail(vm, "too many pending timers");
    }
    w.timers.pending.set(w.timers.pending.get() + 1);
    let args: Rc<Vec<Rooted>> = Rc::new(
        (1..vm.nargs())
            .map(|i| {
                let v = vm.arg(i);
                Rooted::new(&w, vm, v)
            })
            .collect(),
    );
    let ms = (delay * 1000.0).min(1e15) as u64;
    let origin = origin(&w);
    set(&w, args, ms, repeat, origin);
    Ok(Outcome::one(Value::int(1)))
}

/// What the timer's log lines say about who made it: the client, and the address it came to.
fn origin(w: &LuaWorker) -> Option<Rc<[u8]>> {
    let run = w.run()?;
    let Some(req) = &run.req else { return run.origin.borrow().clone() };
    let mut text = b", client: ".to_vec();
    req.write_remote_addr(&mut text);
    if let Some(listen) = w.config.listening_on(req.conn.local) {
        text.extend_from_slice(format!(", server: {listen}").as_bytes());
    }
    Some(text.into())
}

/// `@file.lua:3` of the function that a timer was to run.
fn defined_at(vm: &Vm, f: Value) -> String {
    let lua = f.as_obj::<Func>().and_then(|f| f.as_lua(&vm.heap)).map(|f| f.get(&vm.heap).proto);
    match lua {
        Some(proto) => {
            let p = proto.get(&vm.heap);
            format!("{}:{}", String::from_utf8_lossy(p.chunkname.bytes(&vm.heap)), p.firstline)
        }
        None => "=[C]:-1".to_owned(),
    }
}

/// Has the function run after that time; a repeating timer sets itself anew.
fn set(w: &Rc<LuaWorker>, args: Rc<Vec<Rooted>>, ms: u64, repeat: bool, origin: Option<Rc<[u8]>>) {
    w.retain();
    let w = w.clone();
    tokio::task::spawn_local(async move {
        run_timer(&w, args, ms, repeat, origin).await;
        w.release();
    });
}

/// Waits and runs the function once; a repeating timer is set anew before that. A timer without delay
/// is never premature: it may be made while the worker exits.
async fn run_timer(
    w: &Rc<LuaWorker>,
    args: Rc<Vec<Rooted>>,
    ms: u64,
    repeat: bool,
    origin: Option<Rc<[u8]>>,
) {
    let premature = if ms == 0 {
        // The task itself comes after the handler that made it, and in the order they were made.
        false
    } else if w.exiting() {
        true
    } else {
        let draining = w.draining.clone();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(ms)) => false,
            () = draining.notified() => true,
        }
    };
    crate::http1::clock::update();
    w.debug_plain(|| "lua ngx.timer expired");
    let counts = &w.timers;
    if repeat && !premature && !w.exiting() {
        set(w, args.clone(), ms, repeat, origin.clone());
    } else {
        counts.pending.set(counts.pending.get() - 1);
    }
    let max = w.http().lua.settings.lua_max_running_timers as usize;
    if counts.running.get() >= max {
        let at = w.enter(|vm| defined_at(vm, args[0].get(vm)));
        let text = format!(
            "lua failed to run timer with function defined at {at}: {max} lua_max_running_timers are not enough"
        );
        w.log_plain(Level::Alert, text.as_bytes());
        return;
    }
    counts.running.set(counts.running.get() + 1);
    let run = Run::new(w, None, Phase::Timer);
    *run.origin.borrow_mut() = origin;
    let parts = w.enter(|vm| {
        let mut values: Vec<Value> = args.iter().map(|a| a.get(vm)).collect();
        values.insert(1, Value::bool(premature));
        values.into_iter().map(|v| Rooted::new(w, vm, v)).collect::<Vec<_>>()
    });
    drive(&run, Start::Function(parts)).await;
    w.debug_plain(|| "http lua close fake http connection");
    counts.running.set(counts.running.get() - 1);
}

/// `ngx.timer.pending_count()`.
fn pending_count(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(here().timers.pending.get() as f64)))
}

/// `ngx.timer.running_count()`.
fn running_count(_: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::num(here().timers.running.get() as f64)))
}
