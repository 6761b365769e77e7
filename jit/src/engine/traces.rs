//! Traces in the VM: their code is ordered, installed, and taken out again.

use super::exits::NEVER;
use super::worth::Leaves;
use super::{Engine, PENDING_COUNT};
use crate::abort::Abort;
use crate::code::arena;
use crate::code::exit::ExitCells;
use crate::code::link::{Installed, Runtime};
use crate::lower::{Env, Register};
use crate::record::{Kind, Rec};
use crate::restore::Plan;
use crate::trace::Trace;
use crate::trace::link::Link;
use crate::view;
use crate::worker::{Done, Job, Worker};
use moonlit_vm::bytecode::instr::Instr;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::proto::Proto;
use moonlit_vm::index::TraceNo;
use moonlit_vm::layout;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::{TraceEntry, TraceEvent, eventmask};
use moonlit_vm::value::Value;
use std::cell::OnceCell;

/// A trace and its code.
pub(super) struct Compiled {
    pub(super) trace: Trace,
    pub(super) kind: Kind,
    pub(super) cells: ExitCells,
    /// Slots that it needs from its base on.
    pub(super) room: usize,
    pub(super) counts: Vec<u16>,
    /// What its code was made with.
    pub(super) env: Env,
    /// Where its code has the results of instructions, once somebody has asked.
    pub(super) registers: OnceCell<Box<[Option<Register>]>>,
    /// What each exit writes, once it was taken.
    pub(super) plans: Vec<OnceCell<Plan>>,
    pub(super) tries: Vec<u8>,
    pub(super) keep: Vec<Value>,
    pub(super) proto: Option<Gc<Proto>>,
    pub(super) original: Instr,
    pub(super) installed: Option<Installed>,
    /// Number of its job: a result is for the trace it was ordered for, not for a later one of the same number.
    pub(super) ticket: u64,
    /// Forks before it was installed.
    pub(super) forks: u64,
    /// Attempts to go on after it that would have ended in the interpreter (roots of functions).
    pub(super) dead_ends: u8,
    /// Its root is a function's.
    pub(super) of_function: bool,
    /// Traces of its tree, if it is a root.
    pub(super) sides: u32,
    /// The root of its tree.
    pub(super) root: u32,
    /// How often its tree was left, if it is a function's root.
    pub(super) leaves: Leaves,
}

/// The instruction that leads into the code of a root trace, and its op before: a loop over `next` counts in its ITERN and is
/// entered at its ITERL.
fn entry(kind: Kind) -> Option<(usize, Op)> {
    match kind {
        Kind::Loop { pc, op: Op::ITERN } => Some((pc + 4, Op::ITERL)),
        Kind::Loop { pc, op } => Some((pc, op)),
        Kind::Function { pc } => Some((pc, Op::FUNCF)),
        Kind::Side { .. } => None,
    }
}

/// The ops that count, with those that do no more, and those that enter a trace.
const FORMS: [(Op, (Op, Op)); 4] = [
    (Op::FORL, (Op::IFORL, Op::JFORL)),
    (Op::ITERL, (Op::IITERL, Op::JITERL)),
    (Op::LOOP, (Op::ILOOP, Op::JLOOP)),
    (Op::FUNCF, (Op::IFUNCF, Op::JFUNCF)),
];

/// The other forms of an op that counts.
fn forms(op: Op) -> (Op, Op) {
    FORMS.iter().find(|f| f.0 == op).expect("a root trace begins where something counts").1
}

/// The op that counts, of one that does no more.
pub(super) fn silenced(op: Op) -> Option<Op> {
    FORMS.iter().find(|f| f.1.0 == op).map(|f| f.0)
}

/// What would start a root trace counts no more.
pub(super) fn silence(kind: Kind) {
    if let Some((pc, op)) = entry(kind) {
        let ins = view::ins_at(pc);
        if ins.op() == op {
            view::patch(pc, ins.with_op(forms(op).0));
        }
    }
}

/// The head of a numeric loop whose back edge at `pc` was `back`.
fn patch_loop_head(pc: usize, back: Instr, from: Op, to: Op) {
    if back.op() == Op::FORL {
        let head = (pc as i64 + i64::from(back.j()) * 4) as usize;
        let ins = view::ins_at(head);
        if ins.op() == from {
            view::patch(head, ins.with_op(to));
        }
    }
}

