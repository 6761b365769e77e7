//! Functions that call themselves: how deep a trace follows, and which trace takes over then.

use super::call::CLOSURES_MAX;
use super::slots::SLOTS_MAX;
use super::{Kind, R, Rec};
use crate::abort::Abort;
use crate::view::{self, At};
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::function::proto::protoflags;
use moonlit_vm::state::Vm;
use moonlit_vm::thread::frame::{self};

/// Most frames on a trace.
const FRAMES_MAX: usize = 20;

impl Rec {
    /// What tells frames of one function apart from others: see [`Frame::func`].
    pub(super) fn identity(&self, vm: &Vm, f: Gc<Func>) -> u64 {
        match f.as_lua(&vm.heap).map(|l| l.get(&vm.heap).proto) {
            Some(p) if p.get(&vm.heap).closures > CLOSURES_MAX => p.addr(),
            _ => f.addr(),
        }
    }

    pub(super) fn may_enter(&self, vm: &Vm, f: Gc<Func>) -> R<()> {
        let Some(l) = f.as_lua(&vm.heap) else { return Err(Abort::BadCall) };
        let p = l.get(&vm.heap).proto.get(&vm.heap);
        if p.flags & protoflags::NOJIT != 0 {
            return Err(Abort::JitOffForProto);
        }
        if self.frames.len() >= FRAMES_MAX {
            return Err(Abort::CallUnrollLimit);
        }
        let me = self.identity(vm, f);
        let same = self.frames.iter().filter(|x| x.func == me).count();
        if same > self.params.callunroll as usize {
            return Err(Abort::Recursion);
        }
        if self.baseslot + self.maxslot + p.framesize as usize + 8 > SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        Ok(())
    }

    /// The trace that takes over when a function has called itself often enough: its own.
    pub(super) fn recursion(&self, vm: &Vm, f: Gc<Func>) -> Option<u32> {
        let me = self.identity(vm, f);
        let depth = self.frames.iter().filter(|x| x.func == me).count() as u32;
        let header = f.get(&vm.heap).pc as usize;
        if matches!(self.kind, Kind::Function { pc } if pc == header) {
            return (depth >= self.params.recunroll).then_some(0);
        }
        let i = view::ins_at(header);
        (i.op() == Op::JFUNCF && depth >= self.params.callunroll).then(|| i.d())
    }

    /// The trace of the function in register `a` that a tail call out of the trace's own frame goes to.
    pub(super) fn tail_trace(&self, vm: &Vm, at: At, a: u32) -> Option<u32> {
        let f = at.reg(a).as_obj::<Func>().filter(|f| !f.get(&vm.heap).is_native())?;
        let header = f.get(&vm.heap).pc as usize;
        if !frame::is_lua(at.slot(-1).0) {
            return None;
        }
        if matches!(self.kind, Kind::Function { pc } if pc == header) {
            // The function of a root trace's frame is not written.
            return (at.func() == Some(f)).then_some(0);
        }
        let i = view::ins_at(header);
        // The frame of a root trace is known to be that of its function.
        (i.op() == Op::JFUNCF && !self.is_root()).then(|| i.d())
    }
}
