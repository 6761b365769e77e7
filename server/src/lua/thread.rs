//! One handler run and its light threads: who is ready, who waits for what, how it ends.
//!
//! A run begins with its entry thread. Threads spawned by it run until they
//! wait; whoever is ready is resumed in order. The run ends when all threads
//! have ended or one of them decided about the request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use moonlit_vm::host::native::{Gc, Resume, Thread, Value, Vm};

use super::abort::OnAbort;
use super::args::text_of;
use super::children::Child;
use super::worker::{LuaWorker, Rooted};
use crate::conf::error::os_text;
use crate::conf::model::Level;
use crate::cpu_time;
use crate::flow::Verdict;
use crate::phase::Phase;
use crate::request::Request;

/// What a thread waits for. Ready with the values its native returns.
pub type Pending = Box<dyn FnMut(&mut Vm, &mut Context<'_>) -> Poll<Vec<Value>>>;

/// What a native leaves for the driver when it suspends.
pub enum Handoff {
    /// The thread waits.
    Wait(Pending),
    /// A light thread is to be started with these arguments; its coroutine is the result.
    Spawn {
        /// Its function.
        f: Value,
        /// Its arguments.
        args: Vec<Value>,
        /// The coroutine that spawns it.
        by: Value,
    },
    /// The run ends: the native has stored what is to happen.
    End,
}

/// What the chunk of a body filter is.
#[derive(Debug, Default)]
pub struct BodyArg {
    /// `ngx.arg[1]`.
    pub data: Vec<u8>,
    /// `ngx.arg[2]`.
    pub eof: bool,
}

/// One run of a handler.
pub struct Run {
    /// The worker.
    pub worker: Rc<LuaWorker>,
    /// The request; none in timers and at worker start and end.
    pub req: Option<Rc<Request>>,
    /// The phase.
    pub phase: Phase,
    /// What a thread decided about the request.
    pub outcome: RefCell<Option<Verdict>>,
    /// What `ngx.exit` said in a phase where it takes effect later.
    pub later_exit: Cell<Option<i64>>,
    /// `ngx.arg` of a body filter.
    pub body_arg: RefCell<BodyArg>,
    /// `ngx.arg` of `set_by_lua*`.
    pub set_args: RefCell<Vec<Vec<u8>>>,
    /// What ends with a run that has no request.
    pub at_end: RefCell<Vec<Box<dyn std::any::Any>>>,
    /// What a timer's lines say about the request that made it: `, client: ..., server: ...`.
    pub origin: RefCell<Option<Rc<[u8]>>>,
    /// What is to happen when the client goes away.
    pub(super) on_abort: RefCell<OnAbort>,
    /// The client has gone away, and the script knows.
    pub client_gone: Cell<bool>,
    /// `ngx.ctx` where it belongs to the run.
    pub ctx: RefCell<Option<Rooted>>,
    /// The entry thread's results as text, for `set_by_lua*`.
    pub result: RefCell<Vec<u8>>,
    /// Whether the entry thread ended with an error.
    pub failed: Cell<bool>,
    /// Groups of subrequests under way.
    pub subrequests: Cell<usize>,
    /// The subrequests themselves.
    pub children: RefCell<Vec<Child>>,
    /// Time on CPU so far, where no request keeps it.
    cpu_used_us: Cell<i64>,
    /// The limit of time on CPU has struck.
    overran: Cell<bool>,
    threads: RefCell<Vec<Rc<Light>>>,
    ready: RefCell<VecDeque<(Rc<Light>, Go)>>,
}

/// How a thread is resumed.
enum Go {
    /// For the first time. The values are not rooted: it must be resumed before anything else runs.
    Start(Vec<Value>),
    /// With the coroutine it has spawned.
    Spawned(Rc<Light>),
    /// After a yield.
    Yielded,
}

/// A thread: a coroutine that the driver resumes.
pub struct Light {
    /// The coroutine, kept alive.
    co: Rooted,
    /// Whether it is the handler itself.
    entry: bool,
    /// Its subrequests under way.
    pub subrequests: Cell<usize>,
    /// Who spawned it.
    parent: Option<Rc<Light>>,
    /// The coroutine that spawned it: it may be one of the parent's own.
    parent_co: Option<Rooted>,
    state: RefCell<State>,
}

enum State {
    Ready,
    Waiting(Pending),
    /// Taken out while it is polled.
    Polled,
    Ended {
        ok: bool,
        values: Vec<Rooted>,
    },
    /// Waited for, or killed.
    Gone,
}

/// How `kill` and `wait` see a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Not ended.
    Alive,
    /// Ended and not waited for.
    Zombie,
    /// Waited for, or killed.
    Gone,
}

