//! Operators on C data on traces: 64-bit integers and pointers.

use super::cconv::Conversion;
use super::cdata::{ffi_of, nyi};
use super::slots::TRef;
use super::{R, Rec};
use crate::ir::ins::{Field, Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use moonlit_ffi::cdata::{access, as_cdata, raw_place};
use moonlit_ffi::convert;
use moonlit_ffi::ctype::{CTypeId, CTypeTable, Kind};
use moonlit_ffi::state::Ffi;
use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

/// Two operands as 64-bit integers or addresses, for an operation or comparison.
pub(super) struct Pair {
    pub(super) x: Ref,
    pub(super) y: Ref,
    /// The operation is unsigned.
    pub(super) unsigned: bool,
    /// What they are now.
    pub(super) now: (u64, u64),
}

/// One side of an operation.
#[derive(Clone, Copy)]
enum Side {
    /// A number of Lua.
    Num,
    /// A 64-bit integer and whether it is unsigned.
    Int64(bool),
    /// An address (in the value now) of objects of this type.
    Pointer(usize, CTypeId),
    /// A struct, union or anything else.
    Other,
}

impl Rec {
    fn side(&self, vm: &Vm, types: &CTypeTable, t: TRef, v: Value) -> Side {
        match t.ty {
            Ty::Int | Ty::Num => Side::Num,
            Ty::Nil => Side::Pointer(0, CTypeId::VOID),
            Ty::Cdata => {
                let Some(cd) = as_cdata(v) else { return Side::Other };
                let raw = raw_place(vm, cd);
                match types.kind(raw.ty) {
                    Kind::Int { bytes: 8, unsigned } => Side::Int64(unsigned),
                    Kind::Ptr { to, bytes: 8 } => Side::Pointer(access::load_pointer(raw.addr, 8), to),
                    Kind::Array { elem, .. } => Side::Pointer(raw.addr, elem),
                    Kind::Ref { to } => match types.kind(to) {
                        Kind::Array { elem, .. } => Side::Pointer(access::load_pointer(raw.addr, 8), elem),
                        _ => Side::Other,
                    },
                    _ => Side::Other,
                }
            }
            _ => Side::Other,
        }
    }

    /// The bits of a 64-bit operand.
    pub(super) fn int64_operand(&mut self, vm: &Vm, t: TRef, v: Value) -> R<Ref> {
        if t.ty == Ty::Cdata {
            self.ctype_guard(vm, t, v)?;
            return self.payload(vm, t, v, Field::CdataInt64);
        }
        self.to_int64(t)
    }

    pub(super) fn int64_now(vm: &Vm, v: Value, unsigned: bool) -> u64 {
        match (v.as_num(), as_cdata(v)) {
            (Some(n), _) if unsigned => convert::num_to_u64(n),
            (Some(n), _) => convert::num_to_i64(n) as u64,
            (_, Some(cd)) => access::load_uint(raw_place(vm, cd).addr, 8),
            _ => 0,
        }
    }

    /// Address of a pointer operand.
    pub(super) fn address_operand(&mut self, vm: &Vm, types: &CTypeTable, t: TRef, v: Value) -> R<Ref> {
        if t.ty == Ty::Nil {
            return Ok(self.trace.ir.kptr(0));
        }
        let own = self.ctype_guard(vm, t, v)?;
        match types.kind(own) {
            Kind::Array { .. } => self.payload_address(vm, t, v),
            _ => self.payload(vm, t, v, Field::CdataPtr),
        }
    }

    /// The operands of an arithmetic operation or comparison as 64-bit integers; `None` if they are something else.
    pub(super) fn int64_pair(&mut self, vm: &Vm, x: (TRef, Value), y: (TRef, Value)) -> R<Option<Pair>> {
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let (a, b) = (self.side(vm, &types, x.0, x.1), self.side(vm, &types, y.0, y.1));
        let unsigned = match (a, b) {
            (Side::Int64(u), Side::Num) | (Side::Num, Side::Int64(u)) => u,
            (Side::Int64(u), Side::Int64(w)) => u || w,
            _ => return Ok(None),
        };
        let now = (Rec::int64_now(vm, x.1, unsigned), Rec::int64_now(vm, y.1, unsigned));
        let (rx, ry) = (self.int64_operand(vm, x.0, x.1)?, self.int64_operand(vm, y.0, y.1)?);
        Ok(Some(Pair { x: rx, y: ry, unsigned, now }))
    }

    /// Arithmetic of which an operand is C data; `None` leaves it to a metatype.
    pub(super) fn cdata_arith(
        &mut self,
        vm: &Vm,
        mm: Mm,
        x: (TRef, Value),
        y: (TRef, Value),
    ) -> R<Option<TRef>> {
        if let Some(p) = self.int64_pair(vm, x, y)? {
            self.gc_check();
            let ty = if p.unsigned { CTypeId::UINT64 } else { CTypeId::INT64 };
            let t = IrT::of(Ty::I64);
            let r = match (mm, p.unsigned) {
                (Mm::Add, _) => self.emit(IrOp::ADD, t, p.x, p.y)?,
                (Mm::Sub, _) => self.emit(IrOp::SUB, t, p.x, p.y)?,
                (Mm::Mul, _) => self.emit(IrOp::MUL, t, p.x, p.y)?,
                (Mm::Unm, _) => self.emit(IrOp::NEG, t, p.x, Ref::NONE)?,
                (Mm::Div, true) => self.call(IrOp::CALLN, t, Helper::DivU64, &[p.x, p.y])?,
                (Mm::Div, false) => self.call(IrOp::CALLN, t, Helper::DivI64, &[p.x, p.y])?,
                (Mm::Mod, true) => self.call(IrOp::CALLN, t, Helper::ModU64, &[p.x, p.y])?,
                (Mm::Mod, false) => self.call(IrOp::CALLN, t, Helper::ModI64, &[p.x, p.y])?,
                _ => return nyi("power of 64-bit integers"),
            };
            return Ok(Some(self.boxed_word(ty, r)?));
        }
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let (a, b) = (self.side(vm, &types, x.0, x.1), self.side(vm, &types, y.0, y.1));
        match (mm, a, b) {
            (Mm::Add | Mm::Sub, Side::Pointer(_, to), Side::Num | Side::Int64(_)) => {
                let Some(size) = types.size(to) else { return nyi("pointer to something without a size") };
                let p = self.address_operand(vm, &types, x.0, x.1)?;
                drop(types);
                self.moved(vm, &ffi, mm, (p, to), y, size).map(Some)
            }
            (Mm::Add, Side::Num | Side::Int64(_), Side::Pointer(_, to)) => {
                let Some(size) = types.size(to) else { return nyi("pointer to something without a size") };
                let p = self.address_operand(vm, &types, y.0, y.1)?;
                drop(types);
                self.moved(vm, &ffi, mm, (p, to), x, size).map(Some)
            }
            (Mm::Sub, Side::Pointer(_, to), Side::Pointer(_, other)) => {
                let size = types.size(to).filter(|&s| s != 0);
                let (Some(size), true) = (size, convert::compatible_pointees(&types, to, other, true)) else {
                    return nyi("difference of these pointers");
                };
                let p = self.address_operand(vm, &types, x.0, x.1)?;
                let q = self.address_operand(vm, &types, y.0, y.1)?;
                let d = self.emit(IrOp::SUB, IrT::of(Ty::I64), p, q)?;
                let n = if size == 1 {
                    d
                } else {
                    let k = self.trace.ir.kint64(Ty::I64, u64::from(size));
                    self.call(IrOp::CALLN, IrT::of(Ty::I64), Helper::DivI64, &[d, k])?
                };
                Ok(Some(TRef::new(self.conv(Ty::Num, Ty::I64, n)?, Ty::Num)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn moved(
        &mut self,
        vm: &Vm,
        ffi: &Ffi,
        mm: Mm,
        (p, to): (Ref, CTypeId),
        n: (TRef, Value),
        size: u32,
    ) -> R<TRef> {
        self.gc_check();
        let mut offset = self.scaled(vm, n.0, n.1, size)?;
        if mm == Mm::Sub {
            offset = match self.trace.ir.as_kint64(offset) {
                Some(k) => self.trace.ir.kint64(Ty::I64, k.wrapping_neg()),
                None => self.emit(IrOp::NEG, IrT::of(Ty::I64), offset, Ref::NONE)?,
            };
        }
        let r = self.emit(IrOp::ADD, IrT::of(Ty::P64), p, offset)?;
        // `p + 0` of an array is the address itself, which is no pointer value yet.
        let ty = ffi.types.borrow_mut().ptr_to(to);
        self.boxed_word(ty, r)
    }

    /// The operands of a comparison of which one is C data; `None` leaves it to a metatype.
    pub(super) fn cdata_compare(
        &mut self,
        vm: &Vm,
        mm: Mm,
        x: (TRef, Value),
        y: (TRef, Value),
    ) -> R<Option<Pair>> {
        if let Some(p) = self.int64_pair(vm, x, y)? {
            return Ok(Some(p));
        }
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let (a, b) = (self.side(vm, &types, x.0, x.1), self.side(vm, &types, y.0, y.1));
        let (Side::Pointer(p, to), Side::Pointer(q, other)) = (a, b) else { return Ok(None) };
        if mm != Mm::Eq && !convert::compatible_pointees(&types, to, other, true) {
            return nyi("comparison of these pointers");
        }
        let rx = self.address_operand(vm, &types, x.0, x.1)?;
        let ry = self.address_operand(vm, &types, y.0, y.1)?;
        Ok(Some(Pair { x: rx, y: ry, unsigned: true, now: (p as u64, q as u64) }))
    }

    /// The operand of a 64-bit bit operation: its bits, and whether it is unsigned C data.
    pub(super) fn wide_bits(&mut self, vm: &Vm, t: TRef, v: Value) -> R<(Ref, bool)> {
        if t.ty != Ty::Cdata {
            let r = self.to_bit(t)?;
            let mode = conv::from(Ty::Int) | conv::SEXT;
            return Ok((self.emit_raw(Ins::raw(IrOp::CONV, IrT::of(Ty::I64), r.r.bits(), mode))?, false));
        }
        let ty = self.ctype_guard(vm, t, v)?;
        if ty != CTypeId::INT64 && ty != CTypeId::UINT64 {
            return nyi("bit operation on this C type");
        }
        Ok((self.payload(vm, t, v, Field::CdataInt64)?, ty == CTypeId::UINT64))
    }

    /// The result of a 64-bit bit operation.
    pub(super) fn wide_result(&mut self, r: Ref, unsigned: bool) -> R<TRef> {
        self.boxed_word(if unsigned { CTypeId::UINT64 } else { CTypeId::INT64 }, r)
    }

    /// `tonumber(cd)`.
    pub(super) fn cdata_to_number(&mut self, vm: &Vm, t: TRef, v: Value) -> R<TRef> {
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        if let Some((n, v)) = self.scalar(Conversion::new(vm, &types), (t, v))? {
            let k = self.knum(v.as_num().unwrap_or(0.0));
            return Ok(if n.ty.is_pri() { k } else { n });
        }
        let ty = self.ctype_guard(vm, t, v)?;
        let from = match ty {
            CTypeId::INT64 => Ty::I64,
            CTypeId::UINT64 => Ty::U64,
            _ => return nyi("number of this C type"),
        };
        let r = self.payload(vm, t, v, Field::CdataInt64)?;
        Ok(TRef::new(self.conv(Ty::Num, from, r)?, Ty::Num))
    }
}
