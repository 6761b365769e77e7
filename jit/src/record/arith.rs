//! Arithmetic, bit operations, concatenation, length.

use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::eval;
use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use crate::view::At;
use moonlit_vm::bytecode::ops::{Mode, Op};
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

impl Rec {
    pub(super) fn rec_unm(&mut self, at: At) -> R<()> {
        let i = at.ins(0);
        let t = self.get(at, i.d())?;
        let t = self.to_num(t)?;
        let v = self.emit_t(IrOp::NEG, Ty::Num, t.r, Ref::NONE)?;
        self.set(i.a(), v);
        Ok(())
    }

    pub(super) fn rec_arith(&mut self, vm: &Vm, at: At, op: Op) -> R<()> {
        let i = at.ins(0);
        let info = op.info();
        let b = self.get(at, i.b())?;
        let (c, vc) = if info.cd == Mode::Num {
            let v = at.knum(&vm.heap, i.c());
            let n = v.num_unchecked();
            // An integral constant is an integer when the other side is one.
            let t = match eval::num_to_int_exact(n) {
                Some(k) if b.ty == Ty::Int && v.0 != (-0.0f64).to_bits() => self.kint(k),
                _ => self.knum(n),
            };
            (t, v)
        } else {
            (self.get(at, i.c())?, at.reg(i.c()))
        };
        let vb = at.reg(i.b());
        let reversed = matches!(op, Op::ADDNV | Op::SUBNV | Op::MULNV | Op::DIVNV | Op::MODNV);
        let ((x, vx), (y, vy)) = if reversed { ((c, vc), (b, vb)) } else { ((b, vb), (c, vc)) };
        let irop = match op {
            Op::ADDVN | Op::ADDNV | Op::ADDVV => IrOp::ADD,
            Op::SUBVN | Op::SUBNV | Op::SUBVV => IrOp::SUB,
            Op::MULVN | Op::MULNV | Op::MULVV => IrOp::MUL,
            Op::DIVVN | Op::DIVNV | Op::DIVVV => IrOp::DIV,
            Op::MODVN | Op::MODNV | Op::MODVV => IrOp::MOD,
            _ => IrOp::POW,
        };
        let t = self.arith(irop, x, y, vx, vy)?;
        self.set(i.a(), t);
        Ok(())
    }

    /// Arithmetic on two numbers. Sums and differences of integers stay integers, with an overflow check;
    /// products do not, they may be minus zero.
    pub(crate) fn arith(&mut self, op: IrOp, x: TRef, y: TRef, vx: Value, vy: Value) -> R<TRef> {
        if !x.ty.is_number() || !y.ty.is_number() {
            return Err(Abort::NyiMetamethod);
        }
        if self.p.narrow && x.ty == Ty::Int && y.ty == Ty::Int && matches!(op, IrOp::ADD | IrOp::SUB) {
            let n = eval::num_arith(op, vx.num_unchecked(), vy.num_unchecked());
            if n.and_then(eval::num_to_int_exact).is_some() {
                let op = if op == IrOp::ADD { IrOp::ADDOV } else { IrOp::SUBOV };
                let r = self.emit(op, IrT::guard(Ty::Int), x.r, y.r)?;
                return Ok(TRef::new(r, Ty::Int));
            }
        }
        let (x, y) = (self.to_num(x)?, self.to_num(y)?);
        self.emit_t(op, Ty::Num, x.r, y.r)
    }

    pub(super) fn rec_bitop(&mut self, at: At, op: Op) -> R<()> {
        let i = at.ins(0);
        let irop = match op {
            Op::BNOT => IrOp::BNOT,
            Op::BAND => IrOp::BAND,
            Op::BOR => IrOp::BOR,
            Op::BXOR => IrOp::BXOR,
            Op::BSHL => IrOp::BSHL,
            Op::BSHR => IrOp::BSHR,
            _ => IrOp::BSAR,
        };
        let x = self.get(at, if op == Op::BNOT { i.d() } else { i.b() })?;
        let x = self.to_bit(x)?;
        let y = if op == Op::BNOT {
            Ref::NONE
        } else {
            let y = self.get(at, i.c())?;
            self.to_bit(y)?.r
        };
        let t = self.emit_t(irop, Ty::Int, x.r, y)?;
        self.set(i.a(), t);
        Ok(())
    }

    /// A helper call with up to three arguments.
    pub(crate) fn call(&mut self, op: IrOp, t: IrT, h: Helper, args: &[Ref]) -> R<Ref> {
        let mut list = Ref::NONE;
        for (n, a) in args.iter().enumerate() {
            list = if n == 0 { *a } else { self.emit(IrOp::CARG, IrT::of(Ty::Nil), list, *a)? };
        }
        self.emit_raw(Ins::raw(op, t, list.bits(), h as u16))
    }

    /// A string for concatenation.
    fn to_str(&mut self, t: TRef) -> R<TRef> {
        match t.ty {
            Ty::Str => Ok(t),
            Ty::Num | Ty::Int => self.emit_t(IrOp::TOSTR, Ty::Str, t.r, Ref::NONE),
            _ => Err(Abort::NyiMetamethod),
        }
    }

    pub(super) fn rec_cat(&mut self, _vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        self.gc_check();
        // From the right, two at a time, as the interpreter's metamethod order has it.
        let last = self.get(at, i.c())?;
        let mut acc = self.to_str(last)?;
        for r in (i.b()..i.c()).rev() {
            let t = self.get(at, r)?;
            let t = self.to_str(t)?;
            let r = self.call(IrOp::CALLA, IrT::guard(Ty::Str), Helper::StrCat, &[t.r, acc.r])?;
            acc = TRef::new(r, Ty::Str);
        }
        self.maxslot = self.maxslot.min(i.b() as usize);
        self.set(i.a(), acc);
        Ok(())
    }

    pub(super) fn rec_len(&mut self, vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let t = self.get(at, i.d())?;
        let v = match t.ty {
            Ty::Str => self.field(t.r, crate::ir::ins::Field::StrLen)?,
            Ty::Tab => {
                if vm.compat52 {
                    self.no_metatable(vm, at.reg(i.d()), t)?;
                }
                self.emit_t(IrOp::ALEN, Ty::Int, t.r, Ref::NONE)?
            }
            _ => return Err(Abort::NyiMetamethod),
        };
        self.set(i.a(), v);
        Ok(())
    }
}
