//! The state machine of the JIT: idle, recording, compiling; the one implementor of [`JitHooks`]. Knows the
//! recorder and the code generator, which do not know each other.
//!
//! A trace's life: a hot counter runs out (`hooks`); the recorder follows one round; the trace is optimised
//! (`recording`) and handed to the worker; a later hot event takes the code, publishes it and patches the loop
//! (`traces`); exits come back through `exits`, which restores frames and, when one exit is hot, records a side
//! trace for it.

mod budget;
mod exits;
mod hooks;
mod recording;
mod report;
mod traces;
mod worth;

use crate::code::arena;
use crate::code::exit::ExitBuffer;
use crate::code::link::Runtime;
use crate::lib_util::{self, Shared};
use crate::options::Options;
use crate::record::Rec;
use crate::trace::penalty::Penalties;
use crate::view::At;
use crate::worker::{Gate, Worker};
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::proto::Proto;
use moonlit_vm::state::hooks::CompileCosts;
use moonlit_vm::state::{HOT_SIZE, Vm};
use std::time::Instant;
use traces::Compiled;

pub use exits::EXIT_LINK;

/// Counts until a pending compilation is asked for again.
const PENDING_COUNT: u16 = 60;

/// A recording that waits for the end of a callback.
struct Paused {
    rec: Option<Box<Rec>>,
    proto: Option<Gc<Proto>>,
    retries: u32,
    at: Option<At>,
    repeated: bool,
}

/// The JIT of one VM.
pub struct Engine {
    opts: Options,
    shared: Shared,
    version: u64,
    /// Jobs so far.
    tickets: u64,
    worker: Option<Worker>,
    runtime: Option<Runtime>,
    /// Runtimes from before a fork: their code still runs here, their memory is not ours to write.
    inherited: Vec<Runtime>,
    forks: u64,
    gate: Gate,
    buf: ExitBuffer,
    traces: Vec<Option<Box<Compiled>>>,
    /// There are as many traces as there may be, and none has gone since that was noticed.
    full: bool,
    rec: Option<Box<Rec>>,
    rec_proto: Option<Gc<Proto>>,
    retries: u32,
    /// The instruction recorded last.
    at: Option<At>,
    /// The next step is a repetition of the last one.
    repeated: bool,
    /// Recordings under callbacks, innermost last.
    paused: Vec<Paused>,
    /// Traces that are gone, but whose code may be waiting for a C call that a callback came from.
    retired: Vec<Compiled>,
    penalties: Penalties,
    /// Traces recorded and aborts so far.
    stats: (u32, u32),
    /// What code generation has cost.
    costs: CompileCosts,
    /// When it was made.
    started: Instant,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({} traces)", self.traces.len() - 1)
    }
}

impl Engine {
    /// An idle engine.
    pub fn new(opts: Options) -> Engine {
        let shared = Shared::default();
        shared.change(|o| *o = opts.clone());
        Engine {
            opts,
            shared,
            version: 1,
            tickets: 0,
            worker: None,
            runtime: None,
            inherited: Vec::new(),
            forks: arena::forks(),
            gate: Gate::default(),
            buf: ExitBuffer::new(),
            traces: vec![None],
            rec: None,
            rec_proto: None,
            retries: 0,
            at: None,
            repeated: false,
            paused: Vec::new(),
            full: false,
            retired: Vec::new(),
            penalties: Penalties::default(),
            stats: (0, 0),
            costs: CompileCosts::default(),
            started: Instant::now(),
        }
    }

    /// The gate that delays compilation (tests).
    pub fn gate(&self) -> Gate {
        self.gate.clone()
    }

    /// The number of the next trace.
    fn free_number(&self) -> usize {
        let free = self.traces.iter().skip(1).position(|t| t.is_none()).map(|i| i + 1);
        free.unwrap_or(self.traces.len())
    }

    /// Takes over options that Lua code has changed.
    fn sync_options(&mut self, vm: &mut Vm) {
        let s = self.shared.0.borrow();
        if s.1 == self.version {
            return;
        }
        self.version = s.1;
        self.opts = s.0.clone();
        drop(s);
        self.reset_counters(vm);
    }

    /// Options.
    pub fn options(&self) -> &Options {
        &self.opts
    }

    /// Number of traces and of aborts.
    pub fn stats(&self) -> (u32, u32) {
        self.stats
    }

    pub(super) fn reset_counters(&self, vm: &mut Vm) {
        let n = self.opts.hot_count();
        for c in vm.hot.iter_mut().take(HOT_SIZE) {
            *c = n;
        }
    }
}

/// Gives a VM a JIT compiler.
pub fn install(vm: &mut Vm, opts: Options) {
    install_with_gate(vm, opts);
}

/// As [`install`]; the gate delays compilation (tests of what happens meanwhile).
pub fn install_with_gate(vm: &mut Vm, opts: Options) -> Gate {
    let on = opts.on;
    let e = Engine::new(opts);
    let gate = e.gate();
    if !crate::code::exec::supported() {
        return gate;
    }
    e.reset_counters(vm);
    lib_util::open(vm, &e.shared);
    vm.jit = Some(Box::new(e));
    vm.set_jit_on(on);
    gate
}
