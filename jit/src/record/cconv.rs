//! Lua values as C values on traces: numbers cut to integers, objects as pointers.

use super::cdata::nyi;
use super::slots::TRef;
use super::{R, Rec};
use crate::ir::eval;
use crate::ir::ins::{Field, Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use moonlit_ffi::cdata::access::{self, Scalar};
use moonlit_ffi::cdata::{as_cdata, place, raw_place};
use moonlit_ffi::convert::{self, Flags};
use moonlit_ffi::ctype::{CTypeId, CTypeTable, Kind};
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::value::Value;

/// The types and the rules of a conversion.
#[derive(Clone, Copy)]
pub(super) struct Conversion<'a> {
    pub(super) vm: &'a Vm,
    pub(super) types: &'a CTypeTable,
    pub(super) flags: Flags,
}

impl<'a> Conversion<'a> {
    /// As assignments convert.
    pub(super) fn new(vm: &'a Vm, types: &'a CTypeTable) -> Conversion<'a> {
        Conversion { vm, types, flags: Flags::default() }
    }

    /// As `ffi.cast` converts.
    pub(super) fn cast(vm: &'a Vm, types: &'a CTypeTable) -> Conversion<'a> {
        Conversion { flags: Flags { cast: true, ..Flags::default() }, ..Conversion::new(vm, types) }
    }
}

impl Rec {
    /// A number as a signed 64-bit integer, cut; leaves the trace where that is not defined.
    pub(super) fn to_int64(&mut self, t: TRef) -> R<Ref> {
        match t.ty {
            Ty::Int => {
                let mode = conv::from(Ty::Int) | conv::SEXT;
                self.emit_raw(Ins::raw(IrOp::CONV, IrT::of(Ty::I64), t.r.bits(), mode))
            }
            Ty::Num => {
                if let Some(n) = self.trace.ir.as_knum(t.r) {
                    return Ok(self.trace.ir.kint64(Ty::I64, convert::num_to_i64(n) as u64));
                }
                self.emit_raw(Ins::raw(IrOp::CONV, IrT::guard(Ty::I64), t.r.bits(), conv::from(Ty::Num)))
            }
            _ => nyi("value that is no number"),
        }
    }

    pub(super) fn conv(&mut self, to: Ty, from: Ty, r: Ref) -> R<Ref> {
        self.emit_raw(Ins::raw(IrOp::CONV, IrT::of(to), r.bits(), conv::from(from)))
    }

    /// The low 32 bits of a number, cut.
    pub(super) fn to_int32(&mut self, t: TRef) -> R<Ref> {
        if t.ty == Ty::Int {
            return Ok(t.r);
        }
        if let Some(n) = self.trace.ir.as_knum(t.r) {
            return Ok(self.kint(convert::num_to_i64(n) as i32).r);
        }
        if t.ty != Ty::Num {
            return nyi("value that is no number");
        }
        // The low bits of what does not fit are those that the interpreter gives.
        let wide = self.conv(Ty::I64, Ty::Num, t.r)?;
        // Of a converted integer only the integer is left.
        if wide.is_ins() {
            let i = *self.trace.ir.ins(wide);
            if i.op == IrOp::CONV && conv::src(i.b) == Ty::Int && !i.t.is_phi() {
                return Ok(i.ra());
            }
        }
        self.conv(Ty::Int, Ty::I64, wide)
    }

    /// An index in bytes: a key times the size of an element.
    pub(super) fn scaled(&mut self, vm: &Vm, key: TRef, vk: Value, size: u32) -> R<Ref> {
        let i = if key.ty == Ty::Cdata {
            let ty = self.ctype_guard(vm, key, vk)?;
            if ty != CTypeId::INT64 && ty != CTypeId::UINT64 {
                return nyi("index of this C type");
            }
            self.payload(vm, key, vk, Field::CdataInt64)?
        } else if key.ty == Ty::Num && self.trace.ir.as_knum(key.r).is_none() {
            // Indexes are integers, or this trace ends here: the check is cheaper than cutting.
            let t = self.to_index(key)?;
            self.to_int64(t)?
        } else {
            self.to_int64(key)?
        };
        if size.is_power_of_two() {
            let k = self.kint(size.trailing_zeros() as i32);
            return self.emit(IrOp::BSHL, IrT::of(Ty::I64), i, k.r);
        }
        let k = self.trace.ir.kint64(Ty::I64, u64::from(size));
        self.emit(IrOp::MUL, IrT::of(Ty::I64), i, k)
    }

