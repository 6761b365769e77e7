//! `ngx.run_worker_thread`: a module's function in a Lua state of its own, on a thread of its own.
//!
//! A state lives on its thread; what crosses are plain copies. States are made when they are first needed, up
//! to `lua_worker_thread_vm_pool_size`; how many run at a time is up to the `thread_pool` that is named.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, mpsc};

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Table, Value, Vm};
use tokio::sync::{Semaphore, oneshot};

use super::ApiFn;
use crate::cpu_time;
use crate::lua::args::{pairs, results, string};
use crate::lua::bridge::wait;
use crate::lua::worker::{LuaWorker, here};
use crate::phase::Phases;

/// The functions.
pub const FNS: &[ApiFn] = &[ApiFn::yields("ngx.run_worker_thread", Phases::YIELDABLE, run_worker_thread)];

/// Deepest nesting of tables that are copied.
const DEPTH_MAX: usize = 100;

/// A value between two states.
enum Plain {
    Nil,
    Bool(bool),
    Number(f64),
    Pointer(u64),
    Text(Vec<u8>),
    Table(Vec<(Plain, Plain)>),
}

/// Copies a value out of a state; the error says what cannot be copied.
fn copy_out(vm: &Vm, v: Value, allow_nil: bool, depth: usize) -> Result<Plain, String> {
    if let Some(t) = v.as_obj::<Table>() {
        if depth >= DEPTH_MAX {
            return Err(format!("suspicious circular references, table depth exceed max depth: {DEPTH_MAX}"));
        }
        let mut out = Vec::new();
        for (k, v) in pairs(vm, t) {
            out.push((copy_out(vm, k, false, depth + 1)?, copy_out(vm, v, false, depth + 1)?));
        }
        return Ok(Plain::Table(out));
    }
    Ok(match v.type_name() {
        "nil" if allow_nil => Plain::Nil,
        "boolean" => Plain::Bool(v.truthy()),
        "number" => Plain::Number(v.as_num().unwrap_or(0.0)),
        "string" => Plain::Text(vm.raw_text(v)),
        "userdata" if !v.is_gc() => Plain::Pointer(vm.lightud_addr(v)),
        "nil" => return Err("unsupported Lua type: LUA_TNIL".into()),
        "function" => return Err("unsupported Lua type: LUA_TFUNCTION".into()),
        "userdata" => return Err("unsupported Lua type: LUA_TUSERDATA".into()),
        "thread" => return Err("unsupported Lua type: LUA_TTHREAD".into()),
        _ => return Err("unsupported Lua type".into()),
    })
}

/// Makes the value in a state.
fn copy_in(vm: &mut Vm, p: Plain) -> Value {
    match p {
        Plain::Nil => Value::NIL,
        Plain::Bool(b) => Value::bool(b),
        Plain::Number(n) => Value::num(n),
        Plain::Pointer(p) => vm.lightud(p).unwrap_or(Value::NIL),
        Plain::Text(t) => string(vm, t),
        Plain::Table(list) => {
            let t = vm.heap.new_table(0, 0);
            for (k, v) in list {
                let k = copy_in(vm, k);
                let v = copy_in(vm, v);
                // A key that was one there is one here; the table is far below any limit.
                let _ = t.setv(&mut vm.heap, k, v);
            }
            Value::obj(t)
        }
    }
}

/// What a state is to do.
struct Job {
    module: Vec<u8>,
    function: Vec<u8>,
    args: Vec<Plain>,
    /// Time on CPU that it may take, in microseconds; 0 is any.
    limit_us: u64,
    done: oneshot::Sender<Done>,
}

/// What came of it: results, or the error.
type Done = Result<Vec<Plain>, Vec<u8>>;

/// The way to a state on its thread.
type State = mpsc::Sender<Job>;

/// The states of a worker, and the pools that limit how many of them run.
struct States {
    idle: RefCell<Vec<State>>,
    made: Cell<usize>,
    pools: RefCell<HashMap<Vec<u8>, Rc<Pool>>>,
}

struct Pool {
    running: Arc<Semaphore>,
    waiting: Cell<usize>,
    max_queue: usize,
}

