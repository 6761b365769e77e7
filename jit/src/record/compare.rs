//! Comparisons and tests. Each takes its own snapshot before the guard, which leads to the way not taken.

use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::eval;
use crate::ir::ins::IrT;
use crate::ir::ops::IrOp;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use crate::view::At;
use moonlit_vm::bytecode::ops::{Mm, Op};
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::thread::frame::Cont;
use moonlit_vm::value::Value;

/// Keep snapshot 0 apart: the position of a comparison's own snapshot is changed afterwards.
fn prepare(rec: &mut Rec, vm: &Vm, at: At) -> R<()> {
    rec.mergesnap &= rec.trace.snaps.len() > 1;
    rec.snapshot(vm, at)
}

impl Rec {
    /// The comparison is done; `taken` says whether the jump behind it is taken.
    fn branch(&mut self, vm: &Vm, at: At, taken: bool) {
        let jump = at.ins(1);
        let after = at.pc.wrapping_add(2);
        let other = if taken { after } else { after.wrapping_offset(jump.j() as isize) };
        self.retarget(vm, other, at);
        self.needsnap = true;
        if (jump.a() as usize) < self.maxslot {
            self.maxslot = jump.a() as usize;
        }
    }

    pub(super) fn rec_order(&mut self, vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let (mut x, mut y) = (self.get(at, i.a())?, self.get(at, i.d())?);
        let (vx, vy) = (at.reg(i.a()), at.reg(i.d()));
        let n = i.op() as u8 - Op::ISLT as u8;
        let base = [IrOp::LT, IrOp::GE, IrOp::LE, IrOp::GT][n as usize];
        if x.ty == Ty::Str && y.ty == Ty::Str {
            let (a, b) = (string(vm, vx)?, string(vm, vy)?);
            let ord = a.cmp(&b) as i32;
            let r = self.call(IrOp::CALLN, IrT::of(Ty::Int), Helper::StrCmp, &[x.r, y.r])?;
            prepare(self, vm, at)?;
            let holds = eval::int_cmp(base, ord, 0);
            let zero = self.kint(0);
            self.guard(if holds { base } else { base.inverted() }, r, zero.r)?;
            self.branch(vm, at, holds);
            return Ok(());
        }
        if x.ty == Ty::Cdata || y.ty == Ty::Cdata {
            return self.order_of_cdata(vm, at, base, (x, vx), (y, vy));
        }
        if !x.ty.is_number() || !y.ty.is_number() {
            return self.order_by_handler(vm, at, base, (x, vx), (y, vy));
        }
        let (fx, fy) = (vx.num_unchecked(), vy.num_unchecked());
        // A constant takes the type of the other side when it can.
        let (tx, ty) = (x.ty, y.ty);
        for (a, other) in [(&mut x, ty), (&mut y, tx)] {
            if a.ty == Ty::Num && other == Ty::Int {
                if let Some(k) = self.trace.ir.as_knum(a.r).and_then(eval::num_to_int_exact) {
                    *a = TRef::new(self.trace.ir.kint(k), Ty::Int);
                }
            }
        }
        if x.ty == Ty::Int && y.ty == Ty::Int {
            let holds = eval::int_cmp(base, fx as i32, fy as i32);
            prepare(self, vm, at)?;
            self.guard(if holds { base } else { base.inverted() }, x.r, y.r)?;
            self.branch(vm, at, holds);
            return Ok(());
        }
        let (x, y) = (self.to_num(x)?, self.to_num(y)?);
        // "not less" and "not less or equal" hold for NaN.
        let op = [IrOp::LT, IrOp::UGE, IrOp::LE, IrOp::UGT][n as usize];
        let holds = eval::num_cmp(op, fx, fy);
        prepare(self, vm, at)?;
        let op = if holds { op } else { IrOp::from_index(op as usize ^ 5) };
        self.guard(op, x.r, y.r)?;
        self.branch(vm, at, holds);
        Ok(())
    }

    /// A comparison that the metatype of an operand makes.
    fn compare_cdata_by_handler(
        &mut self,
        vm: &Vm,
        at: At,
        mm: Mm,
        cont: Cont,
        x: (TRef, Value),
        y: (TRef, Value),
    ) -> R<()> {
        for (t, v) in [x, y] {
            let Some(ty) = self.operand_metatype(vm, t, v)? else { continue };
            if let Some((mt, _)) = self.metatype_field(vm, ty, mm)? {
                let h = self.metamethod(vm, mt, mm)?;
                return self.call_meta_of_base(vm, at, cont, h, &[x.0, y.0]);
            }
        }
        Err(Abort::NyiMetamethod)
    }

