//! Native functions on traces, found by name. What is not here aborts the recording.

use super::slots::{SLOTS_MAX, TRef, type_of};
use super::{R, Rec, Step};
use crate::abort::Abort;
use crate::ir::eval;
use crate::ir::ins::{Field, Ins, IrT, conv, fpm};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use crate::view::At;
use moonlit_vm::bytecode::ops::{Mm, Op};
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;

/// Most bytes that `string.byte` of a range loads one by one.
const BYTES_MAX: i32 = 16;

type Args<'a> = &'a [(TRef, Value)];

impl Rec {
    fn num_arg(&mut self, args: Args<'_>, i: usize) -> R<TRef> {
        let t = args.get(i).ok_or(Abort::NyiTypes("missing argument"))?.0;
        self.to_num(t)
    }

    fn bit_arg(&mut self, args: Args<'_>, i: usize) -> R<TRef> {
        let t = args.get(i).ok_or(Abort::NyiTypes("missing argument"))?.0;
        self.to_bit(t)
    }

    fn fpmath(&mut self, args: Args<'_>, f: u16) -> R<Vec<TRef>> {
        let x = args.first().ok_or(Abort::NyiTypes("missing argument"))?.0;
        if x.ty == Ty::Int && f <= fpm::TRUNC {
            return Ok(vec![x]);
        }
        let x = self.to_num(x)?;
        let r = self.emit_raw(Ins::raw(IrOp::FPMATH, IrT::of(Ty::Num), x.r.bits(), f))?;
        Ok(vec![TRef::new(r, Ty::Num)])
    }

    fn math2(&mut self, args: Args<'_>, h: Helper) -> R<Vec<TRef>> {
        let (x, y) = (self.num_arg(args, 0)?, self.num_arg(args, 1)?);
        let r = self.call(IrOp::CALLN, IrT::of(Ty::Num), h, &[x.r, y.r])?;
        Ok(vec![TRef::new(r, Ty::Num)])
    }

    fn bit_fold(&mut self, args: Args<'_>, op: IrOp) -> R<Vec<TRef>> {
        let mut acc = self.bit_arg(args, 0)?;
        for i in 1..args.len() {
            let y = self.bit_arg(args, i)?;
            acc = self.emit_t(op, Ty::Int, acc.r, y.r)?;
        }
        Ok(vec![acc])
    }

    fn bit_two(&mut self, args: Args<'_>, op: IrOp) -> R<Vec<TRef>> {
        let (x, y) = (self.bit_arg(args, 0)?, self.bit_arg(args, 1)?);
        Ok(vec![self.emit_t(op, Ty::Int, x.r, y.r)?])
    }

    fn bit_one(&mut self, args: Args<'_>, op: IrOp) -> R<Vec<TRef>> {
        let x = self.bit_arg(args, 0)?;
        Ok(vec![self.emit_t(op, Ty::Int, x.r, Ref::NONE)?])
    }

    fn min_max(&mut self, args: Args<'_>, op: IrOp) -> R<Vec<TRef>> {
        let mut acc = args.first().ok_or(Abort::NyiTypes("missing argument"))?.0;
        for a in &args[1..] {
            let b = a.0;
            acc = if acc.ty == Ty::Int && b.ty == Ty::Int {
                self.emit_t(op, Ty::Int, acc.r, b.r)?
            } else {
                let (x, y) = (self.to_num(acc)?, self.to_num(b)?);
                self.emit_t(op, Ty::Num, x.r, y.r)?
            };
        }
        if !acc.ty.is_number() {
            return Err(Abort::NyiTypes("argument that is no number"));
        }
        Ok(vec![acc])
    }

    fn int_value(v: Value) -> R<i32> {
        v.as_num().and_then(eval::num_to_int_exact).ok_or(Abort::NyiTypes("index that is no integer"))
    }

