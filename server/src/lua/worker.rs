//! One VM and everything its natives share.
//!
//! The VM is entered through `LuaWorker::enter`, which also makes the worker
//! known to natives (`here`). A native must never enter again: it has the VM in
//! its hands. Roots given up inside a native are released at the next entry.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use moonlit_vm::host::Lua;
use moonlit_vm::host::native::{Outcome, RootId, Value, Vm};

use super::thread::{Handoff, Light, Run};
use crate::app::WorkerInfo;
use crate::conf::model::{Config, HttpConf, Level};
use crate::cosocket::pool::Pools;
use crate::flow;
use crate::log::Logs;
use crate::phase::{Phase, Phases};
use crate::regex::Regex;
use crate::request::Request;
use crate::shared::pids::PidTable;
use crate::shared::shdict::ShDict;
use crate::upstream::resolvers::Resolvers;

/// The state of one VM. Lives from before the fork to the end of the worker.
pub struct LuaWorker {
    /// The VM.
    pub lua: Lua,
    /// The configuration.
    pub config: Arc<Config>,
    /// The logs.
    pub logs: Arc<Logs>,
    /// The shared dictionaries, by name.
    pub dicts: HashMap<String, Arc<ShDict>>,
    /// The phases' worker; there once the process serves.
    pub flow: OnceCell<Rc<flow::Worker>>,
    /// The groups of upstream servers; there once the process serves.
    pub upstreams: OnceCell<Rc<crate::upstream::Upstreams>>,
    /// Which worker this is; none in the master.
    pub info: Cell<Option<WorkerInfo>>,
    /// Pools of idle cosockets.
    pub pools: Rc<Pools>,
    /// Who resolves names.
    pub resolvers: Rc<Resolvers>,
    /// Timers waiting and running; counted over all VMs of the process.
    pub timers: Rc<TimerCounts>,
    /// Makes a VM like this one for a request of its own (`lua_code_cache off`).
    pub fresh: OnceCell<Box<dyn Fn() -> Result<Rc<LuaWorker>, String>>>,
    /// Who needs this VM: its request and its timers. Not counted for the worker's own.
    users: Cell<usize>,
    /// Wakes waiting timers when the worker drains.
    pub draining: Rc<tokio::sync::Notify>,
    /// Compiled expressions by pattern and options.
    pub regexes: RefCell<HashMap<(Vec<u8>, u32), Rc<Regex>>>,
    /// Makes further VMs of this kind, for states on other threads.
    pub maker: OnceCell<VmMaker>,
    /// `init_by_lua*` asked for a privileged agent.
    pub privileged_agent: Cell<bool>,
    /// The processes of the workers, by number; shared by all of them.
    pub pids: OnceCell<Arc<PidTable>>,
    /// Phases in which a native may be called, by its number in the VM; none for those without limits.
    pub limits: RefCell<Vec<Option<Limit>>>,
    /// Closures of handlers by code number.
    pub(super) closures: RefCell<Vec<Option<RootId>>>,
    /// Runs whose memory is used again.
    spare_runs: RefCell<Vec<Rc<Run>>>,
    current: RefCell<Option<(Rc<Run>, Rc<Light>)>>,
    handoff: RefCell<Option<Handoff>>,
    waker: RefCell<Waker>,
    strict: OnceCell<bool>,
    dead_roots: RefCell<Vec<RootId>>,
}

/// Runs that a worker keeps.
const RUNS_KEPT_MAX: usize = 64;

/// Makes VMs, on whatever thread they are to live.
pub type VmMaker = Arc<dyn Fn() -> Lua + Send + Sync>;

/// In which phases a native may be called, and the function behind the gate.
#[derive(Clone, Copy)]
pub struct Limit {
    /// The phases.
    pub phases: Phases,
    /// Nothing but a request is needed: a refusal says so.
    pub only_request: bool,
    /// The function.
    pub f: moonlit_vm::host::native::NativeFn,
}

/// How many timers there are.
#[derive(Debug, Default)]
pub struct TimerCounts {
    /// Waiting.
    pub pending: Cell<usize>,
    /// Running.
    pub running: Cell<usize>,
}

thread_local! {
    static HERE: RefCell<Option<Rc<LuaWorker>>> = const { RefCell::new(None) };
}

/// The worker whose VM is running. Only natives ask, so there is one.
pub fn here() -> Rc<LuaWorker> {
    HERE.with_borrow(|h| h.clone()).expect("natives run inside LuaWorker::enter")
}