    /// An ordering that a metamethod of tables or userdata makes.
    fn order_by_handler(&mut self, vm: &Vm, at: At, op: IrOp, x: (TRef, Value), y: (TRef, Value)) -> R<()> {
        let mm = if matches!(op, IrOp::LT | IrOp::GE) { Mm::Lt } else { Mm::Le };
        let cont = if matches!(op, IrOp::GE | IrOp::GT) { Cont::CondFalse } else { Cont::CondTrue };
        if x.0.ty != y.0.ty || !matches!(x.0.ty, Ty::Tab | Ty::Udata) {
            return Err(Abort::NyiMetamethod);
        }
        let (f, g) = (self.operand_handler(vm, x.0, x.1, mm)?, self.operand_handler(vm, y.0, y.1, mm)?);
        match (f, g) {
            (Some(f), Some(g)) if f.1.0 == g.1.0 => self.call_meta(vm, at, cont, f, &[x.0, y.0]),
            _ => Err(Abort::NyiMetamethod),
        }
    }

    /// An ordering of which an operand is C data.
    fn order_of_cdata(&mut self, vm: &Vm, at: At, op: IrOp, x: (TRef, Value), y: (TRef, Value)) -> R<()> {
        let mm = if matches!(op, IrOp::LT | IrOp::GE) { Mm::Lt } else { Mm::Le };
        let Some(p) = self.cdata_compare(vm, mm, x, y)? else {
            let cont = if matches!(op, IrOp::GE | IrOp::GT) { Cont::CondFalse } else { Cont::CondTrue };
            return self.compare_cdata_by_handler(vm, at, mm, cont, x, y);
        };
        let (a, b) = p.now;
        let less = match (mm, p.unsigned) {
            (Mm::Lt, true) => a < b,
            (Mm::Lt, false) => (a as i64) < b as i64,
            (_, true) => a <= b,
            (_, false) => a as i64 <= b as i64,
        };
        let holds = less == matches!(op, IrOp::LT | IrOp::LE);
        // The unsigned form of each ordering is four further.
        let op = if p.unsigned { IrOp::from_index(op as usize ^ 4) } else { op };
        prepare(self, vm, at)?;
        self.guard(if holds { op } else { op.inverted() }, p.x, p.y)?;
        self.branch(vm, at, holds);
        Ok(())
    }

    pub(super) fn rec_equal(&mut self, vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let op = i.op();
        let x = self.get(at, i.a())?;
        let vx = at.reg(i.a());
        let (y, vy) = match op {
            Op::ISEQV | Op::ISNEV => (self.get(at, i.d())?, at.reg(i.d())),
            Op::ISEQS | Op::ISNES => {
                let v = at.kgc(&vm.heap, i.d());
                (self.konst(v)?, v)
            }
            Op::ISEQN | Op::ISNEN => {
                let v = at.knum(&vm.heap, i.d());
                (self.konst(v)?, v)
            }
            _ => (TRef::pri(i.d()), pri_value(i.d())),
        };
        let negated = matches!(op, Op::ISNEV | Op::ISNES | Op::ISNEN | Op::ISNEP);
        let cont = if negated { Cont::CondFalse } else { Cont::CondTrue };
        if (x.ty == Ty::Cdata || y.ty == Ty::Cdata) && x.r != y.r {
            match self.cdata_compare(vm, Mm::Eq, (x, vx), (y, vy)) {
                Ok(None) => return self.compare_cdata_by_handler(vm, at, Mm::Eq, cont, (x, vx), (y, vy)),
                Ok(Some(_)) => {}
                Err(e) => return Err(e),
            }
        }
        if x.ty == y.ty && matches!(x.ty, Ty::Tab | Ty::Udata) && vx.0 != vy.0 {
            // Objects with a metatable of their own each would make a trace each; without `__eq` that is not worth it.
            let name = Value::obj(vm.mm_names[Mm::Eq as usize]);
            if vm.metatable_of(vx).is_some_and(|mt| mt.getv(&vm.heap, name).is_nil()) {
                return Err(Abort::NyiMetamethod);
            }
            let f = self.operand_handler(vm, x, vx, Mm::Eq)?;
            if let Some(f) = f {
                let g = self.operand_handler(vm, y, vy, Mm::Eq)?;
                if g.is_none_or(|g| g.1.0 != f.1.0) {
                    return Err(Abort::NyiMetamethod);
                }
                return self.call_meta(vm, at, cont, f, &[x, y]);
            }
            // Nobody says otherwise: different objects differ.
            prepare(self, vm, at)?;
            self.guard(IrOp::NE, x.r, y.r)?;
            self.branch(vm, at, negated);
            return Ok(());
        }
        let equal = self.equal(vm, at, x, y, vx, vy, true)?;
        self.branch(vm, at, equal != negated);
        Ok(())
    }

