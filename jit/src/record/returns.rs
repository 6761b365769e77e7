//! Returns, and whether a function is worth a trace of its own.

use super::frames::Then;
use super::slots::TRef;
use super::{R, Rec, Step};
use crate::abort::Abort;
use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::ty::Ty;
use crate::trace::link::Link;
use crate::view::{self, At};
use moonlit_vm::bytecode::instr::Instr;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::state::Vm;
use moonlit_vm::thread::frame::{self};

/// Instructions from which on a function that just returns is worth a trace: entering and leaving one costs as much as some
/// of the interpreter's, and its side traces are many.
const FUNCTION_MIN: u32 = 400;

impl Rec {
    /// Can a function be worth a trace of its own: is it long, or does it call something?
    pub fn may_be_worth_it(vm: &Vm, at: At) -> bool {
        let Some(p) = at.proto(&vm.heap) else { return false };
        let code = p.get(&vm.heap).code();
        let calls = |w: &u32| matches!(Instr(*w).op(), Op::CALL | Op::CALLM | Op::CALLT | Op::CALLMT);
        code.len() > FUNCTION_MIN as usize || code.iter().any(calls)
    }

    pub(super) fn is_worth_it(&self) -> R<()> {
        if self.is_function() && self.count < FUNCTION_MIN { Err(Abort::TraceTooShort) } else { Ok(()) }
    }

    pub(super) fn rec_ret(&mut self, vm: &Vm, at: At, from: usize, n: usize) -> R<Step> {
        if self.frames.is_empty() {
            if self.is_function() {
                self.is_worth_it()?;
                return self.stop(vm, at, Link::Interp);
            }
            if self.is_root() {
                return Err(Abort::LeavesLoop);
            }
            return self.return_lower(vm, at, from, n);
        }
        let mut results = Vec::with_capacity(n);
        for i in 0..n {
            results.push(self.get(at, (from + i) as u32)?);
        }
        self.return_values(&results)
    }

    /// Returns below the frame the trace started in: the return address is guarded, the base moves down, and
    /// all slots are loaded anew from there.
    pub(super) fn return_lower(&mut self, vm: &Vm, at: At, from: usize, n: usize) -> R<Step> {
        let link = at.slot(-1).0;
        self.unrolls += 1;
        if !frame::is_lua(link) || self.unrolls > self.params.loopunroll {
            return self.stop(vm, at, Link::Interp);
        }
        let call = view::ins_at(link as usize - 4);
        if !matches!(call.op(), Op::CALL | Op::CALLM | Op::ITERC) {
            return self.stop(vm, at, Link::Interp);
        }
        let mut results = Vec::with_capacity(n);
        for i in 0..n {
            results.push(self.get(at, (from + i) as u32)?);
        }
        let have = self.slots[1];
        let word = if have.is_none() {
            self.emit_raw(Ins::raw(IrOp::SLOAD, IrT::of(Ty::P64), 1, crate::ir::ins::sload::FRAME))?
        } else {
            have.r
        };
        let want = self.trace.ir.kptr(link);
        self.guard(IrOp::EQ, word, want)?;
        let a = call.a();
        // The caller's code must live as long as this trace names its addresses.
        self.keep.push(at.slot(-(a as isize) - 4));
        self.trace.ir.push(Ins::raw(IrOp::RETF, IrT::of(Ty::Nil), a as u16 + 2, 0));
        self.slots.fill(TRef::NONE);
        self.baseslot = 2;
        self.maxslot = 0;
        self.put_results(a, &results, call.b());
        // What lies below the results in the caller's frame is in use.
        self.needsnap = true;
        Ok(Step::Next)
    }

    /// Returns from the innermost frame.
    pub(super) fn return_values(&mut self, results: &[TRef]) -> R<Step> {
        let f = self.frames.pop().ok_or(Abort::ReturnToLowerFrame)?;
        if let Some(m) = f.meta {
            self.baseslot = f.caller;
            self.maxslot = m.maxslot;
            self.clear_above();
            match m.then {
                Then::Store(r) => self.set(r, results.first().copied().unwrap_or(TRef::pri(0))),
                Then::Drop => {}
                // The value's type was guarded when it was loaded; the interpreter has gone the right way.
                Then::Branch(kept) => {
                    self.maxslot = self.maxslot.min(kept);
                    self.clear_above();
                }
            }
            self.needsnap = true;
            return Ok(Step::Next);
        }
        let b = self.baseslot - f.vararg;
        let link = self.slots[b - 1];
        if !link.r.is_const() {
            return Err(Abort::ReturnToLowerFrame);
        }
        let call = view::ins_at(self.trace.ir.k(link.r).bits as usize - 4);
        let (a, wanted) = (call.a(), call.b());
        self.baseslot = f.caller;
        debug_assert_eq!(b, f.caller + 2 + a as usize);
        if matches!(call.op(), Op::ITERC) {
            // Results of an iterator go to its own register too; the count is in B as well.
            self.put_results(a, results, wanted);
        } else {
            self.put_results(a, results, wanted);
        }
        self.needsnap = true;
        Ok(Step::Next)
    }
}