    /// A Lua value converted to C type `to`, as its bits: the type that is stored, and the value.
    pub(super) fn to_c(&mut self, c: Conversion<'_>, to: CTypeId, (t, v): (TRef, Value)) -> R<(Ty, Ref)> {
        let (t, v) = match c.types.kind(to) {
            Kind::Ptr { .. } => (t, v),
            _ => self.scalar(c, (t, v))?.unwrap_or((t, v)),
        };
        if let (Some(e), Some(s)) = (c.types.enumeration(to), v.as_obj::<Str>()) {
            let value = e.consts.get(s.bytes(&c.vm.heap)).copied();
            return match value.filter(|_| t.r.is_const()) {
                Some(n) => Ok((Ty::Int, self.kint(n as i32).r)),
                None => nyi("name of an enum's constant"),
            };
        }
        let kind = match c.types.enumeration(to) {
            Some(e) if t.ty.is_number() => c.types.kind(e.base),
            _ => c.types.kind(to),
        };
        match kind {
            Kind::Int { bytes: 8, .. } => {
                let r = match t.ty {
                    Ty::Cdata => self.cdata_word(c, to, (t, v))?,
                    Ty::True | Ty::False => self.trace.ir.kint64(Ty::I64, (t.ty == Ty::True) as u64),
                    _ => self.to_int64(t)?,
                };
                Ok((Ty::I64, r))
            }
            Kind::Int { bytes: bytes @ 1..=4, unsigned } => {
                let r = match t.ty {
                    Ty::Cdata => {
                        let wide = self.cdata_word(c, to, (t, v))?;
                        self.conv(Ty::Int, Ty::I64, wide)?
                    }
                    Ty::True | Ty::False => self.kint((t.ty == Ty::True) as i32).r,
                    _ => self.to_int32(t)?,
                };
                let t = match (bytes, unsigned) {
                    (1, _) => Ty::U8,
                    (2, _) => Ty::U16,
                    (_, true) => Ty::U32,
                    (_, false) => Ty::Int,
                };
                // The value's own type is what a load may take it for: only whole integers are.
                Ok((t, r))
            }
            Kind::Float { bytes } => {
                let r = match t.ty {
                    Ty::Cdata => {
                        let wide = self.cdata_word(c, CTypeId::INT64, (t, v))?;
                        let unsigned =
                            as_cdata(v).is_some_and(|cd| raw_place(c.vm, cd).ty == CTypeId::UINT64);
                        self.conv(Ty::Num, if unsigned { Ty::U64 } else { Ty::I64 }, wide)?
                    }
                    Ty::True | Ty::False => self.knum(f64::from(t.ty == Ty::True)).r,
                    _ => self.to_num(t)?.r,
                };
                match bytes {
                    8 => Ok((Ty::Num, r)),
                    4 => Ok((Ty::Float, self.conv(Ty::Float, Ty::Num, r)?)),
                    _ => nyi("long double"),
                }
            }
            Kind::Bool => {
                let yes = match t.ty {
                    Ty::True | Ty::False => t.ty == Ty::True,
                    Ty::Int | Ty::Num | Ty::Cdata => self.is_not_zero(c, (t, v))?,
                    _ => return nyi("conversion to bool"),
                };
                Ok((Ty::U8, self.kint(yes as i32).r))
            }
            Kind::Ptr { bytes: 8, .. } => Ok((Ty::P64, self.pointer_to(c, to, (t, v))?)),
            _ => nyi("conversion to this C type"),
        }
    }

    /// Whether a number is not zero; the trace is for that case only.
    fn is_not_zero(&mut self, c: Conversion<'_>, (t, v): (TRef, Value)) -> R<bool> {
        let (r, zero, yes) = match t.ty {
            Ty::Cdata => {
                let word = self.cdata_word(c, CTypeId::INT64, (t, v))?;
                let now = as_cdata(v).map_or(0, |cd| access::load_uint(raw_place(c.vm, cd).addr, 8));
                (word, self.trace.ir.kint64(Ty::I64, 0), now != 0)
            }
            Ty::Int => (t.r, self.kint(0).r, v.as_num().is_some_and(|n| n != 0.0)),
            _ => (t.r, self.knum(0.0).r, v.as_num().is_some_and(|n| n != 0.0)),
        };
        if !r.is_const() {
            self.guard(if yes { IrOp::NE } else { IrOp::EQ }, r, zero)?;
        }
        Ok(yes)
    }

    /// The value of an object that holds a small number, a boolean or an enum, or refers to one; `None` for others.
    pub(super) fn scalar(&mut self, c: Conversion<'_>, (t, v): (TRef, Value)) -> R<Option<(TRef, Value)>> {
        let Some(cd) = as_cdata(v).filter(|_| t.ty == Ty::Cdata) else { return Ok(None) };
        let own = raw_place(c.vm, cd).ty;
        let (behind, ty) = match c.types.kind(own) {
            Kind::Ref { to } => (true, to),
            _ => (false, own),
        };
        let base = c.types.enumeration(ty).map_or(ty, |e| e.base);
        if own == CTypeId::CTYPEID
            || !matches!(
                c.types.kind(base),
                Kind::Int { bytes: 1 | 2 | 4, .. } | Kind::Float { bytes: 4 | 8 } | Kind::Bool
            )
        {
            return Ok(None);
        }
        self.ctype_guard(c.vm, t, v)?;
        let address = if behind {
            self.payload(c.vm, t, v, Field::CdataPtr)?
        } else {
            self.payload_address(c.vm, t, v)?
        };
        if behind {
            self.not_null(address)?;
        }
        let now = place(c.vm, c.types, cd).addr;
        if access::is_null(now) {
            return nyi("access that is an error");
        }
        let value = access::load_scalar(c.types.kind(base), now);
        let n = match value {
            Some(Scalar::Int(n)) => n as f64,
            Some(Scalar::Uint(n)) => n as f64,
            Some(Scalar::Float(n)) => n,
            None => return Ok(None),
        };
        let t = self.load_scalar(c.types.kind(base), address, now)?;
        Ok(Some((t, Value::num(n))))
    }