    /// Emits guards for equality as it is now; answers whether the values are equal.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn equal(
        &mut self,
        vm: &Vm,
        at: At,
        x: TRef,
        y: TRef,
        vx: Value,
        vy: Value,
        snap: bool,
    ) -> R<bool> {
        let sure = |rec: &mut Rec| if snap { prepare(rec, vm, at) } else { Ok(()) };
        if x.ty.is_number() && y.ty.is_number() {
            let equal = vx.num_unchecked() == vy.num_unchecked();
            let ints = |rec: &Rec, t: TRef| {
                if t.ty == Ty::Int {
                    Some(t.r)
                } else {
                    rec.trace.ir.as_knum(t.r).and_then(eval::num_to_int_exact).map(|_| t.r)
                }
            };
            let op = if equal { IrOp::EQ } else { IrOp::NE };
            if (x.ty == Ty::Int || y.ty == Ty::Int) && ints(self, x).is_some() && ints(self, y).is_some() {
                let k =
                    |rec: &mut Rec, t: TRef| match rec.trace.ir.as_knum(t.r).and_then(eval::num_to_int_exact)
                    {
                        Some(n) => rec.trace.ir.kint(n),
                        None => t.r,
                    };
                let (a, b) = (k(self, x), k(self, y));
                sure(self)?;
                self.guard(op, a, b)?;
                return Ok(equal);
            }
            let (x, y) = (self.to_num(x)?, self.to_num(y)?);
            sure(self)?;
            self.guard(op, x.r, y.r)?;
            return Ok(equal);
        }
        if x.ty == Ty::Cdata || y.ty == Ty::Cdata {
            if vx.0 == vy.0 && x.r == y.r {
                sure(self)?;
                return Ok(true);
            }
            let Some(p) = self.cdata_compare(vm, Mm::Eq, (x, vx), (y, vy))? else {
                return Err(Abort::NyiTypes("comparison of cdata"));
            };
            let equal = p.now.0 == p.now.1;
            sure(self)?;
            self.guard(if equal { IrOp::EQ } else { IrOp::NE }, p.x, p.y)?;
            return Ok(equal);
        }
        if x.ty != y.ty {
            // The types are known: a table or userdata never equals a value of another type without cdata.
            sure(self)?;
            return Ok(false);
        }
        if x.ty.is_pri() {
            sure(self)?;
            return Ok(true);
        }
        match x.ty {
            Ty::Str => {
                let (a, b) = (string(vm, vx)?, string(vm, vy)?);
                let equal = a == b;
                let short = a.len() <= moonlit_vm::limits::STR_INTERN_MAX
                    || b.len() <= moonlit_vm::limits::STR_INTERN_MAX;
                let constant = x.r.is_const() || y.r.is_const();
                if short && constant {
                    // One side is a short constant: equality is identity.
                    sure(self)?;
                    self.guard(if equal { IrOp::EQ } else { IrOp::NE }, x.r, y.r)?;
                } else {
                    let r = self.call(IrOp::CALLN, IrT::of(Ty::Int), Helper::StrEq, &[x.r, y.r])?;
                    sure(self)?;
                    let zero = self.kint(0);
                    self.guard(if equal { IrOp::NE } else { IrOp::EQ }, r, zero.r)?;
                }
                Ok(equal)
            }
            Ty::Tab | Ty::Udata if vx.0 != vy.0 => {
                if x.ty == Ty::Udata {
                    return Err(Abort::NyiMetamethod);
                }
                // Different tables: `__eq` must be absent.
                self.no_metatable(vm, vx, x)?;
                sure(self)?;
                self.guard(IrOp::NE, x.r, y.r)?;
                Ok(false)
            }
            _ => {
                let equal = vx.0 == vy.0;
                sure(self)?;
                self.guard(if equal { IrOp::EQ } else { IrOp::NE }, x.r, y.r)?;
                Ok(equal)
            }
        }
    }

    pub(super) fn rec_test(&mut self, vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let t = self.get(at, i.d())?;
        let truthy = !matches!(t.ty, Ty::Nil | Ty::False);
        let wants = matches!(i.op(), Op::ISTC | Op::IST);
        let taken = truthy == wants;
        // The type was guarded when the value was loaded; no guard of its own.
        if taken && matches!(i.op(), Op::ISTC | Op::ISFC) {
            self.set(i.a(), t);
        }
        self.needsnap |= false;
        let jump = at.ins(1);
        if (jump.a() as usize) < self.maxslot && !(taken && matches!(i.op(), Op::ISTC | Op::ISFC)) {
            self.maxslot = jump.a() as usize;
        }
        let _ = vm;
        Ok(())
    }
}

fn pri_value(n: u32) -> Value {
    match n {
        0 => Value::NIL,
        1 => Value::FALSE,
        _ => Value::TRUE,
    }
}

/// The bytes of a string value.
pub(super) fn string(vm: &Vm, v: Value) -> R<Vec<u8>> {
    v.as_obj::<Str>().map(|s| s.bytes(&vm.heap).to_vec()).ok_or(Abort::NyiTypes("value that is no string"))
}
