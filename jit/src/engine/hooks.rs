//! What the VM asks of its JIT.

use super::traces::{self, Compiled};
use super::{Engine, PENDING_COUNT};
use crate::abort::Abort;
use crate::dump;
use crate::lower::Compiler;
use crate::record::{Kind, Rec, Step};
use crate::trace::link::Link;
use crate::view::{self, At};
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::proto::{Proto, protoflags};
use moonlit_vm::index::TraceNo;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::{
    CompileCosts, ExitState, HotKind, JitHooks, TraceCode, TraceConst, TraceEntry, TraceEvent, TraceInfo,
    TraceIns, eventmask,
};
use moonlit_vm::value::Value;

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
        if !fits || self.full {
            return;
        }
        if self.is_pending(pc as usize) {
            vm.set_hot(pc, PENDING_COUNT);
            return;
        }
        let k = match op {
            Op::FUNCF => Kind::Function { pc: pc as usize },
            _ => Kind::Loop { pc: pc as usize, op },
        };
        if at.proto(&vm.heap).is_some_and(|p| p.get(&vm.heap).flags & protoflags::NOJIT != 0) {
            self.punish(vm, k);
            return;
        }
        if op == Op::FUNCF && !Rec::may_be_worth_it(vm, at) {
            return traces::silence(k);
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
        self.pause(vm);
    }

    fn resume_recording(&mut self, vm: &mut Vm) {
        self.resume(vm);
    }

    fn exit(&mut self, vm: &mut Vm, no: TraceNo, exit: u32) -> ExitState {
        self.leave(vm, no, exit)
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
        if let Some(Some(t)) = self.traces.get(no.index())
            && t.kind.hot().is_some()
        {
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
            let counting = traces::silenced(ins.op());
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
        let t = self.traces.get(no.index())?.as_ref()?;
        // Nobody keeps this while code is made: it is made once more.
        let registers = t.registers.get_or_init(|| {
            let made = Compiler::new(false).and_then(|mut c| c.registers(&t.trace, &t.env));
            made.unwrap_or_default().into()
        });
        let register = usize::try_from(r).ok().and_then(|n| registers.get(n).copied().flatten());
        dump::instruction(&t.trace, r, register)
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