impl Light {
    /// The coroutine.
    pub fn coroutine(&self, vm: &Vm) -> Option<Gc<Thread>> {
        self.co.get(vm).as_obj()
    }

    /// The thread that spawned it.
    pub fn parent(&self) -> Option<&Rc<Light>> {
        self.parent.as_ref()
    }

    /// Whether this coroutine spawned it.
    pub fn is_child_of(&self, vm: &Vm, co: Gc<Thread>) -> bool {
        self.parent_co.as_ref().is_some_and(|p| p.get(vm).as_obj() == Some(co))
    }

    /// Whether it is the handler itself.
    pub fn is_entry(&self) -> bool {
        self.entry
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        match &*self.state.borrow() {
            State::Ready | State::Waiting(_) | State::Polled => Standing::Alive,
            State::Ended { .. } => Standing::Zombie,
            State::Gone => Standing::Gone,
        }
    }

    /// What it ended with; afterwards it is gone.
    pub fn reap(&self, vm: &Vm) -> Option<(bool, Vec<Value>)> {
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Ended { ok, values } => Some((ok, values.iter().map(|v| v.get(vm)).collect())),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Ends it wherever it stands.
    pub fn kill(&self) {
        *self.state.borrow_mut() = State::Gone;
    }
}

/// Appends the lines of a dead coroutine's traceback. Where the VM itself raised the error, LuaJIT does
/// not know the line of the innermost function any more, and logs are compared with its.
fn append_trace(body: &[u8], out: &mut Vec<u8>) {
    let first = body.strip_prefix(b"\n\t").unwrap_or_default();
    let first = &first[..memchr::memchr(b'\n', first).unwrap_or(first.len())];
    let line_of = || {
        let end = memchr::memmem::find(first, b": in ")?;
        let start = memchr::memrchr(b':', &first[..end])?;
        let digits = &first[start + 1..end];
        (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some((start, end))
    };
    match line_of() {
        Some((start, end)) if !first.starts_with(b"[C]") => {
            out.extend_from_slice(&body[..2 + start]);
            out.extend_from_slice(&body[2 + end..]);
        }
        _ => out.extend_from_slice(body),
    }
}

/// What a dead coroutine has given to `error`. Whoever waits for a thread gets that, without the place, in front
/// of the error itself, as upstream hands over the dead thread's innermost frame.
fn argument_of_error(vm: &Vm, co: Gc<Thread>) -> Option<Value> {
    let frame = vm.innermost(co)?;
    let native = vm.frame_func(frame)?.as_native(&vm.heap)?;
    let is_error = vm.natives.get(native.get(&vm.heap).id).name == "error";
    if is_error { vm.frame_slot(frame, 0) } else { None }
}

impl Run {
    /// A run of `f` with these arguments, not begun. The values must be alive until the first poll.
    pub fn new(worker: &Rc<LuaWorker>, req: Option<&Rc<Request>>, phase: Phase) -> Rc<Run> {
        if let Some(mut kept) = worker.take_run() {
            let run = Rc::get_mut(&mut kept).expect("a run that is kept is nobody's");
            (run.req, run.phase) = (req.cloned(), phase);
            return kept;
        }
        Rc::new(Run {
            worker: worker.clone(),
            req: req.cloned(),
            phase,
            outcome: RefCell::new(None),
            later_exit: Cell::new(None),
            body_arg: RefCell::default(),
            set_args: RefCell::default(),
            at_end: RefCell::default(),
            origin: RefCell::new(None),
            on_abort: RefCell::default(),
            client_gone: Cell::new(false),
            ctx: RefCell::new(None),
            result: RefCell::default(),
            failed: Cell::new(false),
            subrequests: Cell::new(0),
            children: RefCell::default(),
            cpu_used_us: Cell::new(0),
            overran: Cell::new(false),
            threads: RefCell::default(),
            ready: RefCell::default(),
        })
    }

    /// Keeps the memory of a run that is over for the next one, if nobody else has it. Every part is named, so that
    /// none is forgotten.
    pub(super) fn give_back(mut run: Rc<Run>) {
        run.kill_all();
        let Some(alone) = Rc::get_mut(&mut run) else { return };
        let Run {
            worker: _,
            req,
            phase: _,
            outcome,
            later_exit,
            body_arg,
            set_args,
            at_end: _,
            origin,
            on_abort: _,
            client_gone,
            ctx,
            result,
            failed,
            subrequests,
            children,
            cpu_used_us,
            overran,
            threads: _,
            ready: _,
        } = alone;
        *req = None;
        *outcome.get_mut() = None;
        later_exit.set(None);
        *body_arg.get_mut() = BodyArg::default();
        set_args.get_mut().clear();
        *origin.get_mut() = None;
        client_gone.set(false);
        *ctx.get_mut() = None;
        result.get_mut().clear();
        failed.set(false);
        subrequests.set(0);
        children.get_mut().clear();
        cpu_used_us.set(0);
        overran.set(false);
        let worker = run.worker.clone();
        worker.keep_run(run);
    }

    /// Adds the entry thread and resumes it; goes on until everybody waits or has ended.
    pub fn begin(self: &Rc<Self>, vm: &mut Vm, f: Value, args: Vec<Value>, cx: &mut Context<'_>) {
        let light = self.add_thread(vm, f, None, None);
        self.ready.borrow_mut().push_back((light, Go::Start(args)));
        self.advance(vm, cx);
    }

    /// Adds a light thread that runs as soon as the others wait.
    pub(super) fn spawn(self: &Rc<Self>, vm: &mut Vm, f: Value, parent: Rc<Light>) {
        let light = self.add_thread(vm, f, Some(parent), None);
        self.ready.borrow_mut().push_back((light, Go::Start(Vec::new())));
    }

    fn add_thread(
        self: &Rc<Self>,
        vm: &mut Vm,
        f: Value,
        parent: Option<Rc<Light>>,
        parent_co: Option<Rooted>,
    ) -> Rc<Light> {
        let co = vm.new_coroutine(f);
        let light = Rc::new(Light {
            co: Rooted::new(&self.worker, vm, Value::obj(co)),
            entry: parent.is_none(),
            parent,
            subrequests: Cell::new(0),
            parent_co,
            state: RefCell::new(State::Ready),
        });
        self.threads.borrow_mut().push(light.clone());
        light
    }

    /// The thread of a coroutine, if it is one of this run.
    pub fn find(&self, vm: &Vm, co: Gc<Thread>) -> Option<Rc<Light>> {
        self.threads.borrow().iter().find(|l| l.coroutine(vm) == Some(co)).cloned()
    }

    /// Whether the run is over.
    pub fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
            || self.threads.borrow().iter().all(|l| l.standing() != Standing::Alive)
    }

    /// Polls whoever waits, resumes whoever is ready, until nothing moves.
    pub fn advance(self: &Rc<Self>, vm: &mut Vm, cx: &mut Context<'_>) {
        self.worker.set_waker(cx.waker());
        loop {
            while self.outcome.borrow().is_none() {
                let Some((light, go)) = self.ready.borrow_mut().pop_front() else { break };
                self.step(vm, &light, go);
            }
            if self.outcome.borrow().is_some() || !self.poll_waiting(vm, cx) {
                return;
            }
        }
    }

    /// Polls every waiting thread once; true when one of them went on.
    fn poll_waiting(self: &Rc<Self>, vm: &mut Vm, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        let mut at = 0;
        loop {
            let Some(light) = self.threads.borrow().get(at).cloned() else { return moved };
            at += 1;
            let state = std::mem::replace(&mut *light.state.borrow_mut(), State::Polled);
            let State::Waiting(mut pending) = state else {
                *light.state.borrow_mut() = state;
                continue;
            };
            match self.worker.with_current(self, &light, || pending(vm, cx)) {
                Poll::Pending => *light.state.borrow_mut() = State::Waiting(pending),
                Poll::Ready(values) => {
                    moved = true;
                    // The operation is over: what it held is free before the code goes on.
                    drop(pending);
                    *light.state.borrow_mut() = State::Ready;
                    let Some(co) = light.coroutine(vm) else { continue };
                    let r = self.go(vm, &light, |vm| vm.resume_suspended(co, &values));
                    self.settle(vm, &light, r);
                    if self.outcome.borrow().is_some() {
                        return true;
                    }
                    while let Some((l, go)) = self.pop_ready() {
                        self.step(vm, &l, go);
                    }
                }
            }
        }
    }

    fn pop_ready(&self) -> Option<(Rc<Light>, Go)> {
        if self.outcome.borrow().is_some() { None } else { self.ready.borrow_mut().pop_front() }
    }

    fn step(self: &Rc<Self>, vm: &mut Vm, light: &Rc<Light>, go: Go) {
        if light.standing() != Standing::Alive {
            return;
        }
        let Some(co) = light.coroutine(vm) else { return };
        let r = self.go(vm, light, |vm| match go {
            Go::Start(args) => vm.resume(co, &args),
            Go::Spawned(child) => {
                let v = child.co.get(vm);
                vm.resume_suspended(co, &[v])
            }
            Go::Yielded => vm.resume(co, &[]),
        });
        self.settle(vm, light, r);
    }

    /// Lets a thread run until it waits or ends, within the run's limit of time on CPU.
    fn go(self: &Rc<Self>, vm: &mut Vm, light: &Rc<Light>, f: impl FnOnce(&mut Vm) -> Resume) -> Resume {
        let limit_us = self.cpu_limit_us();
        if limit_us == 0 {
            return self.worker.with_current(self, light, || f(vm));
        }
        let used = self.req.as_ref().map_or(&self.cpu_used_us, |req| &req.main().cpu_used_us);
        let left = i64::try_from(limit_us).unwrap_or(i64::MAX).saturating_sub(used.get());
        let handle = vm.interrupt_handle();
        let ran =
            cpu_time::limited(&handle, limit_us, left, || self.worker.with_current(self, light, || f(vm)));
        match ran {
            Ok((r, spent)) => {
                used.set(used.get().saturating_add(spent));
                if !vm.end_overrun() || matches!(r, Resume::Suspended(_) | Resume::Yielded(_)) {
                    return r;
                }
                // What follows, an error page or the log phase, has a time of its own.
                used.set(0);
                self.overran.set(true);
                match r {
                    // It has caught the error, and met no loop or call afterwards.
                    Resume::Finished(_) => Resume::Error(Value::obj(vm.heap.str(b"CPU time limit exceeded"))),
                    r => r,
                }
            }
            Err(e) => {
                self.log(Level::Alert, format!("timer_create() failed {}", os_text(&e)).as_bytes());
                let text = vm.heap.str(b"lua_cpu_limit cannot be kept");
                Resume::Error(Value::obj(text))
            }
        }
    }

    fn cpu_limit_us(&self) -> u64 {
        let ms = match &self.req {
            Some(req) => req.location().lua_cpu_limit,
            None => self.worker.http().level.lua_cpu_limit,
        };
        ms.saturating_mul(1000)
    }

    fn settle(self: &Rc<Self>, vm: &mut Vm, light: &Rc<Light>, r: Resume) {
        match r {
            Resume::Suspended(_) => match self.worker.take_handoff() {
                Some(Handoff::Wait(p)) => *light.state.borrow_mut() = State::Waiting(p),
                Some(Handoff::Spawn { f, args, by }) => {
                    let by = Rooted::new(&self.worker, vm, by);
                    let child = self.add_thread(vm, f, Some(light.clone()), Some(by));
                    let mut ready = self.ready.borrow_mut();
                    // The child runs at once; its parent waits for its turn behind the others.
                    ready.push_back((light.clone(), Go::Spawned(child.clone())));
                    ready.push_front((child, Go::Start(args)));
                }
                Some(Handoff::End) | None => {}
            },
            // A spent limit, and the host has let others in: it goes on at the worker's next turn.
            Resume::Interrupted => {
                let mut turned = false;
                *light.state.borrow_mut() = State::Waiting(Box::new(move |_, cx| {
                    if std::mem::replace(&mut turned, true) {
                        return Poll::Ready(Vec::new());
                    }
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }));
            }
            Resume::Yielded(_) => self.ready.borrow_mut().push_back((light.clone(), Go::Yielded)),
            Resume::Finished(values) => {
                if light.entry {
                    let text = values.first().map(|v| text_of(vm, *v).unwrap_or_default());
                    *self.result.borrow_mut() = text.unwrap_or_default();
                    *light.state.borrow_mut() = State::Gone;
                } else {
                    let values = values.into_iter().map(|v| Rooted::new(&self.worker, vm, v)).collect();
                    *light.state.borrow_mut() = State::Ended { ok: true, values };
                }
            }
            Resume::Error(e) => {
                let mut values = Vec::new();
                if !light.entry
                    && let Some(v) = light.coroutine(vm).and_then(|co| argument_of_error(vm, co))
                {
                    values.push(Rooted::new(&self.worker, vm, v));
                }
                values.push(Rooted::new(&self.worker, vm, e));
                self.log_error(vm, light, e);
                *light.state.borrow_mut() = State::Ended { ok: false, values };
                // Who has used up the time takes all others along: they would only go on with it.
                if light.entry || self.overran.get() {
                    self.failed.set(true);
                    if self.outcome.borrow().is_none() {
                        *self.outcome.borrow_mut() = Some(Verdict::Status(500));
                    }
                }
            }
        }
    }

    fn log_error(self: &Rc<Self>, vm: &mut Vm, light: &Rc<Light>, e: Value) {
        // Upstream has coroutines only where code may yield; elsewhere its words are others.
        let info = self.phase.info();
        let threads = info.yields || !light.entry;
        let mut line: Vec<u8> = match self.phase {
            _ if !light.entry => b"lua user thread aborted: runtime error: ".to_vec(),
            Phase::Init | Phase::InitWorker | Phase::ExitWorker => {
                format!("{} error: ", info.stem).into_bytes()
            }
            _ if threads => b"lua entry thread aborted: runtime error: ".to_vec(),
            _ => format!("failed to run {}*: ", info.stem).into_bytes(),
        };
        let text = text_of(vm, e).or_else(|| vm.error_string(e));
        if text.is_none() && !threads {
            // Upstream's handler for errors leaves what is no text alone.
            line.extend_from_slice(b"unknown reason");
            self.log(Level::Error, &line);
            return;
        }
        line.extend_from_slice(&text.unwrap_or_else(|| b"unknown reason".to_vec()));
        if let Some(co) = light.coroutine(vm) {
            let trace = vm.traceback(co, None, 0);
            let body = trace.strip_prefix(b"stack traceback:".as_slice()).unwrap_or(&trace);
            line.extend_from_slice(b"\nstack traceback:");
            if threads {
                line.extend_from_slice(b"\ncoroutine 0:");
            }
            append_trace(body, &mut line);
        }
        if self.phase == Phase::Init && light.entry {
            // The start-up fails with it, and tells.
            *self.result.borrow_mut() = line;
            return;
        }
        self.log(Level::Error, &line);
    }

    /// Logs a line with the run's context.
    pub fn log(&self, level: Level, text: &[u8]) {
        match &self.req {
            Some(req) => req.log(level, text),
            None if level == Level::Debug => self.worker.log_plain(level, text),
            None if self.phase != Phase::Init => {
                let mut line = text.to_vec();
                // An error of a worker's start or end names its place already.
                let named = self.phase != Phase::Timer && !text.starts_with(b"[lua]");
                if !named {
                    line.extend_from_slice(b", context: ");
                    line.extend_from_slice(self.phase.context_name().as_bytes());
                }
                if let Some(origin) = &*self.origin.borrow() {
                    line.extend_from_slice(origin);
                }
                self.worker.log_plain(level, &line);
            }
            None => self.worker.log_plain(level, text),
        }
    }

    /// Drops all threads: whoever waited waits no more.
    pub fn kill_all(&self) {
        if self.threads.borrow().is_empty() && self.at_end.borrow().is_empty() {
            // It has happened already.
            return;
        }
        self.ready.borrow_mut().clear();
        self.on_abort.borrow_mut().forget();
        for l in self.threads.borrow_mut().drain(..) {
            l.kill();
        }
        self.at_end.borrow_mut().clear();
    }
}
