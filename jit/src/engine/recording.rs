//! The life of a recording: it begins, is paused under callbacks, ends in an abort or in a trace.

use super::exits::NEVER;
use super::traces::{self};
use super::{Engine, Paused};
use crate::abort::Abort;
use crate::code::exit::ExitBuffer;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::opt;
use crate::record::{Kind, Rec};
use crate::trace::link::Link;
use crate::trace::penalty::{Penalties, Verdict};
use crate::trace::text;
use crate::view::At;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::function::closure::Func;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::{AbortInfo, TraceEvent, eventmask};
use moonlit_vm::value::Value;

impl Engine {
    /// The instruction at `at` is recorded next.
    pub(super) fn begin(&mut self, vm: &mut Vm, mut rec: Rec, at: At) {
        if vm.events.listening & eventmask::TRACE != 0 {
            let parent = match rec.kind {
                Kind::Side { parent, exit } => Some((parent, exit)),
                Kind::Loop { .. } | Kind::Function { .. } => None,
            };
            let (no, at) = (self.free_number() as u32, Engine::code_place(vm, Some(at)));
            vm.tell(TraceEvent::Start { no, at, parent });
        }
        self.rec_proto = at.proto(&vm.heap);
        if rec.is_root() {
            rec.short_loops = self.penalties.short_loops();
        }
        self.rec = Some(Box::new(rec));
        self.retries = 0;
        self.at = None;
        self.repeated = false;
        vm.set_recording(true);
    }

    pub(super) fn stop_recording(&mut self, vm: &mut Vm) -> Option<Box<Rec>> {
        vm.set_recording(false);
        self.rec.take()
    }

    pub(super) fn is_pending(&self, pc: usize) -> bool {
        self.traces.iter().flatten().any(|t| t.installed.is_none() && t.kind.hot() == Some(pc))
    }

    pub(super) fn punish(&mut self, vm: &mut Vm, kind: Kind) {
        self.punish_for(vm, kind, Penalties::abort);
    }

    fn punish_for(&mut self, vm: &mut Vm, kind: Kind, rule: fn(&mut Penalties, usize, u32) -> Verdict) {
        self.stats.1 += 1;
        // The attempts must not fall into step with short inner loops.
        let jitter = self.shared.random() as u32 & 15;
        match kind {
            Kind::Loop { pc, .. } | Kind::Function { pc } => match rule(&mut self.penalties, pc, jitter) {
                Verdict::Retry(n) => vm.set_hot(pc as *const u32, n),
                Verdict::Blacklist => traces::silence(kind),
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

    pub(super) fn abort(&mut self, vm: &mut Vm, why: Abort) {
        if let Some(rec) = self.stop_recording(vm) {
            if vm.events.listening & eventmask::TRACE != 0 {
                let (no, at) = (self.free_number() as u32, Engine::code_place(vm, self.at));
                let mut reason = why.reason(Some(vm));
                if let Some(f) = self.callee(vm, why) {
                    reason.info = Some(AbortInfo::Func(f));
                }
                vm.tell(TraceEvent::Abort { no, at, why: reason });
            }
            self.say_aborted(vm, &rec, why);
            let rule = match why {
                Abort::TraceTooShort => Penalties::too_short,
                Abort::LeavesLoop => Penalties::left,
                Abort::InnerLoop => Penalties::inner_loop,
                _ => Penalties::abort,
            };
            self.punish_for(vm, rec.kind, rule);
        }
    }

    /// The library function whose call could not be recorded.
    fn callee(&self, vm: &Vm, why: Abort) -> Option<Value> {
        let (Abort::NyiNative(id), Some(at)) = (why, self.at) else { return None };
        let ins = at.ins(0);
        let register = match ins.op() {
            Op::CALL | Op::CALLM | Op::CALLT | Op::CALLMT => ins.a(),
            Op::ITERC => ins.a().checked_sub(3)?,
            _ => return None,
        };
        let f = at.reg(register);
        let native = f.as_obj::<Func>()?.as_native(&vm.heap)?;
        (native.get(&vm.heap).id.get() == id).then_some(f)
    }

    /// A callback runs meanwhile.
    pub(super) fn pause(&mut self, vm: &mut Vm) {
        vm.set_recording(false);
        self.paused.push(Paused {
            rec: self.rec.take(),
            proto: self.rec_proto.take(),
            retries: self.retries,
            at: self.at.take(),
            repeated: std::mem::take(&mut self.repeated),
        });
    }

    /// The callback is over.
    pub(super) fn resume(&mut self, vm: &mut Vm) {
        // What the callback began to record ends with it.
        self.abort(vm, Abort::ErrorThrown);
        let Some(p) = self.paused.pop() else { return };
        (self.retries, self.at, self.repeated) = (p.retries, p.at, p.repeated);
        if p.rec.is_some() {
            (self.rec, self.rec_proto) = (p.rec, p.proto);
            vm.set_recording(true);
        }
    }

    /// The recorder has reached the end: optimise, hand to the worker. `Ok(true)`: recording goes on.
    pub(super) fn finish(&mut self, vm: &mut Vm) -> Result<bool, Abort> {
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

    /// May the failed step be left to the interpreter, with the trace so far ending there?
    pub(super) fn may_end_here(why: Abort) -> bool {
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
