//! The dispatch tables: which handler runs for an op, with and without a JIT, while recording, with hooks.

use std::sync::atomic::{Ordering, fence};

use super::coroutine::{resume_op, wrap_op, yield_op};
use super::dispatch::{Act, enter_func, next, op, resume, tail};
use super::handlers::{
    arith::*,
    call::*,
    compare::*,
    constant::*,
    create::*,
    forloop::*,
    func::*,
    index::*,
    native::{FUNCC, FUNCC_TOLD},
    ret::*,
    upvalue::*,
};
use crate::bytecode::ops::Op;
use crate::for_each_op;
use crate::state::profile::vmstate;
use crate::state::{BackEdge, DISPATCH_SIZE, Handler, Vm};

op! {
    /// A word that is no instruction; the verifier lets none through.
    INVALID |pc, base, k, vm, a, d| {
        tail!(super::debug::invalid, pc, base, k, vm, a, d)
    }
}

macro_rules! table {
    ($( $(#[$doc:meta])* $name:ident { $($rest:tt)* } mm: $mm:ident; )*) => {{
        let mut t: [Handler; DISPATCH_SIZE] = [INVALID; DISPATCH_SIZE];
        $( t[Op::$name as usize] = $name; )*
        t
    }};
}

/// Counts hotness.
pub(crate) static COUNTING: [Handler; DISPATCH_SIZE] = for_each_op!(table);

/// A loop instruction: the form that counts and the one that does not, each with its handler and with what stands in
/// for that while the flag word is to be looked at.
struct Loop {
    counts: (Op, BackEdge),
    plain: (Op, BackEdge),
}

/// All loop instructions: what the tables below and [`BACK_EDGES`] are made from.
const LOOPS: [Loop; 3] = [
    Loop {
        counts: (Op::FORL, BackEdge(FORL, FORL_COUNTS_POLLS)),
        plain: (Op::IFORL, BackEdge(IFORL, FORL_POLLS)),
    },
    Loop {
        counts: (Op::ITERL, BackEdge(ITERL, ITERL_COUNTS_POLLS)),
        plain: (Op::IITERL, BackEdge(IITERL, ITERL_POLLS)),
    },
    Loop {
        counts: (Op::LOOP, BackEdge(LOOP, LOOP_COUNTS_POLLS)),
        plain: (Op::ILOOP, BackEdge(ILOOP, LOOP_POLLS)),
    },
];

/// What switches coroutines, and what stands in for it where a recording is to be ended by it, or a hook cannot yield.
const WATCHED: [(Op, Handler); 3] =
    [(Op::FUNCRESUME, resume_op), (Op::FUNCWRAP, wrap_op), (Op::FUNCYIELD, yield_op)];

const fn watched(mut t: [Handler; DISPATCH_SIZE]) -> [Handler; DISPATCH_SIZE] {
    let mut i = 0;
    while i < WATCHED.len() {
        t[WATCHED[i].0 as usize] = WATCHED[i].1;
        i += 1;
    }
    t
}

/// Without a JIT the counting forms do not count.
pub(crate) static PLAIN: [Handler; DISPATCH_SIZE] = {
    let mut t = COUNTING;
    let mut i = 0;
    while i < LOOPS.len() {
        t[LOOPS[i].counts.0 as usize] = LOOPS[i].plain.1.0;
        i += 1;
    }
    t[Op::FUNCF as usize] = IFUNCF;
    t[Op::FUNCV as usize] = IFUNCV;
    t
};

/// The back edges, and what stands in for them while the flag word is to be looked at.
pub(crate) static BACK_EDGES: [BackEdge; 2 * LOOPS.len()] = {
    let mut t = [LOOPS[0].plain.1; 2 * LOOPS.len()];
    let mut i = 0;
    while i < LOOPS.len() {
        t[2 * i] = LOOPS[i].counts.1;
        t[2 * i + 1] = LOOPS[i].plain.1;
        i += 1;
    }
    t
};

/// [`COUNTING`] while the flag word is to be looked at, or instructions are told to someone.
static COUNTING_POLLS: [Handler; DISPATCH_SIZE] = {
    let mut t = watched(COUNTING);
    let mut i = 0;
    while i < LOOPS.len() {
        t[LOOPS[i].counts.0 as usize] = LOOPS[i].counts.1.1;
        t[LOOPS[i].plain.0 as usize] = LOOPS[i].plain.1.1;
        i += 1;
    }
    t
};

/// [`PLAIN`] in the same way.
static PLAIN_POLLS: [Handler; DISPATCH_SIZE] = {
    let mut t = watched(PLAIN);
    let mut i = 0;
    while i < LOOPS.len() {
        t[LOOPS[i].counts.0 as usize] = LOOPS[i].plain.1.1;
        t[LOOPS[i].plain.0 as usize] = LOOPS[i].plain.1.1;
        i += 1;
    }
    t
};

op! {
    /// Every op while a trace is recorded.
    RECORD |pc, base, k, vm, a, d| {
        let op = *(pc.sub(1) as *const u8) as usize;
        (*vm).pc = pc;
        (*(*vm).cur.as_ptr()).base = base;
        record(vm, d);
        // A compiled function is recorded, not run.
        let op = if op == Op::JFUNCF as usize { Op::IFUNCF as usize } else { op };
        let f = *((*vm).plain as *const Handler).add(op);
        tail!(f, pc, base, k, vm, a, d)
    }
}

/// Tells the recorder about the next instruction.
#[inline(never)]
unsafe extern "C" fn record(vm: *mut Vm, d: usize) {
    // SAFETY: the handler holds no reference to the VM.
    let vm = unsafe { &mut *vm };
    vm.call_nargs = d.wrapping_sub(1);
    let (pc, base) = (vm.pc.wrapping_sub(1), vm.base());
    if let Some(mut jit) = vm.jit.take() {
        let before = vm.profile.enter(vmstate::COMPILER);
        let goes_on = jit.record_step(vm, pc, base);
        vm.profile.leave(before);
        vm.jit = Some(jit);
        if !goes_on {
            vm.set_recording(false);
        }
    }
}

/// Recording: every op tells the recorder first.
pub(crate) static RECORDING: [Handler; DISPATCH_SIZE] = [RECORD; DISPATCH_SIZE];

op! {
    /// Every op while a debug hook is set.
    HOOKED |pc, base, k, vm, a, d| {
        (*vm).pc = pc;
        (*(*vm).cur.as_ptr()).base = base;
        let act: Act = super::debug::hook_step(vm, d);
        if act != super::debug::NO_EVENT {
            resume!(vm, act)
        }
        let op = *(pc.sub(1) as *const u8) as usize;
        let f = *((*vm).plain as *const Handler).add(op);
        tail!(f, pc, base, k, vm, a, d)
    }
}

/// Hooks: every op looks for events first.
pub(crate) static HOOKS: [Handler; DISPATCH_SIZE] = [HOOKED; DISPATCH_SIZE];

impl Vm {
    /// Chooses the dispatch table after a mode has changed.
    pub(crate) fn refresh_dispatch(&mut self) {
        self.choose_dispatch();
        self.sync_back_edges();
    }

    /// Makes back edges look at the flag word, or not. Whatever else has been put into the table stays.
    pub(crate) fn sync_back_edges(&mut self) {
        loop {
            // Where every instruction is told to someone, its own handler comes from `plain`, which no other thread changes.
            let told = self.recording || self.hook.mask != 0 || self.hook.active;
            let polls = told || self.flags.load(Ordering::SeqCst) != 0;
            let counts = self.jit_on && !self.jit_held && !self.events.telling;
            self.plain = match (counts, polls) {
                (true, false) => &COUNTING,
                (true, true) => &COUNTING_POLLS,
                (false, false) => &PLAIN,
                (false, true) => &PLAIN_POLLS,
            };
            for op in LOOPS.iter().flat_map(|l| [l.counts.0, l.plain.0]) {
                let entry = &mut self.dispatch[op as usize];
                let other = BACK_EDGES.iter().find_map(|e| {
                    let (from, to) = if polls { (e.0, e.1) } else { (e.1, e.0) };
                    (*entry as usize == from as usize).then_some(to)
                });
                if let Some(other) = other {
                    *entry = other;
                }
            }
            // Another thread that has set a flag meanwhile has changed the table, or did so before it was written here.
            fence(Ordering::SeqCst);
            if polls || self.flags.load(Ordering::SeqCst) == 0 {
                return;
            }
        }
    }

    fn choose_dispatch(&mut self) {
        let counts = self.jit_on && !self.jit_held && !self.events.telling;
        self.plain = if counts { &COUNTING } else { &PLAIN };
        self.dispatch = if !self.events.queue.is_empty() {
            [super::sample::SAMPLE; DISPATCH_SIZE]
        } else if self.recording {
            RECORDING
        } else if self.hook.mask != 0 {
            HOOKS
        } else {
            *self.plain
        };
        if self.hook.active {
            // A hook that has removed itself still cannot yield.
            for (op, handler) in WATCHED {
                if self.dispatch[op as usize] as usize == self.plain[op as usize] as usize {
                    self.dispatch[op as usize] = handler;
                }
            }
        }
        let plainly = !self.recording && self.hook.mask == 0 && self.events.queue.is_empty();
        if plainly && self.profile.on_sample.is_some() {
            self.dispatch[Op::FUNCC as usize] = FUNCC_TOLD;
        }
    }

    /// What executes an op, ticks of a profiler aside.
    pub(crate) fn handler_of(&self, op: usize) -> Handler {
        if self.recording {
            RECORD
        } else if self.hook.mask != 0 {
            HOOKED
        } else {
            self.plain[op]
        }
    }

    /// Switches recording on or off: every instruction calls [`crate::state::hooks::JitHooks::record_step`] first.
    pub fn set_recording(&mut self, on: bool) {
        self.recording = on;
        self.refresh_dispatch();
    }

    /// Switches hot counting on or off (`jit.on`, `jit.off`). Off at first.
    pub fn set_jit_on(&mut self, on: bool) {
        self.jit_on = on && self.jit.is_some();
        self.refresh_dispatch();
    }

    /// Holds the compiler back whatever `jit.on` says (`true`), or lets it go. A process that will still fork
    /// holds it: code memory and the compilation thread must not exist before the last fork.
    pub fn hold_jit(&mut self, hold: bool) {
        self.jit_held = hold;
        self.refresh_dispatch();
    }

    /// Is hot counting on?
    pub fn jit_on(&self) -> bool {
        self.jit_on
    }
}
