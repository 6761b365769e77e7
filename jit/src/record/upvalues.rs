//! Upvalues, and the function whose they are.

use super::slots::{SLOTS_MAX, TRef, type_of};
use super::{R, Rec, Step};
use crate::abort::Abort;
use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::view::{self, At};
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::LuaFunc;
use moonlit_vm::function::upvalue::Upval;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

impl Rec {
    pub(super) fn rec_uclo(&mut self, vm: &Vm, at: At) -> R<Step> {
        // Nothing is open now, and no function is made on a trace: then it is only a jump.
        let a = at.ins(0).a() as usize;
        if !self.is_root() || view::open_slots(vm, at.base).iter().any(|s| *s >= a) {
            return Err(Abort::NyiOp(Op::UCLO));
        }
        Ok(Step::Next)
    }

    /// The current function, guarded once when the trace did not call it itself: a constant, or one of many closures.
    pub(super) fn current_func(&mut self, vm: &Vm, at: At) -> R<Ref> {
        let s = self.baseslot - 2;
        let t = self.slots[s];
        if !t.is_none() && (t.r.is_const() || !self.frames.is_empty()) {
            return Ok(t.r);
        }
        let v = at.slot(-2);
        if type_of(v) != Ty::Func {
            return Err(Abort::BadCall);
        }
        let r = if t.is_none() {
            self.emit_raw(Ins::raw(IrOp::SLOAD, IrT::of(Ty::Func), s as u16, crate::ir::ins::sload::FRAME))?
        } else {
            t.r
        };
        Ok(self.specialise(vm, TRef::new(r, Ty::Func), v)?.r)
    }

    /// Upvalue object `idx` of the current function: a constant if the function is one.
    pub(super) fn upvalue_object(&mut self, vm: &Vm, at: At, idx: u32, u: Gc<Upval>) -> R<Ref> {
        let f = self.current_func(vm, at)?;
        if f.is_const() {
            self.keep.push(Value::obj(u));
            return Ok(self.trace.ir.kgc(Ty::Upval, u.addr()));
        }
        let off = self.trace.ir.kint64(Ty::I64, (LuaFunc::UPVALS_OFFSET + idx as usize * 8) as u64);
        let p = self.emit(IrOp::ADD, IrT::of(Ty::P64), f, off)?;
        // A closure keeps its upvalues.
        self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::P64), p.bits(), 1))
    }

    /// Reads upvalue `idx`, or writes `set` to it.
    pub(super) fn rec_upvalue(&mut self, vm: &Vm, at: At, idx: u32, set: Option<TRef>) -> R<TRef> {
        let known = self.current_func(vm, at)?.is_const();
        let u = at.upval(&vm.heap, idx).ok_or(Abort::NyiOp(Op::UGET))?;
        let uv = u.get(&vm.heap);
        let v = view::upval_value(&vm.heap, u);
        let ty = type_of(v);
        if known && set.is_none() && uv.hdr.extra == 1 && matches!(ty, Ty::Func | Ty::Num | Ty::Str) {
            return self.konst(v);
        }
        let closed = uv.hdr.flags == 1;
        if !closed {
            // The trace's own slots are in registers: an upvalue among them cannot be read from memory.
            let base = at.base as usize - (self.baseslot - 2) * 8;
            let d = (uv.v as usize).wrapping_sub(base).wrapping_add(16);
            if d < 8 * (SLOTS_MAX + 6) {
                let k = self.upvalue_object(vm, at, idx, u)?;
                return self.own_slot(k, d / 8, ty, set);
            }
        }
        let k = self.upvalue_object(vm, at, idx, u)?;
        let op = if closed { IrOp::UREFC } else { IrOp::UREFO };
        let r = self.emit_raw(Ins::raw(op, IrT::guard(Ty::P64), k.bits(), 0))?;
        if let Some(val) = set {
            let val = if val.ty == Ty::Int { self.to_num(val)? } else { val };
            self.emit(IrOp::USTORE, IrT::of(val.ty), r, val.r)?;
            if closed && val.ty.is_gc() {
                self.emit(IrOp::OBAR, IrT::of(Ty::Nil), k, val.r)?;
            }
            self.needsnap = true;
            return Ok(val);
        }
        let t = self.emit_raw(Ins::raw(IrOp::ULOAD, IrT::guard(ty), r.bits(), 0))?;
        Ok(self.loaded(t, ty))
    }

    /// An open upvalue that is slot `s` of this trace, and guarded to be.
    pub(super) fn own_slot(&mut self, k: Ref, s: usize, ty: Ty, set: Option<TRef>) -> R<TRef> {
        if s < 2 || s >= self.baseslot + self.maxslot.max(1) || s >= SLOTS_MAX {
            return Err(Abort::NyiTypes("upvalue beyond the trace's frames"));
        }
        let at = self.emit_raw(Ins::raw(IrOp::UREFO, IrT::of(Ty::P64), k.bits(), 1))?;
        let off = self.trace.ir.kint64(Ty::U64, ((s as i64 - 2) * 8) as u64);
        let here = self.emit(IrOp::ADD, IrT::of(Ty::P64), Ref::BASE, off)?;
        self.guard(IrOp::EQ, at, here)?;
        match set {
            Some(v) => {
                self.slots[s] = v;
                Ok(v)
            }
            None if self.slots[s].is_none() => self.load_slot(s, ty, crate::ir::ins::sload::TYPECHECK),
            None => Ok(self.slots[s]),
        }
    }

    /// A loaded value: of a primitive only its type counts.
    pub(super) fn loaded(&self, r: Ref, ty: Ty) -> TRef {
        match ty {
            Ty::Nil => TRef::pri(0),
            Ty::False => TRef::pri(1),
            Ty::True => TRef::pri(2),
            _ => TRef::new(r, ty),
        }
    }
}