impl LuaWorker {
    /// The state around a VM.
    pub fn new(
        lua: Lua,
        config: Arc<Config>,
        logs: Arc<Logs>,
        dicts: HashMap<String, Arc<ShDict>>,
    ) -> Rc<LuaWorker> {
        let resolvers = Resolvers::new(&config, &logs);
        Rc::new(LuaWorker {
            lua,
            config,
            logs,
            dicts,
            flow: OnceCell::new(),
            upstreams: OnceCell::new(),
            info: Cell::new(None),
            pools: Pools::new(),
            resolvers,
            timers: Rc::default(),
            fresh: OnceCell::new(),
            users: Cell::new(0),
            draining: Rc::new(tokio::sync::Notify::new()),
            regexes: RefCell::default(),
            maker: OnceCell::new(),
            privileged_agent: Cell::new(false),
            pids: OnceCell::new(),
            limits: RefCell::default(),
            closures: RefCell::default(),
            spare_runs: RefCell::default(),
            current: RefCell::new(None),
            handoff: RefCell::new(None),
            waker: RefCell::new(Waker::noop().clone()),
            strict: OnceCell::new(),
            dead_roots: RefCell::default(),
        })
    }

    /// The state around a VM of its own that works for the same process as `base`.
    pub fn beside(base: &LuaWorker, lua: Lua) -> Rc<LuaWorker> {
        let w = LuaWorker::new(lua, base.config.clone(), base.logs.clone(), base.dicts.clone());
        let mut w = Rc::into_inner(w).expect("made just now");
        w.resolvers = base.resolvers.clone();
        w.timers = base.timers.clone();
        w.draining = base.draining.clone();
        w.info = base.info.clone();
        w.flow = base.flow.clone();
        w.upstreams = base.upstreams.clone();
        w.maker = base.maker.clone();
        w.pids = base.pids.clone();
        w.users = Cell::new(1);
        Rc::new(w)
    }

    /// Whether the VM ends when nobody needs it any more.
    fn is_transient(&self) -> bool {
        self.users.get() > 0
    }

    /// One more needs the VM.
    pub fn retain(&self) {
        if self.is_transient() {
            self.users.set(self.users.get() + 1);
        }
    }

    /// One less needs the VM; the last one ends it. To be called outside of it.
    pub fn release(self: &Rc<Self>) {
        let n = self.users.get();
        if n == 0 {
            return;
        }
        self.debug_plain(|| format!("lua decrementing the reference count for Lua VM: {n}"));
        if n > 1 {
            self.users.set(n - 1);
            return;
        }
        let address = std::ptr::from_ref(&**self) as usize;
        self.debug_plain(|| format!("lua close the global Lua VM {address:X}"));
        self.users.set(0);
        let w = self.clone();
        // Whoever lets it go may still be inside.
        tokio::task::spawn_local(async move {
            w.enter(|vm| {
                vm.close();
                // What natives keep names this worker: it would never go.
                drop(std::mem::take(&mut vm.app));
            });
        });
    }

    /// `http {}`. There is Lua only where there is one.
    pub fn http(&self) -> &HttpConf {
        self.config.http.as_ref().expect("Lua directives stand in http {}")
    }

    /// Whether upstream's refusals to wait are in force: `lua_strict_phases on`, or `MOONLIT_STRICT_PHASES=1`
    /// in the environment.
    pub fn strict(&self) -> bool {
        *self.strict.get_or_init(|| {
            self.config.http.as_ref().is_some_and(|h| h.lua.settings.lua_strict_phases)
                || std::env::var_os("MOONLIT_STRICT_PHASES").is_some_and(|v| v == "1")
        })
    }

    /// Whether code of the phase may wait.
    pub fn may_wait(&self, phase: Phase) -> bool {
        if self.strict() { phase.info().yields } else { !matches!(phase, Phase::Init | Phase::ExitWorker) }
    }

    /// Whether the worker is on its way out.
    pub fn exiting(&self) -> bool {
        self.flow.get().is_some_and(|f| f.env.exiting.get())
    }

    /// Runs `f` with the VM, outside of any native.
    pub fn enter<R>(self: &Rc<Self>, f: impl FnOnce(&mut Vm) -> R) -> R {
        let before = HERE.with_borrow_mut(|h| h.replace(self.clone()));
        let r = self.lua.with(|vm| {
            for id in self.dead_roots.borrow_mut().drain(..) {
                vm.heap.roots.remove(id);
            }
            f(vm)
        });
        HERE.with_borrow_mut(|h| *h = before);
        r
    }

    /// A run that was given back, empty.
    pub(super) fn take_run(&self) -> Option<Rc<Run>> {
        self.spare_runs.borrow_mut().pop()
    }

    /// Keeps an empty run. A run holds its worker, so a VM that ends with its request keeps none.
    pub(super) fn keep_run(&self, run: Rc<Run>) {
        if self.is_transient() {
            return;
        }
        let mut spare = self.spare_runs.borrow_mut();
        if spare.len() < RUNS_KEPT_MAX {
            spare.push(run);
        }
    }