    /// The bits of an integer object, for an integer.
    fn cdata_word(&mut self, c: Conversion<'_>, to: CTypeId, (t, v): (TRef, Value)) -> R<Ref> {
        let own = self.ctype_guard(c.vm, t, v)?;
        let to_int = c.flags.cast && matches!(c.types.kind(to), Kind::Int { .. });
        match c.types.kind(own) {
            Kind::Int { bytes: 8, .. } => self.payload(c.vm, t, v, Field::CdataInt64),
            Kind::Ref { to } if matches!(c.types.kind(to), Kind::Int { bytes: 8, .. }) => {
                let p = self.payload(c.vm, t, v, Field::CdataPtr)?;
                self.not_null(p)?;
                self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::I64), p.bits(), 0))
            }
            Kind::Ptr { bytes: 8, .. } if to_int => {
                let p = self.payload(c.vm, t, v, Field::CdataPtr)?;
                self.conv(Ty::I64, Ty::P64, p)
            }
            Kind::Array { .. } | Kind::Record(_) if to_int => {
                let p = self.payload_address(c.vm, t, v)?;
                self.conv(Ty::I64, Ty::P64, p)
            }
            _ => nyi("conversion of this C type"),
        }
    }

    /// A value as a pointer of type `to`.
    pub(super) fn pointer_to(&mut self, c: Conversion<'_>, to: CTypeId, (t, v): (TRef, Value)) -> R<Ref> {
        match t.ty {
            Ty::Nil => return Ok(self.trace.ir.kptr(0)),
            Ty::Str => {
                let mut word = [0u8; 8];
                let text = c"".as_ptr() as usize;
                let flags = Flags { from_lua: true, ..c.flags };
                let dst = word.as_mut_ptr() as usize;
                if convert::c_to_c(c.types, to, dst, CTypeId::A_CCHAR, text, flags).is_err() {
                    return nyi("conversion of a string");
                }
                let zero = self.kint(0);
                return self.emit(IrOp::STRREF, IrT::of(Ty::P64), t.r, zero.r);
            }
            Ty::Int | Ty::Num if c.flags.cast => {
                let r = self.to_int64(t)?;
                return self.conv(Ty::P64, Ty::I64, r);
            }
            Ty::Cdata => {}
            _ => return nyi("conversion to a pointer"),
        }
        let Some(cd) = as_cdata(v) else { return nyi("conversion to a pointer") };
        let own = self.ctype_guard(c.vm, t, v)?;
        // The types alone decide whether it converts.
        let p = place(c.vm, c.types, cd);
        let mut word = [0u8; 8];
        let src = match c.types.kind(p.ty) {
            Kind::Func(_) => access::load_pointer(p.addr, 8),
            _ => p.addr,
        };
        if convert::c_to_c(c.types, to, word.as_mut_ptr() as usize, p.ty, src, c.flags).is_err() {
            return nyi("conversion that is refused");
        }
        match c.types.kind(own) {
            Kind::Ptr { bytes: 8, .. } | Kind::Func(_) => self.payload(c.vm, t, v, Field::CdataPtr),
            Kind::Ref { to } if matches!(c.types.kind(to), Kind::Array { .. } | Kind::Record(_)) => {
                self.payload(c.vm, t, v, Field::CdataPtr)
            }
            Kind::Array { .. } | Kind::Record(_) => self.payload_address(c.vm, t, v),
            Kind::Int { bytes: 8, .. } => {
                let w = self.payload(c.vm, t, v, Field::CdataInt64)?;
                self.conv(Ty::P64, Ty::I64, w)
            }
            _ => nyi("conversion to a pointer"),
        }
    }

    /// An exact integer argument.
    pub(super) fn size_arg(&mut self, a: &(TRef, Value)) -> R<Ref> {
        let exact = a.1.as_num().and_then(eval::num_to_int_exact).filter(|&n| n >= 0);
        if exact.is_none() {
            return nyi("size that is no small number");
        }
        let t = self.to_index(a.0)?;
        let zero = self.kint(0);
        self.guard(IrOp::GE, t.r, zero.r)?;
        self.to_int64(t)
    }
}