impl Engine {
    /// A recorded trace gets a number, and its code is ordered.
    pub(super) fn submit(&mut self, vm: &mut Vm, rec: Rec) -> Result<(), Abort> {
        self.check_fork(vm);
        let no = self.free_number();
        if no > self.opts.params.maxtrace as usize {
            self.full = true;
            self.punish(vm, rec.kind);
            return Err(Abort::CodeAreaFull);
        }
        let kind = rec.kind;
        let n = rec.trace.snaps.len();
        let stub = self.runtime.as_ref().map_or(0, |r| r.leave_stub());
        let cells = ExitCells::new(n, stub);
        let vm_addr = &raw const *vm as u64;
        let env = Env {
            trace_no: no as u32,
            exit_buffer: self.buf.address(),
            exit_cells: cells.address(),
            flags_word: layout::VM_FLAGS,
            gc_due: layout::VM_GC_DUE,
            stack_limit: layout::VM_STACK_LIMIT,
            nil_node: vm.heap.nil_node_ptr() as u64,
            heap: vm_addr + layout::VM_HEAP as u64,
            apart: !self.opts.passes.fuse,
            fma: self.opts.passes.fma,
        };
        self.say_recorded(vm, &rec, no);
        let original = entry(kind).map_or(Instr(0), |(pc, _)| view::ins_at(pc));
        let mut trace = rec.trace;
        let mut keep = rec.keep;
        keep.sort_unstable_by_key(|v| v.0);
        keep.dedup();
        if trace.link == Link::Root(0) {
            trace.link = Link::Root(no as u32);
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let job = Job { trace: trace.clone(), env, ticket };
        if let Kind::Side { parent, exit } = kind {
            if let Some(Some(p)) = self.traces.get_mut(parent as usize) {
                p.counts[exit as usize] = NEVER;
            }
            let root = Engine::root_of(&self.traces, parent).0;
            if let Some(Some(r)) = self.traces.get_mut(root as usize) {
                r.sides += 1;
            }
        }
        let mut counts = vec![0; n];
        if trace.link == Link::Interp {
            // The end of such a trace is no hot exit: what follows cannot be recorded.
            counts[n - 1] = NEVER;
        }
        // Life follows the prototype the root trace starts in.
        let proto = match kind {
            Kind::Loop { .. } | Kind::Function { .. } => self.rec_proto,
            Kind::Side { parent, .. } => {
                self.traces.get(parent as usize).and_then(|t| t.as_ref()).and_then(|t| t.proto)
            }
        };
        if let Some(p) = proto {
            let head = &mut p.get_mut(&mut vm.heap).trace;
            if *head == 0 {
                *head = no as u32;
            }
            vm.heap.note_traced(p);
            vm.heap.barrier(p);
        }
        let root = match kind {
            Kind::Side { parent, .. } => Engine::root_of(&self.traces, parent).0,
            _ => no as u32,
        };
        let of_function = match kind {
            Kind::Loop { .. } => false,
            Kind::Function { .. } => true,
            Kind::Side { parent, .. } => {
                matches!(self.traces.get(parent as usize), Some(Some(p)) if p.of_function)
            }
        };
        let c = Compiled {
            trace,
            kind,
            cells,
            room: rec.slots_max,
            counts,
            env,
            registers: OnceCell::new(),
            plans: (0..n).map(|_| OnceCell::new()).collect(),
            tries: vec![0; n],
            keep,
            proto,
            original,
            installed: None,
            ticket,
            forks: self.forks,
            sides: 0,
            root,
            leaves: Leaves::default(),
            dead_ends: 0,
            of_function,
        };
        if no == self.traces.len() {
            self.traces.push(None);
        }
        self.traces[no] = Some(Box::new(c));
        if vm.events.listening & eventmask::TRACE != 0 {
            let at = Engine::code_place(vm, self.at);
            vm.tell(TraceEvent::Stop { no: no as u32, at });
        }
        self.stats.0 += 1;
        if let Err(e) = self.order(job) {
            self.traces[no] = None;
            self.unlink_proto(vm, proto, no as u32);
            self.punish(vm, kind);
            return Err(e);
        }
        if let Some(pc) = kind.hot() {
            vm.set_hot(pc as *const u32, PENDING_COUNT);
        }
        if self.opts.jitsync {
            self.poll(vm);
        }
        Ok(())
    }

    /// Hands a job to the worker, which starts with the first one.
    pub(super) fn order(&mut self, job: Job) -> Result<(), Abort> {
        let worker = match &mut self.worker {
            Some(w) => w,
            none => none.insert(Worker::start(self.opts.jitsync, &self.gate)?),
        };
        worker.submit(job)
    }

    /// After a fork: the thread is gone with its jobs, the code memory belongs to the parent. Traces that
    /// are installed go on in this process's copy; everything new gets a new thread and a new arena.
    pub(super) fn check_fork(&mut self, vm: &mut Vm) {
        if self.forks == arena::forks() {
            return;
        }
        self.forks = arena::forks();
        // Not dropped: a lock inside its channels may be held by the thread that does not exist here.
        std::mem::forget(self.worker.take());
        self.inherited.extend(self.runtime.take());
        for no in 1..self.traces.len() {
            if self.traces[no].as_ref().is_some_and(|t| t.installed.is_none()) {
                if let Some(t) = self.traces[no].take() {
                    self.unlink_proto(vm, t.proto, no as u32);
                }
            }
        }
    }

    /// Installs what the worker has finished.
    pub(super) fn poll(&mut self, vm: &mut Vm) {
        loop {
            let Some(w) = self.worker.as_mut() else { return };
            let Some(done) = w.poll() else { return };
            if let Err(e) = self.install_code(vm, done) {
                self.note(vm, e);
            }
        }
    }

    /// The code of a trace is there: its loop, its function or its parent's exit leads into it from now on.
    pub(super) fn install_code(&mut self, vm: &mut Vm, done: Done) -> Result<(), Abort> {
        if self.runtime.is_none() {
            let stubs = done.stubs.as_ref().ok_or(Abort::CodeGeneration)?;
            let p = &self.opts.params;
            let [size, area] = [p.maxmcode, p.sizemcode].map(|kib| (kib as usize).saturating_mul(1024));
            match Runtime::new(size, area.min(size), stubs) {
                Ok(r) => self.runtime = Some(r),
                Err(_) => {
                    // Executable memory is refused here: interpret.
                    self.opts.on = false;
                    vm.set_jit_on(false);
                    return Err(Abort::CodeAreaFull);
                }
            }
        }
        let no = done.trace_no;
        match self.traces.get(no as usize) {
            Some(Some(t)) if t.ticket == done.ticket => {}
            _ => return Err(Abort::Outdated),
        }
        let rt = self.runtime.as_mut().ok_or(Abort::CodeAreaFull)?;
        self.costs.traces += 1;
        self.costs.us += done.compile_us as u64;
        self.costs.bytes += done.code.as_ref().map_or(0, |c| c.len() as u64);
        let installed = match done.code.map(|c| rt.install(&c)) {
            Ok(Ok(i)) => i,
            Ok(Err(_)) | Err(_) => {
                if let Some(t) = self.traces[no as usize].take() {
                    self.unlink_proto(vm, t.proto, no);
                    self.punish(vm, t.kind);
                }
                return Err(Abort::CodeGeneration);
            }
        };
        let leave = rt.leave_stub();
        let link_target = match self.traces[no as usize].as_ref().map(|t| t.trace.link) {
            Some(Link::Root(n)) if n == no => installed.tail_entry,
            Some(Link::Root(n)) => match self.traces.get(n as usize) {
                Some(Some(t)) => t.installed.map_or(leave, |i| i.tail_entry),
                _ => leave,
            },
            _ => leave,
        };
        let Some(t) = self.traces[no as usize].as_mut() else { return Err(Abort::Outdated) };
        for e in 0..t.trace.snaps.len() {
            t.cells.set(e, leave);
        }
        t.cells.set(t.cells.link(), link_target);
        t.installed = Some(installed);
        let (kind, original) = (t.kind, t.original);
        vm.traces
            .set(TraceNo::new(no), TraceEntry { entry: installed.entry, start_ins: original.0, reserved: 0 });
        if let Some((pc, op)) = entry(kind) {
            let ins = view::ins_at(pc);
            if ins.op() == op {
                view::patch(pc, ins.with_op(forms(op).1).with_d(no));
                patch_loop_head(pc, original, Op::FORI, Op::JFORI);
            }
        } else if let Kind::Side { parent, exit } = kind
            && let Some(Some(p)) = self.traces.get(parent as usize)
        {
            p.cells.set(exit as usize, installed.tail_entry);
        }
        Ok(())
    }

    /// Trace `no` is gone: its prototype names another one of its traces, so that they are marked.
    pub(super) fn unlink_proto(&mut self, vm: &mut Vm, proto: Option<Gc<Proto>>, no: u32) {
        let Some(p) = proto else { return };
        if p.get(&vm.heap).trace == no {
            let other = self.traces.iter().position(|t| t.as_ref().is_some_and(|t| t.proto == proto));
            p.get_mut(&mut vm.heap).trace = other.unwrap_or(0) as u32;
        }
    }

    /// Throws away traces, with their side traces, and those that wait for code which is to lead into one of them.
    pub(super) fn remove(&mut self, vm: &mut Vm, mut gone: Vec<u32>) {
        self.full = false;
        self.abort(vm, Abort::Outdated);
        self.paused.iter_mut().for_each(|p| p.rec = None);
        let mut at = 0;
        while let Some(&no) = gone.get(at) {
            at += 1;
            for (n, t) in self.traces.iter().enumerate() {
                let depends = t.as_ref().is_some_and(|t| match t.kind {
                    Kind::Side { parent, .. } if parent == no => true,
                    _ => t.installed.is_none() && t.trace.link == Link::Root(no),
                });
                if depends && !gone.contains(&(n as u32)) {
                    gone.push(n as u32);
                }
            }
        }
        let leave = self.runtime.as_ref().or(self.inherited.last()).map_or(0, |r| r.leave_stub());
        for no in gone {
            let Some(t) = self.traces[no as usize].take() else { continue };
            Engine::unpatch(&t, no);
            self.unlink_proto(vm, t.proto, no);
            vm.traces.set(TraceNo::new(no), TraceEntry { entry: 0, start_ins: 0, reserved: 0 });
            if let Kind::Side { parent, exit } = t.kind
                && let Some(Some(p)) = self.traces.get_mut(parent as usize)
            {
                p.counts[exit as usize] = 0;
                let root = Engine::root_of(&self.traces, parent).0;
                if let Some(Some(r)) = self.traces.get_mut(root as usize) {
                    r.sides = r.sides.saturating_sub(1);
                }
            }
            self.redirect(&t, leave);
            self.retired.push(*t);
        }
        self.drop_retired(vm);
    }

    /// Whoever jumps to a trace that is gone goes back to the interpreter instead.
    pub(super) fn redirect(&self, gone: &Compiled, leave: usize) {
        let Some(i) = gone.installed else { return };
        for o in self.traces.iter().flatten() {
            for c in 0..=o.cells.link() {
                if o.cells.get(c) == i.tail_entry {
                    o.cells.set(c, leave);
                }
            }
        }
    }

    /// Gives back the code of traces that are gone, unless some of it may still be returned to.
    pub(super) fn drop_retired(&mut self, vm: &Vm) {
        if vm.callbacks != 0 {
            return;
        }
        for t in self.retired.drain(..) {
            if let (Some(rt), Some(i)) =
                (self.runtime.as_mut().filter(|_| t.forks == self.forks), t.installed)
            {
                rt.remove(i);
            }
        }
    }

    /// What leads into the code of a root trace is as it was.
    pub(super) fn unpatch(t: &Compiled, no: u32) {
        let Some((pc, op)) = entry(t.kind).filter(|_| t.installed.is_some()) else { return };
        let ins = view::ins_at(pc);
        if ins.op() == forms(op).1 && ins.d() == no {
            view::patch(pc, t.original);
            patch_loop_head(pc, t.original, Op::JFORI, Op::FORI);
        }
    }
}