fn states(vm: &mut Vm) -> Rc<States> {
    if let Some(s) = vm.app.get::<Rc<States>>() {
        return s.clone();
    }
    let s = Rc::new(States { idle: RefCell::default(), made: Cell::new(0), pools: RefCell::default() });
    vm.app.set(s.clone());
    s
}

impl States {
    fn pool(&self, w: &LuaWorker, name: &[u8]) -> Option<Rc<Pool>> {
        if let Some(p) = self.pools.borrow().get(name) {
            return Some(p.clone());
        }
        let conf = w.config.thread_pools.iter().find(|p| *p.name == *name)?;
        let pool = Rc::new(Pool {
            running: Arc::new(Semaphore::new(conf.threads)),
            waiting: Cell::new(0),
            max_queue: conf.max_queue,
        });
        self.pools.borrow_mut().insert(name.to_vec(), pool.clone());
        Some(pool)
    }

    /// An idle state, or a new one if there may be another.
    fn take(&self, vm: &mut Vm, w: &Rc<LuaWorker>) -> Option<State> {
        if let Some(s) = self.idle.borrow_mut().pop() {
            return Some(s);
        }
        let max = w.http().lua.settings.lua_worker_thread_vm_pool_size;
        if self.made.get() as u64 >= max {
            return None;
        }
        let make = w.maker.get()?.clone();
        let paths = vm.global(b"package").as_obj::<Table>().map(|t| {
            [&b"path"[..], b"cpath"].map(|n| {
                let v = t.get_bytes(&vm.heap, n);
                vm.raw_text(v)
            })
        });
        let (config, logs, dicts) = (w.config.clone(), w.logs.clone(), w.dicts.clone());
        let (tx, rx) = mpsc::channel();
        let thread = std::thread::Builder::new().name("lua state".into()).spawn(move || {
            let w = LuaWorker::new(make(), config, logs, dicts);
            super::install_for_threads(&w);
            if let Some([path, cpath]) = paths {
                w.enter(|vm| {
                    let Some(t) = vm.global(b"package").as_obj::<Table>() else { return };
                    for (name, text) in [(&b"path"[..], path), (b"cpath", cpath)] {
                        let v = string(vm, text);
                        crate::lua::args::set_field(vm, t, name, v);
                    }
                });
            }
            serve(&w, &rx);
        });
        thread.ok()?;
        self.made.set(self.made.get() + 1);
        Some(tx)
    }
}

/// The life of a state: one job after the other until nobody can send any more.
fn serve(w: &Rc<LuaWorker>, jobs: &mpsc::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        let done = w.enter(|vm| {
            let done = run_limited(vm, job.limit_us, |vm| run(vm, &job.module, &job.function, job.args));
            vm.collect_garbage();
            done
        });
        // Nobody waits any more when the thread that asked was killed.
        let _ = job.done.send(done);
    }
}

/// Runs a job, which ends when it has used up its time, whatever it catches.
fn run_limited(vm: &mut Vm, limit_us: u64, job: impl FnOnce(&mut Vm) -> Done) -> Done {
    if limit_us == 0 {
        return job(vm);
    }
    let handle = vm.interrupt_handle();
    let left = i64::try_from(limit_us).unwrap_or(i64::MAX);
    match cpu_time::limited(&handle, limit_us, left, || job(vm)) {
        Ok((done, _)) if vm.end_overrun() && done.is_ok() => Err(b"CPU time limit exceeded".to_vec()),
        Ok((done, _)) => done,
        Err(_) => Err(b"lua_cpu_limit cannot be kept".to_vec()),
    }
}

fn error_text(vm: &mut Vm) -> Vec<u8> {
    let e = vm.take_error();
    crate::lua::args::text_of(vm, e).unwrap_or_default()
}

