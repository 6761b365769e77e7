//! Arithmetic, bit operations, concatenation, length.

use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::eval;
use crate::ir::ins::{Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use crate::view::At;
use moonlit_vm::bytecode::ops::{Mm, Mode, Op};
use moonlit_vm::state::Vm;
use moonlit_vm::thread::frame::Cont;
use moonlit_vm::value::Value;

impl Rec {
    pub(super) fn rec_unm(&mut self, vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let t = self.get(at, i.d())?;
        if t.ty == Ty::Cdata {
            let x = (t, at.reg(i.d()));
            return self.arith_on_cdata(vm, at, Mm::Unm, x, x);
        }
        if !t.ty.is_number() {
            let x = (t, at.reg(i.d()));
            return self.arith_by_handler(vm, at, Mm::Unm, x, x);
        }
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
        if x.ty == Ty::Cdata || y.ty == Ty::Cdata {
            return self.arith_on_cdata(vm, at, info.mm, (x, vx), (y, vy));
        }
        if !x.ty.is_number() || !y.ty.is_number() {
            return self.arith_by_handler(vm, at, info.mm, (x, vx), (y, vy));
        }
        let t = self.arith(irop, x, y, vx, vy)?;
        self.set(i.a(), t);
        Ok(())
    }

    /// Arithmetic that a metamethod of the left or of the right operand does.
    fn arith_by_handler(&mut self, vm: &Vm, at: At, mm: Mm, x: (TRef, Value), y: (TRef, Value)) -> R<()> {
        // Strings may be numbers.
        if x.0.ty == Ty::Str || y.0.ty == Ty::Str {
            return Err(Abort::NyiTypes("arithmetic on strings"));
        }
        let mut h = self.operand_handler(vm, x.0, x.1, mm)?;
        if h.is_none() {
            h = self.operand_handler(vm, y.0, y.1, mm)?;
        }
        let Some(h) = h else { return Err(Abort::NyiMetamethod) };
        self.call_meta(vm, at, Cont::Ra, h, &[x.0, y.0])
    }

    /// Arithmetic of which an operand is C data: done here, or the call of a metatype's function is begun.
    fn arith_on_cdata(&mut self, vm: &Vm, at: At, mm: Mm, x: (TRef, Value), y: (TRef, Value)) -> R<()> {
        if let Some(t) = self.cdata_arith(vm, mm, x, y)? {
            self.set(at.ins(0).a(), t);
            return Ok(());
        }
        if matches!(x.0.ty, Ty::Tab | Ty::Udata) {
            return Err(Abort::NyiMetamethod);
        }
        for (t, v) in [x, y] {
            let Some(ty) = self.operand_metatype(vm, t, v)? else { continue };
            if let Some((mt, f)) = self.metatype_field(vm, ty, mm)? {
                let (t, _) = self.metamethod(vm, mt, mm)?;
                return self.call_meta(vm, at, Cont::Ra, (t, f), &[x.0, y.0]);
            }
        }
        Err(Abort::NyiMetamethod)
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
                if let Some(r) = self.index_and_const(op, x.r, y.r)? {
                    return Ok(TRef::new(r, Ty::Int));
                }
                let op = if op == IrOp::ADD { IrOp::ADDOV } else { IrOp::SUBOV };
                let r = self.emit(op, IrT::guard(Ty::Int), x.r, y.r)?;
                return Ok(TRef::new(r, Ty::Int));
            }
        }
        let (x, y) = (self.to_num(x)?, self.to_num(y)?);
        self.emit_t(op, Ty::Num, x.r, y.r)
    }

    pub(super) fn rec_bitop(&mut self, vm: &Vm, at: At, op: Op) -> R<()> {
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
        let rx = if op == Op::BNOT { i.d() } else { i.b() };
        let x = self.get(at, rx)?;
        let y = if op == Op::BNOT { None } else { Some(self.get(at, i.c())?) };
        if x.ty == Ty::Cdata || y.is_some_and(|y| y.ty == Ty::Cdata) {
            let y = y.map(|y| (y, at.reg(i.c())));
            let t = self.wide_bit(vm, irop, (x, at.reg(rx)), y)?;
            self.set(i.a(), t);
            return Ok(());
        }
        let x = self.to_bit(x)?;
        let y = match y {
            None => Ref::NONE,
            Some(y) => self.to_bit(y)?.r,
        };
        let t = self.emit_t(irop, Ty::Int, x.r, y)?;
        self.set(i.a(), t);
        Ok(())
    }

    /// A bit operation of which an operand is C data.
    pub(super) fn wide_bit(
        &mut self,
        vm: &Vm,
        op: IrOp,
        x: (TRef, Value),
        y: Option<(TRef, Value)>,
    ) -> R<TRef> {
        let shift = matches!(op, IrOp::BSHL | IrOp::BSHR | IrOp::BSAR | IrOp::BROL | IrOp::BROR);
        if shift && x.0.ty != Ty::Cdata {
            // Only the count is C data: a shift of 32 bits.
            let a = self.to_bit(x.0)?;
            let Some((t, v)) = y else { return Err(Abort::BadCall) };
            let (n, _) = self.wide_bits(vm, t, v)?;
            let n = self.emit_raw(Ins::raw(IrOp::CONV, IrT::of(Ty::Int), n.bits(), conv::from(Ty::I64)))?;
            return self.emit_t(op, Ty::Int, a.r, n);
        }
        self.gc_check();
        let (a, mut unsigned) = self.wide_bits(vm, x.0, x.1)?;
        let b = match y {
            None => Ref::NONE,
            Some((t, v)) => {
                let (b, u) = self.wide_bits(vm, t, v)?;
                unsigned |= u && !shift;
                b
            }
        };
        let r = self.emit(op, IrT::of(Ty::I64), a, b)?;
        self.wide_result(r, unsigned)
    }

    /// A helper call with up to three arguments.
    pub(crate) fn call(&mut self, op: IrOp, t: IrT, h: Helper, args: &[Ref]) -> R<Ref> {
        let mut list = Ref::NONE;
        for (n, a) in args.iter().enumerate() {
            list = if n == 0 { *a } else { self.emit(IrOp::CARG, IrT::of(Ty::Nil), list, *a)? };
        }
        self.emit_raw(Ins::raw(op, t, list.bits(), h as u16))
    }

    pub(super) fn rec_cat(&mut self, _vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        self.gc_check();
        let mut parts = Vec::new();
        for r in i.b()..=i.c() {
            let t = self.get(at, r)?;
            if !t.ty.is_number() && t.ty != Ty::Str {
                return Err(Abort::NyiMetamethod);
            }
            parts.push(t.r);
        }
        let two_strings = parts.len() == 2 && parts.iter().all(|p| self.trace.ir.ty(*p) == Ty::Str);
        let h = if two_strings { Helper::StrCat } else { Helper::StrJoin };
        let r = self.call(IrOp::CALLA, IrT::guard(Ty::Str), h, &parts)?;
        let acc = TRef::new(r, Ty::Str);
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
            Ty::Cdata => {
                let x = at.reg(i.d());
                let Some(ty) = self.operand_metatype(vm, t, x)? else { return Err(Abort::NyiMetamethod) };
                let Some((mt, _)) = self.metatype_field(vm, ty, Mm::Len)? else {
                    return Err(Abort::NyiMetamethod);
                };
                let h = self.metamethod(vm, mt, Mm::Len)?;
                return self.call_meta_of_base(vm, at, Cont::Ra, h, &[t]);
            }
            _ => return Err(Abort::NyiMetamethod),
        };
        self.set(i.a(), v);
        Ok(())
    }
}
