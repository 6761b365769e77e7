//! Frames on a trace: how they are entered, what is in them, varargs.

use super::slots::{SLOTS_MAX, TRef};
use super::{R, Rec, Step};
use crate::abort::Abort;
use crate::ir::ty::Ty;
use crate::view::{self, At};
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::state::Vm;
use moonlit_vm::thread::frame::{self, Cont, FrameType};

/// A frame entered on the trace.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Base slot of the caller.
    pub(super) caller: usize,
    /// Slots between the call's frame and the vararg frame above it; 0 for a fixed frame.
    pub(super) vararg: usize,
    /// The function if it is known, else its prototype; 0 if only the interpreter knows.
    pub(super) func: u64,
    /// Called by an instruction that goes on with the result.
    pub(super) meta: Option<Meta>,
}

/// The instruction that called a metamethod, and how it goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) then: Then,
    /// Registers of the caller in use.
    pub(super) maxslot: usize,
}

/// What an instruction does with the result of its metamethod.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Puts it into a register.
    Store(u32),
    /// Nothing.
    Drop,
    /// Decides a jump, which keeps the registers below this one.
    Branch(usize),
}

impl Then {
    /// From the words of a continuation frame: the continuation, and the instruction after the one that called.
    pub(super) fn new(cont: u64, pc: u64) -> R<Then> {
        let ins = |at: u64| view::ins_at(at as usize);
        match Cont::from_word(cont) {
            Some(Cont::Ra) => Ok(Then::Store(ins(pc - 4).a())),
            Some(Cont::Nop) => Ok(Then::Drop),
            Some(Cont::CondTrue | Cont::CondFalse) => Ok(Then::Branch(ins(pc).a() as usize)),
            _ => Err(Abort::NoLink),
        }
    }
}

impl Rec {
    /// Clears what is above the current frame's slots.
    pub(super) fn clear_above(&mut self) {
        for s in &mut self.slots[(self.baseslot + self.maxslot).min(SLOTS_MAX)..] {
            *s = TRef::NONE;
        }
    }

    /// The frames of an inherited state, outermost first.
    pub(super) fn rebuild_frames(&mut self) -> R<()> {
        let mut out = Vec::new();
        let mut b = self.baseslot;
        while b > 2 {
            let word = |rec: &Rec, s: usize| -> R<u64> {
                let t = rec.slots[s];
                if t.r.is_const() { Ok(rec.trace.ir.k(t.r).bits) } else { Err(Abort::NoLink) }
            };
            // One of many closures is no constant.
            let func = word(self, b - 2).unwrap_or(0);
            let mut link = word(self, b - 1)?;
            let mut vararg = 0;
            if !frame::is_lua(link) && frame::type_bits(link) == FrameType::Varg as u64 {
                vararg = frame::delta(link);
                b = b.checked_sub(vararg).ok_or(Abort::NoLink)?;
                if b <= 2 {
                    return Err(Abort::NoLink);
                }
                link = word(self, b - 1)?;
            }
            if !frame::is_lua(link) {
                if frame::type_bits(link) != FrameType::Cont as u64 {
                    return Err(Abort::NoLink);
                }
                let delta = frame::delta(link);
                let then = Then::new(word(self, b - 4)?, word(self, b - 3)?)?;
                let caller = b.checked_sub(delta).ok_or(Abort::NoLink)?;
                let meta = Meta { then, maxslot: delta - frame::CONT_SLOTS };
                out.push(Frame { caller, vararg, func, meta: Some(meta) });
                b = caller;
                continue;
            }
            let a = view::ins_at(link as usize - 4).a() as usize;
            let caller = b.checked_sub(2 + a).ok_or(Abort::NoLink)?;
            out.push(Frame { caller, vararg, func, meta: None });
            b = caller;
        }
        out.reverse();
        self.frames = out;
        Ok(())
    }

    /// The function in register `a` of the current frame returns behind the instruction at `at`, which calls it.
    pub(super) fn set_link(&mut self, at: At, a: u32) {
        let link = self.trace.ir.kptr(at.pc as u64 + 4);
        self.slots[self.baseslot + a as usize + 1] = TRef::new(link, Ty::P64);
    }

    /// Enters the frame of `f`, which is in register `a` of the current one and has `nargs` arguments behind it.
    pub(super) fn enter_frame(&mut self, vm: &Vm, at: At, a: u32, f: Gc<Func>, nargs: usize) -> Step {
        self.set_link(at, a);
        self.frames.push(Frame { caller: self.baseslot, vararg: 0, func: self.identity(vm, f), meta: None });
        self.baseslot += a as usize + 2;
        self.maxslot = nargs;
        self.clear_above();
        Step::Next
    }

    /// Stores results from register `a` on, as many as `b` (results wanted plus one, 0 all) says.
    pub(super) fn put_results(&mut self, a: u32, results: &[TRef], b: u32) {
        let n = if b == 0 { results.len() } else { b as usize - 1 };
        for i in 0..n {
            let t = results.get(i).copied().unwrap_or(TRef::pri(0));
            self.set(a + i as u32, t);
        }
        self.maxslot = a as usize + n;
        self.clear_above();
    }

    /// A function header: arguments become parameters.
    pub(super) fn rec_func(&mut self, vm: &Vm, at: At, vararg: bool) -> R<()> {
        let p = at.proto(&vm.heap).ok_or(Abort::BadCall)?;
        let params = p.get(&vm.heap).numparams as usize;
        let nargs = self.maxslot;
        // An exit inside continues in this frame: it needs its whole size.
        self.slots_max = self.slots_max.max(self.baseslot + nargs + 2 + p.get(&vm.heap).framesize as usize);
        if !vararg {
            for i in nargs..params {
                self.set(i as u32, TRef::pri(0));
            }
            self.maxslot = params;
            self.clear_above();
            return Ok(());
        }
        let delta = nargs + 2;
        let s = self.baseslot;
        let nb = s + delta;
        if nb + p.get(&vm.heap).framesize as usize + 8 > SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        self.slots[nb - 2] = self.slots[s - 2];
        let link = self.trace.ir.kptr(frame::link(delta, FrameType::Varg));
        self.slots[nb - 1] = TRef::new(link, Ty::P64);
        for i in 0..params {
            if i < nargs {
                self.slots[nb + i] = self.slots[s + i];
                self.slots[s + i] = TRef::pri(0);
            } else {
                self.slots[nb + i] = TRef::pri(0);
            }
        }
        match self.frames.last_mut() {
            Some(f) => f.vararg = delta,
            None => return Err(Abort::NyiOp(Op::FUNCV)),
        }
        self.baseslot = nb;
        self.maxslot = params;
        self.clear_above();
        Ok(())
    }

    pub(super) fn rec_varg(&mut self, _vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let (a, wanted, fixed) = (i.a(), i.b(), i.c() as usize);
        let Some(f) = self.frames.last().copied().filter(|f| f.vararg != 0) else {
            return Err(Abort::NyiOp(Op::VARG));
        };
        let n = (f.vararg - 2).saturating_sub(fixed);
        let from = self.baseslot - f.vararg + fixed;
        let values: Vec<TRef> = (0..n).map(|i| self.slots[from + i]).collect();
        if values.iter().any(|t| t.is_none()) || self.baseslot + a as usize + n > SLOTS_MAX {
            return Err(Abort::NyiOp(Op::VARG));
        }
        self.put_results(a, &values, wanted);
        Ok(())
    }
}