fn run(vm: &mut Vm, module: &[u8], function: &[u8], args: Vec<Plain>) -> Done {
    let require = vm.global(b"require");
    let name = string(vm, module);
    let module: Gc<Table> = match vm.call(require, &[name]) {
        Err(_) => return Err(error_text(vm)),
        Ok(values) => match values.first().and_then(|v| v.as_obj()) {
            Some(t) => t,
            None => return Err(b"invalid lua module".to_vec()),
        },
    };
    let f = module.get_bytes(&vm.heap, function);
    if f.type_name() != "function" {
        return Err(b"invalid function".to_vec());
    }
    let args: Vec<Value> = args.into_iter().map(|p| copy_in(vm, p)).collect();
    match vm.call(f, &args) {
        Err(_) => Err(error_text(vm)),
        Ok(values) => values
            .into_iter()
            .map(|v| copy_out(vm, v, true, 1))
            .collect::<Result<_, _>>()
            .map_err(|e| format!("{e} in the return value").into_bytes()),
    }
}

fn refuse(vm: &mut Vm, text: impl AsRef<[u8]>) -> NativeResult {
    let text = string(vm, text);
    results(vm, &[Value::FALSE, text])
}

fn text_arg(vm: &Vm, i: usize) -> Option<Vec<u8>> {
    crate::lua::args::text_of(vm, vm.arg(i))
}

/// `ngx.run_worker_thread(pool, module, function, ...)`: true and what the function returns, or false and why not.
///
/// Errors: `expecting at least 3 arguments`, `threadpool should be a string`, `thread pool X not found`,
/// `module name should be a string`, `function name should be a string`, `no available Lua vm`,
/// `invalid lua module`, `invalid function`, `unsupported Lua type: T in the argument` (or `in the return
/// value`), `ngx_thread_task_post failed` for a full queue, and whatever the function raises.
fn run_worker_thread(vm: &mut Vm, _: Entry) -> NativeResult {
    let w = here();
    if vm.nargs() < 3 {
        return refuse(vm, "expecting at least 3 arguments");
    }
    let Some(name) = text_arg(vm, 0) else { return refuse(vm, "threadpool should be a string") };
    let states = states(vm);
    let Some(pool) = states.pool(&w, &name) else {
        return refuse(vm, format!("thread pool {} not found", String::from_utf8_lossy(&name)));
    };
    let Some(module) = text_arg(vm, 1) else { return refuse(vm, "module name should be a string") };
    let Some(function) = text_arg(vm, 2) else { return refuse(vm, "function name should be a string") };
    let args: Result<Vec<Plain>, String> =
        (3..vm.nargs()).map(|i| copy_out(vm, vm.arg(i), true, 1)).collect();
    let args = match args {
        Ok(a) => a,
        Err(e) => return refuse(vm, format!("{e} in the argument")),
    };
    if pool.running.available_permits() == 0 && pool.waiting.get() >= pool.max_queue {
        return refuse(vm, "ngx_thread_task_post failed");
    }
    let limit_ms = match w.request() {
        Some(req) => req.location().lua_cpu_limit,
        None => w.http().level.lua_cpu_limit,
    };
    let limit_us = limit_ms.saturating_mul(1000);
    let Some(state) = states.take(vm, &w) else { return refuse(vm, "no available Lua vm") };
    let (tell, told) = oneshot::channel();
    tokio::task::spawn_local(async move {
        pool.waiting.set(pool.waiting.get() + 1);
        let permit = pool.running.acquire().await;
        pool.waiting.set(pool.waiting.get() - 1);
        let (done, finished) = oneshot::channel();
        let lost = || Err(b"the Lua state is gone".to_vec());
        let outcome = match state.send(Job { module, function, args, limit_us, done }) {
            Ok(()) => finished.await.unwrap_or_else(|_| lost()),
            Err(_) => lost(),
        };
        drop(permit);
        states.idle.borrow_mut().push(state);
        // The thread that asked may have been killed.
        let _ = tell.send(outcome);
    });
    wait(vm, told, |vm, outcome| match outcome {
        Ok(Ok(values)) => {
            let mut out = vec![Value::TRUE];
            for p in values {
                out.push(copy_in(vm, p));
            }
            out
        }
        Ok(Err(text)) => vec![Value::FALSE, string(vm, text)],
        Err(_) => vec![Value::FALSE, string(vm, "the worker is exiting")],
    })
}