    /// Lets the kept runs go: they hold the worker.
    pub fn forget_runs(&self) {
        self.spare_runs.borrow_mut().clear();
    }

    /// Gives a root up; safe everywhere.
    pub fn drop_root(&self, id: RootId) {
        self.dead_roots.borrow_mut().push(id);
    }

    /// Makes a run and its thread known to natives while `f` runs.
    pub(super) fn with_current<R>(&self, run: &Rc<Run>, light: &Rc<Light>, f: impl FnOnce() -> R) -> R {
        let before = self.current.borrow_mut().replace((run.clone(), light.clone()));
        let r = f();
        *self.current.borrow_mut() = before;
        r
    }

    /// The run that the running code belongs to; none inside `init_by_lua`'s loading of the VM.
    pub fn run(&self) -> Option<Rc<Run>> {
        self.current.borrow().as_ref().map(|(r, _)| r.clone())
    }

    /// The light thread that runs.
    pub fn light(&self) -> Option<Rc<Light>> {
        self.current.borrow().as_ref().map(|(_, l)| l.clone())
    }

    /// The request that the running code handles.
    pub fn request(&self) -> Option<Rc<Request>> {
        self.current.borrow().as_ref().and_then(|(r, _)| r.req.clone())
    }

    /// The phase that runs.
    pub fn phase(&self) -> Phase {
        self.current.borrow().as_ref().map_or(Phase::Init, |(r, _)| r.phase)
    }

    /// Remembers whom operations that natives try on the spot are to wake.
    pub(super) fn set_waker(&self, w: &Waker) {
        self.waker.borrow_mut().clone_from(w);
    }

    /// Runs `f` with the context of the task that drives the running code.
    pub fn with_cx<R>(&self, f: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let w = self.waker.borrow().clone();
        f(&mut Context::from_waker(&w))
    }

    /// Leaves word for the driver and suspends the running chain of coroutines. The values that the
    /// driver comes back with are the native's results (label 0), or it is entered again.
    pub fn suspend(&self, h: Handoff, label: u32) -> Outcome {
        *self.handoff.borrow_mut() = Some(h);
        Outcome::suspend(0, label)
    }

    pub(super) fn take_handoff(&self) -> Option<Handoff> {
        self.handoff.borrow_mut().take()
    }

    /// Logs a line with the context of the running code.
    pub fn log(&self, level: Level, text: &[u8]) {
        match self.run() {
            Some(run) => run.log(level, text),
            None => self.log_plain(level, text),
        }
    }

    /// Whether lines of level debug of the running code are written anywhere.
    pub fn debugging(&self) -> bool {
        match &*self.current.borrow() {
            Some((run, _)) if let Some(req) = &run.req => req.debugging(),
            _ => self.debugging_plain(),
        }
    }

    fn debugging_plain(&self) -> bool {
        let to = match &self.config.http {
            Some(http) => &http.level.error_logs,
            None => &self.config.error_logs,
        };
        to.iter().any(|log| log.level == Level::Debug)
    }

    /// Logs a line at level debug, made only where such lines are written. It carries no context.
    pub fn debug<T: AsRef<[u8]>>(&self, text: impl FnOnce() -> T) {
        if !self.debugging() {
            return;
        }
        match self.request() {
            Some(req) => req.log(Level::Debug, text().as_ref()),
            None => self.log_plain(Level::Debug, text().as_ref()),
        }
    }

    /// The same for what belongs to no request.
    pub fn debug_plain<T: AsRef<[u8]>>(&self, text: impl FnOnce() -> T) {
        if self.debugging_plain() {
            self.log_plain(Level::Debug, text().as_ref());
        }
    }

    /// Logs a line without any request.
    pub fn log_plain(&self, level: Level, text: &[u8]) {
        let to = match &self.config.http {
            Some(http) => &http.level.error_logs,
            None => &self.config.error_logs,
        };
        self.logs.error(to, level, None, text);
    }
}

/// A rooted value: alive while this is. May be dropped anywhere.
pub struct Rooted {
    worker: Rc<LuaWorker>,
    id: RootId,
}

impl Rooted {
    /// Keeps a value alive.
    pub fn new(worker: &Rc<LuaWorker>, vm: &mut Vm, v: Value) -> Rooted {
        Rooted { worker: worker.clone(), id: vm.heap.roots.add(v) }
    }

    /// The value.
    pub fn get(&self, vm: &Vm) -> Value {
        vm.heap.roots.get(self.id)
    }

    /// The root's number, for the log.
    pub fn number(&self) -> u32 {
        self.id.number()
    }

    /// Replaces the value.
    pub fn set(&self, vm: &mut Vm, v: Value) {
        vm.heap.roots.set(self.id, v);
    }
}

impl Drop for Rooted {
    fn drop(&mut self) {
        self.worker.drop_root(self.id);
    }
}
