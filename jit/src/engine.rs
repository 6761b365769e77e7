//! The state machine of the JIT: idle, recording, compiling; the one implementor of [`JitHooks`]. Knows the
//! recorder and the code generator, which do not know each other.
//!
//! A trace's life: a hot counter runs out (`hot`); the recorder follows one round (`record_step`); the trace is
//! optimised (`finish`) and handed to the worker; a later hot event takes the code (`poll`), publishes it and
//! patches the loop (`install_code`); exits come back through `exit`, which restores frames and, when one
//! exit is hot, records a side trace for it.

use crate::abort::Abort;
use crate::code::arena;
use crate::code::exit::{ExitBuffer, ExitCells};
use crate::code::link::{Installed, Runtime};
use crate::dump;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::refs::SnapNo;
use crate::ir::ty::Ty;
use crate::lib_util::{self, Shared};
use crate::lower::Env;
use crate::opt;
use crate::options::Options;
use crate::record::call::CLOSURES_MAX;
use crate::record::{Kind, Rec, Step};
use crate::restore;
use crate::trace::link::Link;
use crate::trace::penalty::{Penalties, Verdict};
use crate::trace::{Trace, text};
use crate::view::{self, At};
use crate::worker::{Done, Gate, Job, Worker};
use moonlit_vm::bytecode::instr::Instr;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::function::proto::{Proto, protoflags};
use moonlit_vm::index::TraceNo;
use moonlit_vm::layout;
use moonlit_vm::state::hooks::{
    CodePlace, CompileCosts, EXIT_CALLED_BACK, ExitState, HotKind, JitHooks, TraceCode, TraceConst,
    TraceEntry, TraceEvent, TraceInfo, TraceIns, eventmask,
};
use moonlit_vm::state::{HOT_SIZE, Vm};
use moonlit_vm::value::Value;
use std::cell::OnceCell;

/// The exit number that says: the stack is written, the link target is gone.
pub const EXIT_LINK: u32 = u32::MAX;

/// An exit that never gets a side trace.
const NEVER: u16 = u16::MAX;
/// Exits of a function's trees are many, most of them seldom taken: so many times more often until they count as hot.
const FUNCTION_EXITS: u16 = 6;
/// Traces of a function's tree from which on its ways are too many: it is left to the interpreter.
const FUNCTION_SIDES_MAX: u32 = 64;
/// Attempts to compile what follows on a function's trace that may fail.
const DEAD_ENDS_MAX: u8 = 3;
/// The instruction that is patched for a loop: a loop over `next` counts in its ITERN, its ITERL is patched.
fn back_edge(pc: usize, op: Op) -> (usize, Op) {
    if op == Op::ITERN { (pc + 4, Op::ITERL) } else { (pc, op) }
}

/// Counts until a pending compilation is asked for again.
const PENDING_COUNT: u16 = 60;