    /// A string position as `string.byte` and `string.sub` take it, as an offset from 0: guarded to have the
    /// sign it has now.
    fn position(&mut self, len: TRef, arg: TRef, v: Value) -> R<TRef> {
        let n = Self::int_value(v)?;
        let t = match self.trace.ir.as_knum(arg.r).and_then(eval::num_to_int_exact) {
            Some(k) => self.kint(k),
            None => self.to_index(arg)?,
        };
        let zero = self.kint(0);
        if n < 0 {
            self.guard(IrOp::LT, t.r, zero.r)?;
            let one = self.kint(1);
            let p = self.emit_t(IrOp::ADD, Ty::Int, t.r, len.r)?;
            self.emit_t(IrOp::ADD, Ty::Int, p.r, one.r)
        } else {
            self.guard(IrOp::GE, t.r, zero.r)?;
            Ok(t)
        }
    }

    fn string_byte(&mut self, vm: &Vm, args: Args<'_>) -> R<Vec<TRef>> {
        let (s, vs) = *args.first().ok_or(Abort::NyiTypes("missing argument"))?;
        let str = vs.as_obj::<Str>().ok_or(Abort::NyiTypes("value that is no string"))?;
        let len = self.field(s.r, Field::StrLen)?;
        let n = str.bytes(&vm.heap).len() as i32;
        if let &[_, (from, vfrom), (to, vto)] = args {
            return self.string_bytes(s, len, n, (from, vfrom), (to, vto));
        }
        let (pos, p) = match args.get(1) {
            None => (self.kint(1), 1),
            Some((t, v)) => {
                let k = Self::int_value(*v)?;
                (self.position(len, *t, *v)?, if k < 0 { k + n + 1 } else { k })
            }
        };
        let one = self.kint(1);
        let off = self.emit_t(IrOp::SUB, Ty::Int, pos.r, one.r)?;
        if p < 1 || p > n {
            self.guard(IrOp::UGE, off.r, len.r)?;
            return Ok(vec![]);
        }
        self.guard(IrOp::ULT, off.r, len.r)?;
        let at = self.emit(IrOp::STRREF, IrT::of(Ty::P64), s.r, off.r)?;
        let r = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::U8), at.bits(), 1))?;
        Ok(vec![TRef::new(r, Ty::Int)])
    }

    /// `string.byte(s, i, j)` of as many characters as it is now, all of them within the string.
    fn string_bytes(
        &mut self,
        s: TRef,
        len: TRef,
        n: i32,
        (from, vfrom): (TRef, Value),
        (to, vto): (TRef, Value),
    ) -> R<Vec<TRef>> {
        let norm = |v: Value| Self::int_value(v).map(|k| if k < 0 { k + n + 1 } else { k });
        let (first, last) = (norm(vfrom)?, norm(vto)?);
        if first < 1 || last > n || !(1..=BYTES_MAX).contains(&(last - first + 1)) {
            return Err(Abort::NyiTypes("string.byte of a range"));
        }
        let (from, to) = (self.position(len, from, vfrom)?, self.position(len, to, vto)?);
        let one = self.kint(1);
        let off = self.emit_t(IrOp::SUB, Ty::Int, from.r, one.r)?;
        let more = self.kint(last - first);
        let end = self.emit_t(IrOp::SUB, Ty::Int, to.r, from.r)?;
        self.guard(IrOp::EQ, end.r, more.r)?;
        // Both ends are within the string, so all of it is.
        let end = self.emit_t(IrOp::SUB, Ty::Int, to.r, one.r)?;
        self.guard(IrOp::ULT, off.r, len.r)?;
        self.guard(IrOp::ULT, end.r, len.r)?;
        let at = self.emit(IrOp::STRREF, IrT::of(Ty::P64), s.r, off.r)?;
        let mut out = Vec::new();
        for k in 0..=(last - first) as u64 {
            let k = self.trace.ir.kint64(Ty::I64, k);
            let p = self.emit(IrOp::ADD, IrT::of(Ty::P64), at, k)?;
            let r = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::U8), p.bits(), 1))?;
            out.push(TRef::new(r, Ty::Int));
        }
        Ok(out)
    }

    fn string_sub(&mut self, vm: &Vm, args: Args<'_>) -> R<Vec<TRef>> {
        let (s, vs) = *args.first().ok_or(Abort::NyiTypes("missing argument"))?;
        let str = vs.as_obj::<Str>().ok_or(Abort::NyiTypes("value that is no string"))?;
        let n = str.bytes(&vm.heap).len() as i32;
        let (i, vi) = *args.get(1).ok_or(Abort::NyiTypes("missing argument"))?;
        let len = self.field(s.r, Field::StrLen)?;
        let zero = self.kint(0);
        let one = self.kint(1);
        let norm = |k: i32| if k < 0 { k + n + 1 } else { k };
        let (from, vfrom) = (self.position(len, i, vi)?, norm(Self::int_value(vi)?));
        let (to, vto) = match args.get(2) {
            None => (len, n),
            Some((t, v)) => (self.position(len, *t, *v)?, norm(Self::int_value(*v)?)),
        };
        if vfrom < 1 {
            return Err(Abort::NyiTypes("string.sub from before the start"));
        }
        self.guard(IrOp::GE, from.r, one.r)?;
        let (to, vto) = if vto > n {
            self.guard(IrOp::GT, to.r, len.r)?;
            (len, n)
        } else {
            self.guard(IrOp::LE, to.r, len.r)?;
            (to, vto)
        };
        let off = self.emit_t(IrOp::SUB, Ty::Int, from.r, one.r)?;
        let count = self.emit_t(IrOp::SUB, Ty::Int, to.r, off.r)?;
        if vto < vfrom {
            self.guard(IrOp::LE, count.r, zero.r)?;
            let empty = vm.heap.str_find(b"").ok_or(Abort::NyiTypes("empty string"))?;
            return Ok(vec![self.konst(Value::obj(empty))?]);
        }
        self.guard(IrOp::GT, count.r, zero.r)?;
        let at = self.emit(IrOp::STRREF, IrT::of(Ty::P64), s.r, off.r)?;
        let r = self.emit_t(IrOp::SNEW, Ty::Str, at, count.r)?;
        Ok(vec![r])
    }

    /// A function of the bit library on C data.
    fn bit_of_cdata(&mut self, vm: &Vm, name: &str, args: Args<'_>) -> R<Vec<TRef>> {
        let (op, two) = match name {
            "bit.bnot" => (IrOp::BNOT, false),
            "bit.bswap" => (IrOp::BSWAP, false),
            "bit.band" => (IrOp::BAND, true),
            "bit.bor" => (IrOp::BOR, true),
            "bit.bxor" => (IrOp::BXOR, true),
            "bit.lshift" => (IrOp::BSHL, true),
            "bit.rshift" => (IrOp::BSHR, true),
            "bit.arshift" => (IrOp::BSAR, true),
            "bit.rol" => (IrOp::BROL, true),
            "bit.ror" => (IrOp::BROR, true),
            "bit.tobit" => {
                let (r, _) = self.wide_bits(vm, args[0].0, args[0].1)?;
                let i = Ins::raw(IrOp::CONV, IrT::of(Ty::Int), r.bits(), conv::from(Ty::I64));
                return Ok(vec![TRef::new(self.emit_raw(i)?, Ty::Int)]);
            }
            _ => return Err(Abort::NyiTypes("bit operation on C data")),
        };
        match (two, args) {
            (false, [x]) => Ok(vec![self.wide_bit(vm, op, *x, None)?]),
            (true, [x, y]) => Ok(vec![self.wide_bit(vm, op, *x, Some(*y))?]),
            _ => Err(Abort::NyiTypes("bit operation on C data")),
        }
    }

    /// Records a call of native `f`.
    pub(super) fn rec_native(&mut self, vm: &Vm, _at: At, f: Gc<Func>, args: Args<'_>) -> R<Vec<TRef>> {
        let native = f.as_native(&vm.heap).ok_or(Abort::BadCall)?;
        let id = native.get(&vm.heap).id;
        let row = vm.natives.get(id);
        if row.op != Op::FUNCC {
            return Err(Abort::NyiNative(id.get()));
        }
        let nyi = Err(Abort::NyiNative(id.get()));
        if row.name.starts_with("bit.") && args.iter().any(|a| a.0.ty == Ty::Cdata) {
            return self.bit_of_cdata(vm, row.name, args);
        }
        if row.name.starts_with("ffi.") {
            return self.rec_ffi(vm, row.name, args);
        }
        match row.name {
            "math.floor" => self.fpmath(args, fpm::FLOOR),
            "math.ceil" => self.fpmath(args, fpm::CEIL),
            "math.sqrt" => self.fpmath(args, fpm::SQRT),
            "math.exp" => self.fpmath(args, fpm::EXP),
            "math.sin" => self.fpmath(args, fpm::SIN),
            "math.cos" => self.fpmath(args, fpm::COS),
            "math.tan" => self.fpmath(args, fpm::TAN),
            "math.asin" => self.fpmath(args, fpm::ASIN),
            "math.acos" => self.fpmath(args, fpm::ACOS),
            "math.atan" => self.fpmath(args, fpm::ATAN),
            "math.sinh" => self.fpmath(args, fpm::SINH),
            "math.cosh" => self.fpmath(args, fpm::COSH),
            "math.tanh" => self.fpmath(args, fpm::TANH),
            "math.log10" => self.fpmath(args, fpm::LOG10),
            "math.log" if args.len() == 1 => self.fpmath(args, fpm::LOG),
            "math.atan2" => self.math2(args, Helper::Atan2),
            "math.fmod" => self.math2(args, Helper::Fmod),
            "math.pow" => {
                let (x, y) = (self.num_arg(args, 0)?, self.num_arg(args, 1)?);
                Ok(vec![self.emit_t(IrOp::POW, Ty::Num, x.r, y.r)?])
            }
            "math.abs" => {
                let x = self.num_arg(args, 0)?;
                Ok(vec![self.emit_t(IrOp::ABS, Ty::Num, x.r, Ref::NONE)?])
            }
            "math.min" => self.min_max(args, IrOp::MIN),
            "math.max" => self.min_max(args, IrOp::MAX),
            "bit.tobit" => Ok(vec![self.bit_arg(args, 0)?]),
            "bit.bnot" => self.bit_one(args, IrOp::BNOT),
            "bit.bswap" => self.bit_one(args, IrOp::BSWAP),
            "bit.band" => self.bit_fold(args, IrOp::BAND),
            "bit.bor" => self.bit_fold(args, IrOp::BOR),
            "bit.bxor" => self.bit_fold(args, IrOp::BXOR),
            "bit.lshift" => self.bit_two(args, IrOp::BSHL),
            "bit.rshift" => self.bit_two(args, IrOp::BSHR),
            "bit.arshift" => self.bit_two(args, IrOp::BSAR),
            "bit.rol" => self.bit_two(args, IrOp::BROL),
            "bit.ror" => self.bit_two(args, IrOp::BROR),
            "string.byte" => self.string_byte(vm, args),
            "string.sub" => {
                self.gc_check();
                self.string_sub(vm, args)
            }
            "string.len" => match args.first() {
                Some((s, _)) if s.ty == Ty::Str => Ok(vec![self.field(s.r, Field::StrLen)?]),
                _ => nyi,
            },
            "string.char" if args.len() == 1 => {
                self.gc_check();
                let c = self.to_index(args[0].0)?;
                let limit = self.kint(256);
                self.guard(IrOp::ULT, c.r, limit.r)?;
                let r = self.call(IrOp::CALLN, IrT::of(Ty::Str), Helper::StrChar, &[c.r])?;
                Ok(vec![TRef::new(r, Ty::Str)])
            }
            "type" | "base.type" if !args.is_empty() => {
                let name = args[0].1.type_name();
                let s = vm.heap.str_find(name.as_bytes()).ok_or(Abort::NyiNative(id.get()))?;
                Ok(vec![self.konst(Value::obj(s))?])
            }
            "tonumber" if args.len() == 1 && args[0].0.ty.is_number() => Ok(vec![args[0].0]),
            "tonumber" if args.len() == 1 && args[0].0.ty == Ty::Cdata => {
                Ok(vec![self.cdata_to_number(vm, args[0].0, args[0].1)?])
            }
            "tostring" if args.len() == 1 => match args[0].0.ty {
                Ty::Str => Ok(vec![args[0].0]),
                Ty::Num | Ty::Int if vm.metatable_of(args[0].1).is_none() => {
                    self.gc_check();
                    Ok(vec![self.emit_t(IrOp::TOSTR, Ty::Str, args[0].0.r, Ref::NONE)?])
                }
                Ty::Cdata => Ok(vec![self.cdata_to_string(vm, args[0])?]),
                _ => nyi,
            },
            "assert" if !args.is_empty() && args[0].1.truthy() => Ok(args.iter().map(|a| a.0).collect()),
            "ipairs" | "pairs" if args.len() == 1 && args[0].0.ty == Ty::Tab => {
                let (t, vt) = args[0];
                // A metatable may have `__pairs`.
                self.no_metatable(vm, vt, t)?;
                let ipairs = row.name == "ipairs";
                let iter = match native.get(&vm.heap).upvals().first() {
                    Some(aux) if ipairs => *aux,
                    _ if ipairs => return nyi,
                    _ => vm.next_func,
                };
                let iter = self.konst(iter)?;
                let start = if ipairs { self.knum(0.0) } else { TRef::pri(0) };
                Ok(vec![iter, t, start])
            }
            "select" if args.len() > 1 => match self.trace.ir.as_knum(args[0].0.r) {
                Some(n) if n >= 1.0 && n.fract() == 0.0 => {
                    Ok(args.iter().skip(n as usize).map(|a| a.0).collect())
                }
                _ if args[0].1.as_obj::<Str>().is_some_and(|s| s.bytes(&vm.heap) == b"#")
                    && args[0].0.r.is_const() =>
                {
                    Ok(vec![self.knum((args.len() - 1) as f64)])
                }
                _ => nyi,
            },
            "rawequal" if args.len() == 2 && args[0].0.ty == Ty::Tab && args[1].0.ty == Ty::Tab => {
                let same = args[0].1.0 == args[1].1.0;
                self.guard(if same { IrOp::EQ } else { IrOp::NE }, args[0].0.r, args[1].0.r)?;
                Ok(vec![TRef::bool(same)])
            }
            "setmetatable" if args.len() == 2 && args[0].0.ty == Ty::Tab && args[1].0.ty == Ty::Tab => {
                let (t, vt) = args[0];
                let (m, vm_) = args[1];
                self.no_metatable(vm, vt, t)?;
                let mt = vm_.as_obj::<Table>().ok_or(Abort::BadCall)?;
                // `__gc`, `__mode` and `__metatable` have effects at once: only plain metatables.
                let k = self.konst(vm_)?;
                self.guard(IrOp::EQ, m.r, k.r)?;
                for mm in [Mm::Gc, Mm::Mode, Mm::Metatable] {
                    if self.metamethod(vm, mt, mm)?.0.ty != Ty::Nil {
                        return nyi;
                    }
                }
                let fref =
                    self.emit_raw(Ins::raw(IrOp::FREF, IrT::of(Ty::P64), t.r.bits(), Field::TabMeta as u16))?;
                self.emit(IrOp::FSTORE, IrT::of(Ty::Tab), fref, k.r)?;
                self.emit(IrOp::TBAR, IrT::of(Ty::Nil), t.r, Ref::NONE)?;
                self.needsnap = true;
                Ok(vec![t])
            }
            "getmetatable" if args.len() == 1 && args[0].0.ty == Ty::Tab => {
                let (t, vt) = args[0];
                match self.metatable(vm, vt, t)? {
                    None => Ok(vec![TRef::pri(0)]),
                    Some(mt) if self.metamethod(vm, mt, Mm::Metatable)?.0.ty == Ty::Nil => {
                        Ok(vec![self.konst(Value::obj(mt))?])
                    }
                    Some(_) => nyi,
                }
            }
            "table.insert" if args.len() == 2 && args[0].0.ty == Ty::Tab => {
                let (t, vt) = args[0];
                let tab = vt.as_obj::<Table>().ok_or(Abort::BadCall)?;
                let n = tab.len(&vm.heap);
                let len = self.emit_t(IrOp::ALEN, Ty::Int, t.r, Ref::NONE)?;
                let one = self.kint(1);
                let k = self.emit_t(IrOp::ADD, Ty::Int, len.r, one.r)?;
                if vt.as_obj::<Table>().is_some_and(|t| t.get(&vm.heap).meta.is_some()) {
                    return nyi;
                }
                self.store(vm, t, vt, k, Value::num((n + 1) as f64), args[1].0)?;
                Ok(vec![])
            }
            _ => nyi,
        }
    }

    /// `ITERC`: a Lua iterator is entered; `ipairs`' own is recorded in place.
    pub(super) fn rec_iterc(&mut self, vm: &Vm, at: At) -> R<Step> {
        let i = at.ins(0);
        let a = i.a();
        let f = self.get(at, a - 3)?;
        let s = self.get(at, a - 2)?;
        let c = self.get(at, a - 1)?;
        let vf = at.reg(a - 3);
        let Some(func) = vf.as_obj::<Func>() else { return Err(Abort::NyiOp(Op::ITERC)) };
        let Some(native) = func.as_native(&vm.heap) else {
            let f = self.specialise(vm, f, vf)?;
            return self.call_iterator(vm, at, f, [s, c]);
        };
        let f = self.native_iterator(vm, f, vf)?;
        let row = vm.natives.get(native.get(&vm.heap).id);
        if !row.name.contains("ipairs_aux") || s.ty != Ty::Tab || !c.ty.is_number() {
            let base = self.baseslot + a as usize;
            if base + 4 > SLOTS_MAX {
                return Err(Abort::TooManySlots);
            }
            self.slots[base] = f;
            self.slots[base + 2..base + 4].copy_from_slice(&[s, c]);
            let why = Abort::NyiNative(native.get(&vm.heap).id.get());
            self.call_native(vm, at, func, (a, 2, i.b()), why)?;
            self.in_native = true;
            return Ok(Step::Next);
        }
        let n = Self::int_value(at.reg(a - 1))?;
        let c = match self.trace.ir.as_knum(c.r).and_then(eval::num_to_int_exact) {
            Some(k) => self.kint(k),
            None => self.to_index(c)?,
        };
        let one = self.kint(1);
        let r = self.emit(IrOp::ADDOV, IrT::guard(Ty::Int), c.r, one.r)?;
        let next = TRef::new(r, Ty::Int);
        let v = self.index(vm, s, at.reg(a - 2), next, Value::int(n + 1))?;
        let nres = i.b() as usize - 1;
        let (x, y) = if v.ty == Ty::Nil { (TRef::pri(0), TRef::pri(0)) } else { (next, v) };
        for n in 0..nres {
            self.set(
                a + n as u32,
                match n {
                    0 => x,
                    1 => y,
                    _ => TRef::pri(0),
                },
            );
        }
        self.maxslot = a as usize + nres;
        self.in_native = true;
        Ok(Step::Next)
    }

    /// `ITERN`: the next entry of a table. The control slot holds a position word.
    pub(super) fn rec_itern(&mut self, vm: &Vm, at: At) -> R<Step> {
        let i = at.ins(0);
        let a = i.a();
        let t = self.get(at, a - 2)?;
        let Some(tab) = at.reg(a - 2).as_obj::<Table>() else { return Err(Abort::NyiOp(Op::ITERN)) };
        let word = at.reg(a - 1).0;
        if word >> 32 != POSITION {
            return Err(Abort::NyiOp(Op::ITERN));
        }
        let s = self.baseslot + a as usize - 1;
        let control = match self.slots[s] {
            t if t.is_none() => {
                let r = self.emit_raw(Ins::raw(IrOp::SLOAD, IrT::of(Ty::P64), s as u16, 0))?;
                self.slots[s] = TRef::new(r, Ty::P64);
                r
            }
            t if t.ty == Ty::P64 => t.r,
            _ => return Err(Abort::NyiOp(Op::ITERN)),
        };
        let n32 = self.kint(32);
        let high = self.emit(IrOp::BSHR, IrT::of(Ty::P64), control, n32.r)?;
        let want = self.trace.ir.kptr(POSITION);
        self.guard(IrOp::EQ, high, want)?;
        let pos = self.emit_raw(Ins::raw(
            IrOp::CONV,
            IrT::of(Ty::Int),
            control.bits(),
            crate::ir::ins::conv::from(Ty::U64),
        ))?;
        let entry = tab.next_at(&vm.heap, word as u32);
        let n = self.call(IrOp::CALLA, IrT::of(Ty::Int), Helper::TabNext, &[t.r, pos])?;
        // Both ways leave to this instruction: the interpreter does it again.
        self.mergesnap &= self.trace.snaps.len() > 1;
        self.snapshot(vm, at)?;
        let end = self.kint(-1);
        let body = at.pc.wrapping_add(2);
        let back = at.ins(1);
        self.needsnap = true;
        let Some((_, key, val)) = entry else {
            self.guard(IrOp::EQ, n, end.r)?;
            self.maxslot = a as usize - 3;
            return self.over_next(vm, At { pc: body, base: at.base }, at, None);
        };
        self.guard(IrOp::NE, n, end.r)?;
        for (w, v) in [key, val].into_iter().enumerate() {
            let ty = type_of(v);
            let r = self.emit_raw(Ins::raw(IrOp::VLOAD, IrT::guard(ty), n.bits(), w as u16))?;
            let t = self.loaded(r, ty);
            self.set(a + w as u32, t);
        }
        let wide = self.emit_raw(Ins::raw(
            IrOp::CONV,
            IrT::of(Ty::U64),
            n.bits(),
            crate::ir::ins::conv::from(Ty::Int),
        ))?;
        let high = self.trace.ir.kptr(POSITION << 32);
        let word = self.emit(IrOp::BOR, IrT::of(Ty::P64), wide, high)?;
        self.slots[s] = TRef::new(word, Ty::P64);
        self.maxslot = a as usize + (i.b() as usize - 1).max(2);
        let trace = (back.op() == Op::JITERL).then(|| back.d());
        let j = match trace {
            Some(no) => vm
                .traces
                .get(moonlit_vm::index::TraceNo::new(no))
                .map(|e| moonlit_vm::bytecode::instr::Instr(e.start_ins).j())
                .ok_or(Abort::NoLink)?,
            None => back.j(),
        };
        let body = body.wrapping_offset(j as isize);
        self.over_next(vm, At { pc: body, base: at.base }, at, Some(trace))
    }
}

/// Upper half of the position word of a loop over `next`.
const POSITION: u64 = 0xfffe_7fff;