struct Compiled {
    trace: Trace,
    kind: Kind,
    cells: ExitCells,
    counts: Vec<u16>,
    /// What each exit writes, once it was taken.
    plans: Vec<OnceCell<Option<Box<[restore::Write]>>>>,
    tries: Vec<u8>,
    keep: Vec<Value>,
    proto: Option<Gc<Proto>>,
    original: Instr,
    installed: Option<Installed>,
    /// Number of its job: a result is for the trace it was ordered for, not for a later one of the same number.
    ticket: u64,
    /// Forks before it was installed.
    forks: u64,
    /// Attempts to go on after it that would have ended in the interpreter (roots of functions).
    dead_ends: u8,
    /// Its root is a function's.
    of_function: bool,
    sides: u32,
    /// Side traces of those, if it is a root.
    under: u32,
}

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
        }
    }

    /// The gate that delays compilation (tests).
    pub fn gate(&self) -> Gate {
        self.gate.clone()
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

    /// One line of `-jv`. What goes to standard output stays in order with what the program writes there.
    fn say(&self, vm: &mut Vm, line: &str) {
        use std::io::Write;
        // Where the text goes does not matter to the program: errors of writing are ignored.
        let _ = match self.opts.output.as_str() {
            "" => writeln!(std::io::stderr(), "{line}"),
            "-" => {
                moonlit_vm::lib::io::write_stdout(vm, format!("{line}\n").as_bytes());
                Ok(())
            }
            file => std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(file)
                .and_then(|mut f| writeln!(f, "{line}")),
        };
    }

    fn note(&self, vm: &mut Vm, why: Abort) {
        if self.opts.verbose {
            let line = format!("[TRACE --- -- {}]", why.text(Some(vm)));
            self.say(vm, &line);
        }
    }

    /// `chunk:line` of an instruction.
    fn place(&self, vm: &Vm, proto: Option<Gc<Proto>>, pc: usize) -> String {
        let Some(pt) = proto else { return format!("0x{pc:x}") };
        let p = pt.get(&vm.heap);
        let pos = pc.wrapping_sub(p.code().as_ptr() as usize) / 4;
        let line = p.line_at(pos as u32).unwrap_or(0);
        let text = moonlit_vm::bytecode::chunkname::location(p.chunkname.bytes(&vm.heap), line, pt.addr());
        String::from_utf8_lossy(&text).into_owned()
    }

    /// How `-jv` names the start of a trace.
    fn start_text(&self, vm: &Vm, kind: Kind, proto: Option<Gc<Proto>>, start_pc: usize) -> String {
        match kind {
            Kind::Loop { pc, .. } => self.place(vm, proto, pc),
            Kind::Side { parent, exit } => {
                format!("({parent}/{exit}) {}", self.place(vm, proto, start_pc))
            }
        }
    }

    /// The number of the next trace.
    fn free_number(&self) -> usize {
        let free = self.traces.iter().skip(1).position(|t| t.is_none()).map(|i| i + 1);
        free.unwrap_or(self.traces.len())
    }

    /// An instruction for those who listen.
    fn code_place(vm: &Vm, at: Option<At>) -> CodePlace {
        let Some(at) = at else { return CodePlace { func: Value::NIL, pos: 0 } };
        let code = at.proto(&vm.heap).map(|p| p.get(&vm.heap).code().as_ptr() as usize);
        CodePlace {
            func: at.func().map_or(Value::NIL, Value::obj),
            pos: code.map_or(-1, |c| ((at.pc as usize).wrapping_sub(c) / 4) as i32),
        }
    }

    fn begin(&mut self, vm: &mut Vm, rec: Rec, at: At) {
        if vm.events.listening & eventmask::TRACE != 0 {
            let parent = match rec.kind {
                Kind::Side { parent, exit } => Some((parent, exit)),
                Kind::Loop { .. } => None,
            };
            let (no, at) = (self.free_number() as u32, Engine::code_place(vm, Some(at)));
            vm.tell(TraceEvent::Start { no, at, parent });
        }
        self.rec_proto = at.proto(&vm.heap);
        self.rec = Some(Box::new(rec));
        self.retries = 0;
        self.at = None;
        self.repeated = false;
        vm.set_recording(true);
    }

    fn stop_recording(&mut self, vm: &mut Vm) -> Option<Box<Rec>> {
        vm.set_recording(false);
        self.rec.take()
    }

    fn is_pending(&self, pc: usize) -> bool {
        self.traces
            .iter()
            .flatten()
            .any(|t| t.installed.is_none() && matches!(t.kind, Kind::Loop { pc: p, .. } if p == pc))
    }

    fn punish(&mut self, vm: &mut Vm, kind: Kind) {
        self.punish_for(vm, kind, Penalties::abort);
    }

    fn punish_for(&mut self, vm: &mut Vm, kind: Kind, rule: fn(&mut Penalties, usize, u32) -> Verdict) {
        self.stats.1 += 1;
        // The attempts must not fall into step with short inner loops.
        let jitter = self.shared.random() as u32 & 15;
        match kind {
            Kind::Loop { pc, op } => match rule(&mut self.penalties, pc, jitter) {
                Verdict::Retry(n) => vm.set_hot(pc as *const u32, n),
                Verdict::Blacklist => {
                    let (pc, op) = back_edge(pc, op);
                    let ins = view::ins_at(pc);
                    if ins.op() == op {
                        let blunt = match op {
                            Op::FORL => Op::IFORL,
                            Op::ITERL => Op::IITERL,
                            Op::FUNCF => Op::IFUNCF,
                            _ => Op::ILOOP,
                        };
                        view::patch(pc, ins.with_op(blunt));
                    }
                }
            },
            Kind::Side { parent, exit } => {
                let limit = self.opts.params.tryside;
                if let Some(Some(t)) = self.traces.get_mut(parent as usize) {
                    let e = exit as usize;
                    t.tries[e] = t.tries[e].saturating_add(1);
                    t.counts[e] = if t.tries[e] as u32 >= limit { NEVER } else { 0 };
                }
            }
        }
    }

    fn abort(&mut self, vm: &mut Vm, why: Abort) {
        if let Some(rec) = self.stop_recording(vm) {
            if vm.events.listening & eventmask::TRACE != 0 {
                let (no, at) = (self.free_number() as u32, Engine::code_place(vm, self.at));
                vm.tell(TraceEvent::Abort { no, at, why: why.text(Some(vm)) });
            }
            if self.opts.verbose {
                let start = self.start_text(vm, rec.kind, self.rec_proto, rec.start_pc);
                let at = self.at.map(|at| self.place(vm, at.proto(&vm.heap), at.pc as usize));
                let at = at.filter(|at| !start.ends_with(at)).map_or(String::new(), |at| format!(" at {at}"));
                let line = format!("[TRACE --- {start} -- {}{at}]", why.text(Some(vm)));
                self.say(vm, &line);
            }
            let short = why == Abort::TraceTooShort;
            self.punish_for(vm, rec.kind, if short { Penalties::too_short } else { Penalties::abort });
        }
    }

    /// Does an exit of a trace, perhaps, tell one closure from the many that were made of its prototype since?
    fn is_outlived(vm: &Vm, t: &Trace, exit: usize) -> bool {
        let end = t.snaps.get(exit + 1).map_or(t.ir.next_ref(), |s| s.at);
        (t.snaps[exit].at.ins_index()..end.ins_index()).map(|n| *t.ir.ins(Ref::ins(n))).any(|i| {
            i.op == IrOp::EQ && i.rb().is_const() && t.ir.ty(i.rb()) == Ty::Func && {
                let func = Gc::<Func>::from_addr(t.ir.k(i.rb()).bits);
                let lua = func.and_then(|f| f.as_lua(&vm.heap));
                lua.is_some_and(|f| f.get(&vm.heap).proto.get(&vm.heap).closures > CLOSURES_MAX)
            }
        })
    }

    /// The root of trace `no`, and that one's back edge if what leads to `no` are exits at the loop's start only.
    fn root_of(traces: &[Option<Box<Compiled>>], mut no: u32) -> (u32, Option<(usize, Op)>) {
        let mut at_start = true;
        while let Some(Some(t)) = traces.get(no as usize) {
            match t.kind {
                Kind::Side { parent, exit } => {
                    at_start &= exit == 0;
                    no = parent;
                }
                // A function's start is no loop's.
                Kind::Loop { op: Op::FUNCF, .. } => return (no, None),
                Kind::Loop { pc, op } => return (no, at_start.then_some((pc, op))),
            }
        }
        (no, None)
    }

    /// The root of trace `no` is entered no more: it relies on a closure whose place others have taken. Its loop becomes hot
    /// again, and the next trace relies on the prototype.
    fn retire(&self, no: u32) {
        let root = Engine::root_of(&self.traces, no).0;
        if let Some(Some(t)) = self.traces.get(root as usize) {
            Engine::unpatch(t, root);
        }
    }

    /// The recorder has reached the end: optimise, hand to the worker. `Ok(true)`: recording goes on.
    fn finish(&mut self, vm: &mut Vm) -> Result<bool, Abort> {
        let Some(rec) = self.rec.as_mut() else { return Ok(false) };
        let p = self.opts.passes;
        if rec.trace.link == Link::Loop {
            if p.loop_ {
                let slots = rec.slot_refs();
                let unrolled = opt::unroll::run(&mut rec.trace, p, &slots);
                if let (Err(_), Kind::Side { parent, .. }) = (&unrolled, rec.kind) {
                    rec.trace.link = Link::Root(Engine::root_of(&self.traces, parent).0);
                } else if let Err(e) = unrolled {
                    if self.retries >= self.opts.params.instunroll {
                        return Err(e);
                    }
                    // Types may settle after another round.
                    self.retries += 1;
                    rec.trace.link = Link::None;
                    return Ok(true);
                }
            } else {
                // Without peeling the trace jumps to its own entry.
                rec.trace.link = Link::Root(0);
            }
        }
        let mut rec = *self.stop_recording(vm).ok_or(Abort::Outdated)?;
        for r in rec.trace.ir.refs() {
            let i = rec.trace.ir.ins_mut(r);
            if i.op == IrOp::STACK {
                *i = Ins { a: rec.slots_max as u16, ..*i };
            }
        }
        if p.dce {
            opt::dce::run(&mut rec.trace);
            if p.sink {
                opt::sink::run(&mut rec.trace);
            }
        }
        if cfg!(debug_assertions) {
            if let Err(b) = crate::ir::verify::verify(&rec.trace.ir) {
                let t = text::print(&rec.trace);
                debug_assert!(false, "broken trace at {:?}: {}\n{t}", b.at, b.what);
                self.punish(vm, rec.kind);
                return Ok(false);
            }
        }
        if rec.trace.snaps.iter().any(|s| s.len as usize > ExitBuffer::WORDS) {
            self.punish(vm, rec.kind);
            return Ok(false);
        }
        if let Err(e) = self.submit(vm, rec) {
            self.note(vm, e);
        }
        Ok(false)
    }

    fn submit(&mut self, vm: &mut Vm, rec: Rec) -> Result<(), Abort> {
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
        let function = rec.is_function();
        if self.opts.verbose {
            let start = self.start_text(vm, kind, self.rec_proto, rec.start_pc);
            let link = match rec.trace.link {
                Link::Loop => " loop".to_string(),
                Link::Root(0) if function => " up-recursion".to_string(),
                Link::Root(0) => " loop".to_string(),
                Link::Interp if function => " return".to_string(),
                Link::Root(n) => format!(" -> {n}"),
                Link::Interp | Link::None => " -- fallback to interpreter".to_string(),
            };
            self.say(vm, &format!("[TRACE {no:3} {start}{link}]"));
        }
        let original = match kind {
            Kind::Loop { pc, op } => view::ins_at(back_edge(pc, op).0),
            Kind::Side { .. } => Instr(0),
        };
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
                p.sides += 1;
            }
            let root = Engine::root_of(&self.traces, parent).0;
            if let Some(Some(r)) = self.traces.get_mut(root as usize).filter(|_| root != parent) {
                r.under += 1;
            }
        }
        let mut counts = vec![0; n];
        if trace.link == Link::Interp {
            // The end of such a trace is no hot exit: what follows cannot be recorded.
            counts[n - 1] = NEVER;
        }
        // Life follows the prototype the root trace starts in.
        let proto = match kind {
            Kind::Loop { .. } => self.rec_proto,
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
        let of_function = match kind {
            Kind::Loop { op, .. } => op == Op::FUNCF,
            Kind::Side { parent, .. } => {
                matches!(self.traces.get(parent as usize), Some(Some(p)) if p.of_function)
            }
        };
        let c = Compiled {
            trace,
            kind,
            cells,
            counts,
            plans: vec![OnceCell::new(); n],
            tries: vec![0; n],
            keep,
            proto,
            original,
            installed: None,
            ticket,
            forks: self.forks,
            sides: 0,
            under: 0,
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
        if let Kind::Loop { pc, .. } = kind {
            vm.set_hot(pc as *const u32, PENDING_COUNT);
        }
        if self.opts.jitsync {
            self.poll(vm);
        }
        Ok(())
    }

    /// Hands a job to the worker, which starts with the first one.
    fn order(&mut self, job: Job) -> Result<(), Abort> {
        let worker = match &mut self.worker {
            Some(w) => w,
            none => none.insert(Worker::start(self.opts.jitsync, &self.gate)?),
        };
        worker.submit(job)
    }

    /// After a fork: the thread is gone with its jobs, the code memory belongs to the parent. Traces that
    /// are installed go on in this process's copy; everything new gets a new thread and a new arena.
    fn check_fork(&mut self, vm: &mut Vm) {
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
    fn poll(&mut self, vm: &mut Vm) {
        loop {
            let Some(w) = self.worker.as_mut() else { return };
            let Some(done) = w.poll() else { return };
            if let Err(e) = self.install_code(vm, done) {
                self.note(vm, e);
            }
        }
    }

    fn install_code(&mut self, vm: &mut Vm, done: Done) -> Result<(), Abort> {
        if self.runtime.is_none() {
            let stubs = done.stubs.as_ref().ok_or(Abort::CodeGeneration)?;
            let size = (self.opts.params.maxmcode as usize).saturating_mul(1024);
            match Runtime::new(size, stubs) {
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
        match kind {
            Kind::Loop { pc, op } => {
                let (pc, op) = back_edge(pc, op);
                let ins = view::ins_at(pc);
                if ins.op() != op {
                    return Ok(());
                }
                let j = match op {
                    Op::FORL => Op::JFORL,
                    Op::ITERL => Op::JITERL,
                    Op::FUNCF => Op::JFUNCF,
                    _ => Op::JLOOP,
                };
                view::patch(pc, ins.with_op(j).with_d(no));
                if op == Op::FORL {
                    let fori = (pc as i64 + original.j() as i64 * 4) as usize;
                    let f = view::ins_at(fori);
                    if f.op() == Op::FORI {
                        view::patch(fori, f.with_op(Op::JFORI));
                    }
                }
            }
            Kind::Side { parent, exit } => {
                if let Some(Some(p)) = self.traces.get(parent as usize) {
                    p.cells.set(exit as usize, installed.tail_entry);
                }
            }
        }
        Ok(())
    }

    /// Trace `no` is gone: its prototype names another one of its traces, so that they are marked.
    fn unlink_proto(&mut self, vm: &mut Vm, proto: Option<Gc<Proto>>, no: u32) {
        let Some(p) = proto else { return };
        if p.get(&vm.heap).trace == no {
            let other = self.traces.iter().position(|t| t.as_ref().is_some_and(|t| t.proto == proto));
            p.get_mut(&mut vm.heap).trace = other.unwrap_or(0) as u32;
        }
    }

    /// Throws away traces, with their side traces, and those that wait for code which is to lead into one of them.
    fn remove(&mut self, vm: &mut Vm, mut gone: Vec<u32>) {
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
                p.sides -= 1;
            }
            self.redirect(&t, leave);
            self.retired.push(*t);
        }
        self.drop_retired(vm);
    }

    /// Whoever jumps to a trace that is gone goes back to the interpreter instead.
    fn redirect(&self, gone: &Compiled, leave: usize) {
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
    fn drop_retired(&mut self, vm: &Vm) {
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

    fn unpatch(t: &Compiled, no: u32) {
        let Kind::Loop { pc, op } = t.kind else { return };
        if t.installed.is_none() {
            return;
        }
        let (pc, _) = back_edge(pc, op);
        let ins = view::ins_at(pc);
        if matches!(ins.op(), Op::JFORL | Op::JITERL | Op::JLOOP | Op::JFUNCF) && ins.d() == no {
            view::patch(pc, t.original);
            if t.original.op() == Op::FORL {
                let fori = (pc as i64 + t.original.j() as i64 * 4) as usize;
                let f = view::ins_at(fori);
                if f.op() == Op::JFORI {
                    view::patch(fori, f.with_op(Op::FORI));
                }
            }
        }
    }

    /// Would a trace that ends in the interpreter make a function slower that calls itself? Each level would be entered and left.
    /// After some of them its root is given up.
    fn is_dead_end(&mut self, kind: Kind) -> bool {
        let Kind::Side { parent, .. } = kind else { return false };
        let root = Engine::root_of(&self.traces, parent).0;
        let Some(Some(t)) = self.traces.get_mut(root as usize) else { return false };
        if !t.of_function {
            return false;
        }
        t.dead_ends = t.dead_ends.saturating_add(1);
        if t.dead_ends == DEAD_ENDS_MAX {
            self.give_up(root);
        }
        true
    }

    /// The function of root trace `root` is left to the interpreter from now on.
    fn give_up(&mut self, root: u32) {
        let Some(Some(t)) = self.traces.get(root as usize) else { return };
        let Kind::Loop { pc, op: Op::FUNCF } = t.kind else { return };
        Engine::unpatch(t, root);
        let ins = view::ins_at(pc);
        if ins.op() == Op::FUNCF {
            view::patch(pc, ins.with_op(Op::IFUNCF));
        }
        if let Some(rt) = &self.runtime {
            self.redirect(t, rt.leave_stub());
        }
    }

    /// May the failed step be left to the interpreter, with the trace so far ending there?
    fn may_end_here(why: Abort) -> bool {
        matches!(
            why,
            Abort::NyiOp(_)
                | Abort::NyiNative(_)
                | Abort::NyiTypes(_)
                | Abort::NyiMetamethod
                | Abort::NyiTableAccess
                | Abort::BadCall
                | Abort::Recursion
                | Abort::CallUnrollLimit
                | Abort::JitOffForProto
        )
    }
}

impl JitHooks for Engine {
    fn hot(&mut self, vm: &mut Vm, pc: *const u32, base: *mut Value, kind: HotKind) {
        if self.rec.is_some() {
            // The instruction was recorded already and is dispatched once more; not so what a listener runs in between.
            self.repeated |= !vm.is_telling();
            return;
        }
        self.sync_options(vm);
        if !self.opts.on {
            return;
        }
        self.check_fork(vm);
        self.drop_retired(vm);
        self.poll(vm);
        let at = At { pc, base };
        let op = at.ins(0).op();
        let fits = match kind {
            HotKind::Call => op == Op::FUNCF,
            _ => matches!(op, Op::FORL | Op::ITERL | Op::ITERN | Op::LOOP),
        };
        if !fits {
            return;
        }
        if self.full {
            return;
        }
        if self.is_pending(pc as usize) {
            vm.set_hot(pc, PENDING_COUNT);
            return;
        }
        let k = Kind::Loop { pc: pc as usize, op };
        if at.proto(&vm.heap).is_some_and(|p| p.get(&vm.heap).flags & protoflags::NOJIT != 0) {
            self.punish(vm, k);
            return;
        }
        if op == Op::FUNCF && !Rec::may_be_worth_it(vm, at) {
            view::patch(pc as usize, at.ins(0).with_op(Op::IFUNCF));
            return;
        }
        let start = if op == Op::FUNCF { Rec::start_function } else { Rec::start_loop };
        match start(vm, at, self.opts.passes, self.opts.params.clone()) {
            Ok(rec) => self.begin(vm, rec, at),
            Err(e) => {
                self.note(vm, e);
                self.punish(vm, k);
            }
        }
    }

    fn record_step(&mut self, vm: &mut Vm, pc: *const u32, base: *mut Value) -> bool {
        let at = At { pc, base };
        self.at = Some(at);
        let Some(rec) = self.rec.as_mut() else { return false };
        if std::mem::take(&mut self.repeated) {
            return true;
        }
        if vm.events.listening & eventmask::RECORD != 0 {
            let depth = rec.depth() as u32;
            let (no, at) = (self.free_number() as u32, Engine::code_place(vm, Some(at)));
            vm.tell(TraceEvent::Record { no, at, depth });
        }
        let Some(rec) = self.rec.as_mut() else { return false };
        let mut res = rec.step(vm, at);
        if let Err(e) = res {
            let (kind, far) = (rec.kind, !rec.is_root() && rec.count > 1);
            if far && Engine::may_end_here(e) && !self.is_dead_end(kind) {
                let Some(rec) = self.rec.as_mut() else { return false };
                res = rec.end_here(vm, at);
            }
        }
        match res {
            Ok(Step::Next) => true,
            Ok(Step::Done) => match self.finish(vm) {
                Ok(go_on) => go_on,
                Err(e) => {
                    self.abort(vm, e);
                    false
                }
            },
            Err(e) => {
                self.abort(vm, e);
                false
            }
        }
    }

    fn abort_recording(&mut self, vm: &mut Vm) {
        self.abort(vm, Abort::ErrorThrown);
    }

    fn pause_recording(&mut self, vm: &mut Vm) {
        vm.set_recording(false);
        self.paused.push(Paused {
            rec: self.rec.take(),
            proto: self.rec_proto.take(),
            retries: self.retries,
            at: self.at.take(),
            repeated: std::mem::take(&mut self.repeated),
        });
    }

    fn resume_recording(&mut self, vm: &mut Vm) {
        // What the callback began to record ends with it.
        self.abort(vm, Abort::ErrorThrown);
        let Some(p) = self.paused.pop() else { return };
        (self.retries, self.at, self.repeated) = (p.retries, p.at, p.repeated);
        if p.rec.is_some() {
            (self.rec, self.rec_proto) = (p.rec, p.proto);
            vm.set_recording(true);
        }
    }

    fn exit(&mut self, vm: &mut Vm, no: TraceNo, exit: u32) -> ExitState {
        let n = no.index();
        let base = vm.base();
        if exit == EXIT_CALLED_BACK {
            if self.rec.is_some() {
                self.abort(vm, Abort::ErrorThrown);
            }
            return ExitState { pc: vm.pc.wrapping_sub(1), base };
        }
        let t = self.traces[n].as_ref().expect("code that runs belongs to a live trace");
        if exit == EXIT_LINK {
            let last = SnapNo::new(t.trace.snaps.len() - 1);
            // SAFETY: the code wrote all slots before it jumped, and published its base in the thread.
            let at = unsafe {
                restore::resume_at(vm, &t.trace, last, base.wrapping_offset(-(t.trace.link_base as isize)))
            };
            return ExitState { pc: at.pc, base: at.base };
        }
        let snap = SnapNo::new(exit as usize);
        let plan = t.plans[exit as usize].get_or_init(|| restore::plan(&t.trace, snap));
        // SAFETY: `base` is the base the trace was entered with (a trace that moves it stores it in the
        // thread), the STACK guard has checked the room, and this exit has just filled the buffer.
        let at = unsafe {
            match plan {
                Some(p) => restore::restore_as_planned(vm, (&t.trace, snap), p, &self.buf, base),
                None => restore::restore(vm, &t.trace, snap, &self.buf, base),
            }
        };
        let state = ExitState { pc: at.pc, base: at.base };
        if vm.events.listening & eventmask::EXIT != 0 {
            vm.tell(TraceEvent::Exit { no: n as u32, exit });
        }
        if self.rec.is_some() {
            // A listener's own code may be compiled; the recording waits for it.
            if !vm.is_telling() {
                self.abort(vm, Abort::ErrorThrown);
            }
            return state;
        }
        let attention = vm.flags.load(std::sync::atomic::Ordering::Relaxed) != 0;
        if vm.heap.gc_due() || attention || !self.opts.on {
            return state;
        }
        self.check_fork(vm);
        self.poll(vm);
        let mut limit = self.opts.params.hotexit as u16;
        let maxside = self.opts.params.maxside;
        let full = self.full;
        let Some(Some(t)) = self.traces.get_mut(n) else { return state };
        if t.of_function {
            limit = limit.saturating_mul(FUNCTION_EXITS);
        }
        let count = &mut t.counts[exit as usize];
        if *count == NEVER {
            return state;
        }
        *count += 1;
        if *count < limit {
            return state;
        }
        if t.sides >= maxside {
            *count = NEVER;
            return state;
        }
        *count = 0;
        if full {
            *count = NEVER;
            return state;
        }
        if t.of_function {
            let root = Engine::root_of(&self.traces, n as u32).0;
            let all = self.traces[root as usize].as_ref().map_or(0, |r| r.sides + r.under);
            if all >= FUNCTION_SIDES_MAX {
                self.give_up(root);
                return state;
            }
        }
        let Some(Some(t)) = self.traces.get_mut(n) else { return state };
        if Engine::is_outlived(vm, &t.trace, exit as usize) {
            t.counts[exit as usize] = NEVER;
            self.retire(n as u32);
            return state;
        }
        let head = (exit == 0).then(|| Engine::root_of(&self.traces, n as u32).1).flatten();
        let (passes, params) = (self.opts.passes, self.opts.params.clone());
        let Some(Some(t)) = self.traces.get(n) else { return state };
        match Rec::start_side(vm, at, &t.trace, n as u32, exit, head, passes, params) {
            Ok(rec) => self.begin(vm, rec, at),
            Err(e) => {
                self.note(vm, e);
                self.punish(vm, Kind::Side { parent: n as u32, exit });
            }
        }
        state
    }

    fn mark_trace(&mut self, no: TraceNo, mark: &mut dyn FnMut(Value)) {
        // One trace stands for all that live as long as its prototype.
        let Some(Some(t)) = self.traces.get(no.index()) else { return };
        let proto = t.proto;
        for t in self.traces.iter().flatten().filter(|t| t.proto == proto) {
            t.keep.iter().for_each(|v| mark(*v));
        }
    }

    fn mark_pending(&mut self, mark: &mut dyn FnMut(Value)) {
        let waiting = self.paused.iter().map(|p| (&p.rec, &p.proto));
        for (rec, proto) in waiting.chain([(&self.rec, &self.rec_proto)]) {
            rec.iter().flat_map(|r| &r.keep).for_each(|v| mark(*v));
            proto.iter().for_each(|p| mark(Value::obj(*p)));
        }
        // A trace that waits for its code lives as long as its prototype, like one that has it. Nobody may ever ask
        // for the code, so the wait keeps nothing alive.
        for t in self.traces.iter().flatten().filter(|t| t.proto.is_none()) {
            t.keep.iter().for_each(|v| mark(*v));
        }
    }

    fn proto_freed(&mut self, proto: Gc<Proto>) {
        self.full = false;
        for no in 1..self.traces.len() {
            if !self.traces[no].as_ref().is_some_and(|t| t.proto == Some(proto)) {
                continue;
            }
            let Some(t) = self.traces[no].take() else { continue };
            let leave = self.runtime.as_ref().or(self.inherited.last()).map_or(0, |r| r.leave_stub());
            self.redirect(&t, leave);
            if t.installed.is_some() {
                self.retired.push(*t);
            }
        }
    }

    fn flush(&mut self, vm: &mut Vm) {
        self.full = false;
        if vm.events.listening & eventmask::TRACE != 0 {
            vm.tell(TraceEvent::Flush);
        }
        if self.opts.verbose {
            self.say(vm, "[TRACE flush]");
        }
        self.abort(vm, Abort::Outdated);
        for no in 1..self.traces.len() {
            let Some(t) = self.traces[no].take() else { continue };
            Engine::unpatch(&t, no as u32);
            if let Some(p) = t.proto {
                p.get_mut(&mut vm.heap).trace = 0;
            }
            vm.traces.set(TraceNo::new(no as u32), TraceEntry { entry: 0, start_ins: 0, reserved: 0 });
            self.retired.push(*t);
        }
        self.paused.iter_mut().for_each(|p| p.rec = None);
        self.drop_retired(vm);
        self.traces.truncate(1);
        self.penalties.clear();
        self.reset_counters(vm);
    }

    fn flush_trace(&mut self, vm: &mut Vm, no: TraceNo) {
        let root = |t: &Compiled| matches!(t.kind, Kind::Loop { .. });
        if self.traces.get(no.index()).is_some_and(|t| t.as_ref().is_some_and(|t| root(t))) {
            self.remove(vm, vec![no.index() as u32]);
        }
    }

    fn flush_protos(&mut self, vm: &mut Vm, protos: &[Gc<Proto>]) {
        let of = |t: &Compiled| t.proto.is_some_and(|p| protos.contains(&p));
        let gone = self.traces.iter().enumerate().filter(|(_, t)| t.as_ref().is_some_and(|t| of(t)));
        let gone = gone.map(|(no, _)| no as u32).collect();
        self.remove(vm, gone);
    }

    fn allow_proto(&mut self, vm: &mut Vm, proto: Gc<Proto>) {
        let start = proto.get(&vm.heap).code().as_ptr() as usize;
        for i in 0..proto.get(&vm.heap).code().len() {
            let pc = start + i * 4;
            let ins = view::ins_at(pc);
            let counting = match ins.op() {
                Op::IFORL => Some(Op::FORL),
                Op::IITERL => Some(Op::ITERL),
                Op::ILOOP => Some(Op::LOOP),
                Op::IFUNCF => Some(Op::FUNCF),
                _ => None,
            };
            if let Some(op) = counting {
                view::patch(pc, ins.with_op(op));
            }
            if self.penalties.forget(pc) || counting.is_some() {
                vm.set_hot(pc as *const u32, self.opts.hot_count());
            }
        }
    }

    fn trace_info(&self, no: TraceNo) -> Option<TraceInfo> {
        let t = self.traces.get(no.index())?.as_ref()?;
        Some(TraceInfo {
            instructions: dump::instructions(&t.trace),
            constants: dump::constants(&t.trace),
            link: match t.trace.link {
                Link::Loop => no.index() as u32,
                Link::Root(n) => n,
                Link::Interp | Link::None => 0,
            },
            exits: t.trace.snaps.len(),
            link_kind: t.trace.link.name(),
        })
    }

    fn trace_ins(&self, no: TraceNo, r: i32) -> Option<TraceIns> {
        dump::instruction(self.trace(no)?, r)
    }

    fn trace_const(&self, no: TraceNo, r: i32) -> Option<TraceConst> {
        dump::constant(self.trace(no)?, r)
    }

    fn trace_snap(&self, no: TraceNo, n: usize) -> Option<Vec<u32>> {
        dump::snapshot(self.trace(no)?, n)
    }

    fn trace_code(&mut self, vm: &mut Vm, no: TraceNo) -> Option<TraceCode> {
        self.check_fork(vm);
        self.poll(vm);
        while self.traces.get(no.index())?.as_ref()?.installed.is_none() {
            let done = self.worker.as_mut()?.wait()?;
            if let Err(e) = self.install_code(vm, done) {
                self.note(vm, e);
            }
        }
        let i = self.traces.get(no.index())?.as_ref()?.installed?;
        let bytes = self.runtime.iter().chain(&self.inherited).find_map(|r| r.code(i))?;
        let looping = self.places(no, &bytes).looping;
        Some(TraceCode { bytes, address: i.tail_entry, looping })
    }

    fn trace_exit(&self, no: TraceNo, exit: usize) -> Option<usize> {
        let t = self.traces.get(no.index())?.as_ref()?;
        let i = t.installed.filter(|_| exit < t.trace.snaps.len())?;
        let bytes = self.runtime.iter().chain(&self.inherited).find_map(|r| r.code(i))?;
        let block = self.places(no, &bytes).exits.get(exit).copied().flatten();
        // An exit that the code has not is only a place to go on from.
        Some(block.map_or_else(|| t.cells.get(exit), |b| i.tail_entry + b))
    }

    fn costs(&self) -> CompileCosts {
        self.costs
    }
}

impl Engine {
    /// Where the loop and the exits are in the code of a trace, on machines whose code can be read here.
    #[cfg(target_arch = "x86_64")]
    fn places(&self, no: TraceNo, code: &[u8]) -> crate::dump::Places {
        let Some(t) = self.trace(no) else { return Default::default() };
        crate::disasm::places(code, no.index() as u32, t.snaps.len(), t.link == Link::Loop)
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn places(&self, _: TraceNo, _: &[u8]) -> crate::dump::Places {
        Default::default()
    }

    fn trace(&self, no: TraceNo) -> Option<&Trace> {
        self.traces.get(no.index())?.as_ref().map(|t| &t.trace)
    }

    fn reset_counters(&self, vm: &mut Vm) {
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
