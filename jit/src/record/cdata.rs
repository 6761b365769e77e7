//! C data on traces: elements and members, 64-bit integers, pointers, new objects. The recorder decides what is emitted; the
//! ffi answers what types are and what a key leads to.

use std::rc::Rc;

use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::eval;
use crate::ir::ins::{Field, Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use moonlit_ffi::cdata::{access, as_cdata, place, raw_place, type_object};
use moonlit_ffi::convert::{self, Flags};
use moonlit_ffi::ctype::{BitRange, CTypeId, CTypeTable, Kind};
use moonlit_ffi::meta::Hooks;
use moonlit_ffi::ops::index;
use moonlit_ffi::state::Ffi;
use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;

/// Addresses below this are refused by the interpreter.
const NULL_PAGE_BYTES: u64 = 4096;
/// Offset of an object's payload.
const PAYLOAD: u64 = size_of::<Cdata>() as u64;
/// Largest alignment that objects on traces have, as log2.
const ALIGN_LOG2_MAX: u8 = 4;

/// What cannot be recorded.
pub(super) fn nyi<T>(what: &'static str) -> R<T> {
    Err(Abort::NyiTypes(what))
}

/// The ffi of the VM.
pub(super) fn ffi_of(vm: &Vm) -> R<Rc<Ffi>> {
    let hooks = vm.cdata.as_ref().and_then(|h| h.as_any().downcast_ref::<Hooks>());
    hooks.map(|h| h.0.clone()).ok_or(Abort::NyiTypes("C data without an ffi"))
}

/// What a key of C data leads to.
pub(super) enum Member {
    /// A C object: its type, the address on the trace and the one now.
    Place(CTypeId, Ref, usize, bool),
    /// A bit field: its type, the address of its unit, and where in it.
    Bits(CTypeId, Ref, BitRange, bool),
    /// A constant.
    Const(f64),
    /// The metatype's business.
    Missing(CTypeId),
}

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
    /// Guards that C data has the type it has now.
    pub(super) fn ctype_guard(&mut self, vm: &Vm, t: TRef, v: Value) -> R<CTypeId> {
        let Some(cd) = as_cdata(v) else { return nyi("value that is no C data") };
        let ty = raw_place(vm, cd).ty;
        if !t.r.is_const() {
            let id = self.field(t.r, Field::CdataCtypeid)?;
            let k = self.kint(ty.raw() as i32);
            self.guard(IrOp::EQ, id.r, k.r)?;
        }
        Ok(ty)
    }

    /// The eight bytes of an immutable object's payload.
    fn payload(&mut self, vm: &Vm, t: TRef, v: Value, f: Field) -> R<Ref> {
        let Some(cd) = as_cdata(v).filter(|_| t.r.is_const()) else { return Ok(self.field(t.r, f)?.r) };
        let word = access::load_uint(raw_place(vm, cd).addr, 8);
        Ok(if f == Field::CdataPtr { self.trace.ir.kptr(word) } else { self.trace.ir.kint64(Ty::I64, word) })
    }

    /// Address of an object's payload.
    fn payload_address(&mut self, vm: &Vm, t: TRef, v: Value) -> R<Ref> {
        let fits = as_cdata(v).is_some_and(|cd| cd.get(&vm.heap).offset as u64 == PAYLOAD);
        if !fits {
            return nyi("C data with a large alignment");
        }
        let k = self.trace.ir.kint64(Ty::I64, PAYLOAD);
        self.emit(IrOp::ADD, IrT::of(Ty::P64), t.r, k)
    }

    /// Guards that an address which came from a pointer is none that the interpreter refuses.
    fn not_null(&mut self, address: Ref) -> R<()> {
        let root = crate::opt::memory::root(&self.trace.ir, address);
        if self.trace.ir.ty(root) == Ty::Cdata {
            return Ok(());
        }
        if root.is_const() {
            return if self.trace.ir.k(root).bits < NULL_PAGE_BYTES { nyi("NULL") } else { Ok(()) };
        }
        let k = self.trace.ir.kptr(NULL_PAGE_BYTES);
        self.guard(IrOp::UGE, address, k)
    }

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

    fn conv(&mut self, to: Ty, from: Ty, r: Ref) -> R<Ref> {
        self.emit_raw(Ins::raw(IrOp::CONV, IrT::of(to), r.bits(), conv::from(from)))
    }

    /// The low 32 bits of a number, cut.
    fn to_int32(&mut self, t: TRef) -> R<Ref> {
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
    fn scaled(&mut self, vm: &Vm, key: TRef, vk: Value, size: u32) -> R<Ref> {
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

    /// What `key` leads to in C data.
    pub(super) fn member(&mut self, vm: &Vm, t: TRef, v: Value, key: TRef, vk: Value) -> R<Member> {
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let Some(cd) = as_cdata(v) else { return nyi("value that is no C data") };
        if vk.as_obj::<Str>().is_some() && !key.r.is_const() {
            return nyi("computed member name");
        }
        let own = self.ctype_guard(vm, t, v)?;
        if own == CTypeId::CTYPEID {
            // Constants and methods of a type: the object must be this one.
            let k = self.konst(v)?;
            self.guard(IrOp::EQ, t.r, k.r)?;
        }
        let found = index::find(vm, &ffi, &types, cd, vk);
        let (ty, now, bits, read_only) = match found {
            index::Found::Place { ty, addr, bits, read_only } => (ty, addr, bits, read_only),
            index::Found::Const(c) => return Ok(Member::Const(c.value as f64)),
            index::Found::Missing(ty) => return Ok(Member::Missing(ty)),
            index::Found::UnknownSize | index::Found::Null => return nyi("access that is an error"),
        };
        let raw = raw_place(vm, cd);
        let (behind, target) = match types.kind(own) {
            Kind::Ref { to } | Kind::Ptr { to, bytes: 8 } => (true, to),
            Kind::Array { .. } | Kind::Record(_) => (false, own),
            _ => return nyi("access to this C type"),
        };
        let base =
            if behind { self.payload(vm, t, v, Field::CdataPtr)? } else { self.payload_address(vm, t, v)? };
        if behind {
            self.not_null(base)?;
        }
        let address = if vk.as_obj::<Str>().is_some() {
            if !matches!(types.kind(target), Kind::Record(_)) {
                return nyi("access to this C type");
            }
            let start = if behind { access::load_pointer(raw.addr, 8) } else { raw.addr };
            let k = self.trace.ir.kint64(Ty::I64, now.wrapping_sub(start) as u64);
            self.emit(IrOp::ADD, IrT::of(Ty::P64), base, k)?
        } else {
            let indexable = match (types.kind(own), types.kind(target)) {
                (Kind::Ptr { .. }, _) | (_, Kind::Array { .. }) => true,
                _ => false,
            };
            let Some(size) = types.size(ty).filter(|_| indexable) else {
                return nyi("access to this C type");
            };
            let offset = self.scaled(vm, key, vk, size)?;
            self.emit(IrOp::ADD, IrT::of(Ty::P64), base, offset)?
        };
        if access::is_null(now) {
            return nyi("access that is an error");
        }
        Ok(match bits {
            None => Member::Place(ty, address, now, read_only),
            Some(bits) => Member::Bits(ty, address, bits, read_only),
        })
    }

    /// The unsigned integer that a bit field is read and written through: the smallest that holds it.
    fn bits_unit(bits: BitRange) -> R<(Ty, i32)> {
        match u32::from(bits.pos) + u32::from(bits.width) {
            0..=8 => Ok((Ty::U8, 8)),
            9..=16 => Ok((Ty::U16, 16)),
            // Three bytes would be read as four.
            25..=32 => Ok((Ty::U32, 32)),
            _ => nyi("bit field of this size"),
        }
    }

    /// The value of a bit field.
    fn load_bits(&mut self, types: &CTypeTable, ty: CTypeId, address: Ref, bits: BitRange) -> R<TRef> {
        let base = types.enumeration(ty).map_or(ty, |e| e.base);
        let Kind::Int { unsigned, .. } = types.kind(base) else { return nyi("bit field of this C type") };
        let (unit, _) = Rec::bits_unit(bits)?;
        let r = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(unit), address.bits(), 0))?;
        let (pos, width) = (i32::from(bits.pos), i32::from(bits.width));
        let t = IrT::of(Ty::Int);
        let up = self.kint(32 - pos - width);
        let r = self.emit(IrOp::BSHL, t, r, up.r)?;
        let down = self.kint(32 - width);
        let r = self.emit(if unsigned { IrOp::BSHR } else { IrOp::BSAR }, t, r, down.r)?;
        if unsigned && width == 32 {
            return Ok(TRef::new(self.conv(Ty::Num, Ty::U32, r)?, Ty::Num));
        }
        Ok(TRef::new(r, Ty::Int))
    }

    /// Writes a bit field; bits around it stay.
    fn store_bits(
        &mut self,
        types: &CTypeTable,
        ty: CTypeId,
        address: Ref,
        bits: BitRange,
        val: TRef,
    ) -> R<()> {
        let base = types.enumeration(ty).map_or(ty, |e| e.base);
        if !matches!(types.kind(base), Kind::Int { bytes: 1..=4, .. }) || !val.ty.is_number() {
            return nyi("bit field of this C type");
        }
        let (unit, _) = Rec::bits_unit(bits)?;
        let v = self.to_int32(val)?;
        let mask = if bits.width >= 32 { u32::MAX } else { (1 << bits.width) - 1 };
        let t = IrT::of(Ty::Int);
        let k = self.kint(mask as i32);
        let v = self.emit(IrOp::BAND, t, v, k.r)?;
        let n = self.kint(i32::from(bits.pos));
        let v = self.emit(IrOp::BSHL, t, v, n.r)?;
        let old = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(unit), address.bits(), 0))?;
        let k = self.kint(!(mask << bits.pos) as i32);
        let rest = self.emit(IrOp::BAND, t, old, k.r)?;
        let v = self.emit(IrOp::BOR, t, rest, v)?;
        self.emit(IrOp::XSTORE, IrT::of(unit), address, v)?;
        Ok(())
    }

    /// A new object with eight bytes of payload.
    pub(super) fn boxed_word(&mut self, ty: CTypeId, word: Ref) -> R<TRef> {
        let id = self.kint(ty.raw() as i32);
        self.emit_t(IrOp::CNEWI, Ty::Cdata, id.r, word)
    }

    /// The Lua value of the C object of type `ty` at `address` (now `now`).
    pub(super) fn load_c(&mut self, vm: &Vm, ty: CTypeId, address: Ref, now: usize) -> R<TRef> {
        let ffi = ffi_of(vm)?;
        let kind = ffi.types.borrow().kind(ty);
        let load = |rec: &mut Rec, t: IrT| rec.emit_raw(Ins::raw(IrOp::XLOAD, t, address.bits(), 0));
        Ok(match kind {
            Kind::Int { bytes: bytes @ (1 | 2), unsigned } => {
                let t = match (bytes, unsigned) {
                    (1, false) => Ty::I8,
                    (1, true) => Ty::U8,
                    (_, false) => Ty::I16,
                    (_, true) => Ty::U16,
                };
                TRef::new(load(self, IrT::of(t))?, Ty::Int)
            }
            Kind::Int { bytes: 4, unsigned: false } => TRef::new(load(self, IrT::of(Ty::Int))?, Ty::Int),
            Kind::Int { bytes: 4, unsigned: true } => {
                let r = load(self, IrT::of(Ty::U32))?;
                TRef::new(self.conv(Ty::Num, Ty::U32, r)?, Ty::Num)
            }
            Kind::Float { bytes: 8 } => TRef::new(load(self, IrT::guard(Ty::Num))?, Ty::Num),
            Kind::Float { bytes: 4 } => {
                let r = load(self, IrT::guard(Ty::Float))?;
                TRef::new(self.conv(Ty::Num, Ty::Float, r)?, Ty::Num)
            }
            Kind::Bool => {
                let r = load(self, IrT::of(Ty::U8))?;
                let yes = access::load_uint(now, 1) != 0;
                let zero = self.kint(0);
                self.guard(if yes { IrOp::NE } else { IrOp::EQ }, r, zero.r)?;
                TRef::bool(yes)
            }
            Kind::Int { bytes: 8, .. } => {
                self.gc_check();
                let r = load(self, IrT::of(Ty::I64))?;
                self.boxed_word(ty, r)?
            }
            Kind::Ptr { bytes: 8, .. } => {
                self.gc_check();
                let r = load(self, IrT::of(Ty::P64))?;
                self.boxed_word(ty, r)?
            }
            Kind::Record(_) | Kind::Array { .. } => {
                self.gc_check();
                let reference = ffi.types.borrow_mut().ref_to(ty);
                self.boxed_word(reference, address)?
            }
            Kind::Enum(_) => {
                self.gc_check();
                let r = load(self, IrT::of(Ty::Int))?;
                let o = self.new_object(ty, 4)?;
                let p = self.data_of(o)?;
                self.emit(IrOp::XSTORE, IrT::of(Ty::Int), p, r)?;
                o
            }
            _ => return nyi("load of this C type"),
        })
    }

    /// A zero-filled object.
    fn new_object(&mut self, ty: CTypeId, size: u32) -> R<TRef> {
        let id = self.kint(ty.raw() as i32);
        let size = self.trace.ir.kint64(Ty::I64, u64::from(size));
        self.emit_t(IrOp::CNEW, Ty::Cdata, id.r, size)
    }

    /// Address of the payload of an object made on this trace.
    fn data_of(&mut self, o: TRef) -> R<Ref> {
        let k = self.trace.ir.kint64(Ty::I64, PAYLOAD);
        self.emit(IrOp::ADD, IrT::of(Ty::P64), o.r, k)
    }

    /// A Lua value converted to C type `to`, as its bits: the type that is stored, and the value.
    pub(super) fn to_c(
        &mut self,
        vm: &Vm,
        types: &CTypeTable,
        to: CTypeId,
        t: TRef,
        v: Value,
        flags: Flags,
    ) -> R<(Ty, Ref)> {
        let kind = match types.enumeration(to) {
            Some(e) if t.ty.is_number() => types.kind(e.base),
            _ => types.kind(to),
        };
        match kind {
            Kind::Int { bytes: 8, .. } => {
                let r = match t.ty {
                    Ty::Cdata => self.cdata_word(vm, types, to, t, v, flags)?,
                    _ => self.to_int64(t)?,
                };
                Ok((Ty::I64, r))
            }
            Kind::Int { bytes: bytes @ 1..=4, unsigned } => {
                let r = match t.ty {
                    Ty::Cdata => {
                        let wide = self.cdata_word(vm, types, to, t, v, flags)?;
                        self.conv(Ty::Int, Ty::I64, wide)?
                    }
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
                        let wide = self.cdata_word(vm, types, CTypeId::INT64, t, v, flags)?;
                        let unsigned = as_cdata(v).is_some_and(|cd| raw_place(vm, cd).ty == CTypeId::UINT64);
                        self.conv(Ty::Num, if unsigned { Ty::U64 } else { Ty::I64 }, wide)?
                    }
                    _ => self.to_num(t)?.r,
                };
                match bytes {
                    8 => Ok((Ty::Num, r)),
                    4 => Ok((Ty::Float, self.conv(Ty::Float, Ty::Num, r)?)),
                    _ => nyi("long double"),
                }
            }
            Kind::Bool => match t.ty {
                Ty::True | Ty::False => Ok((Ty::U8, self.kint((t.ty == Ty::True) as i32).r)),
                _ => nyi("conversion to bool"),
            },
            Kind::Ptr { bytes: 8, .. } => Ok((Ty::P64, self.pointer_to(vm, types, to, t, v, flags)?)),
            _ => nyi("conversion to this C type"),
        }
    }

    /// The bits of an integer object, for an integer.
    fn cdata_word(
        &mut self,
        vm: &Vm,
        types: &CTypeTable,
        to: CTypeId,
        t: TRef,
        v: Value,
        flags: Flags,
    ) -> R<Ref> {
        let own = self.ctype_guard(vm, t, v)?;
        match types.kind(own) {
            Kind::Int { bytes: 8, .. } => self.payload(vm, t, v, Field::CdataInt64),
            Kind::Ptr { bytes: 8, .. } if flags.cast && matches!(types.kind(to), Kind::Int { .. }) => {
                let p = self.payload(vm, t, v, Field::CdataPtr)?;
                self.conv(Ty::I64, Ty::P64, p)
            }
            Kind::Array { .. } | Kind::Record(_)
                if flags.cast && matches!(types.kind(to), Kind::Int { .. }) =>
            {
                let p = self.payload_address(vm, t, v)?;
                self.conv(Ty::I64, Ty::P64, p)
            }
            _ => nyi("conversion of this C type"),
        }
    }

    /// A value as a pointer of type `to`.
    pub(super) fn pointer_to(
        &mut self,
        vm: &Vm,
        types: &CTypeTable,
        to: CTypeId,
        t: TRef,
        v: Value,
        flags: Flags,
    ) -> R<Ref> {
        match t.ty {
            Ty::Nil => return Ok(self.trace.ir.kptr(0)),
            Ty::Str => {
                let mut word = [0u8; 8];
                let text = c"".as_ptr() as usize;
                let flags = Flags { from_lua: true, ..flags };
                let dst = word.as_mut_ptr() as usize;
                if convert::c_to_c(types, to, dst, CTypeId::A_CCHAR, text, flags).is_err() {
                    return nyi("conversion of a string");
                }
                let zero = self.kint(0);
                return self.emit(IrOp::STRREF, IrT::of(Ty::P64), t.r, zero.r);
            }
            Ty::Int | Ty::Num if flags.cast => {
                let r = self.to_int64(t)?;
                return self.conv(Ty::P64, Ty::I64, r);
            }
            Ty::Cdata => {}
            _ => return nyi("conversion to a pointer"),
        }
        let Some(cd) = as_cdata(v) else { return nyi("conversion to a pointer") };
        let own = self.ctype_guard(vm, t, v)?;
        // The types alone decide whether it converts.
        let p = place(vm, types, cd);
        let mut word = [0u8; 8];
        let src = match types.kind(p.ty) {
            Kind::Func(_) => access::load_pointer(p.addr, 8),
            _ => p.addr,
        };
        if convert::c_to_c(types, to, word.as_mut_ptr() as usize, p.ty, src, flags).is_err() {
            return nyi("conversion that is refused");
        }
        match types.kind(own) {
            Kind::Ptr { bytes: 8, .. } | Kind::Func(_) => self.payload(vm, t, v, Field::CdataPtr),
            Kind::Ref { to } if matches!(types.kind(to), Kind::Array { .. } | Kind::Record(_)) => {
                self.payload(vm, t, v, Field::CdataPtr)
            }
            Kind::Array { .. } | Kind::Record(_) => self.payload_address(vm, t, v),
            Kind::Int { bytes: 8, .. } => {
                let w = self.payload(vm, t, v, Field::CdataInt64)?;
                self.conv(Ty::P64, Ty::I64, w)
            }
            _ => nyi("conversion to a pointer"),
        }
    }

    /// `cd[key]`; `None` leaves it to the metatype of the type.
    pub(super) fn cdata_get(
        &mut self,
        vm: &Vm,
        t: TRef,
        v: Value,
        key: TRef,
        vk: Value,
    ) -> R<Result<TRef, CTypeId>> {
        Ok(match self.member(vm, t, v, key, vk)? {
            Member::Place(ty, address, now, _) => Ok(self.load_c(vm, ty, address, now)?),
            Member::Bits(ty, address, bits, _) => {
                let ffi = ffi_of(vm)?;
                let types = ffi.types.borrow();
                Ok(self.load_bits(&types, ty, address, bits)?)
            }
            Member::Const(n) => Ok(self.knum(n)),
            Member::Missing(ty) => Err(ty),
        })
    }

    /// `cd[key] = value`.
    pub(super) fn cdata_set(
        &mut self,
        vm: &Vm,
        (t, v): (TRef, Value),
        (key, vk): (TRef, Value),
        (val, vval): (TRef, Value),
    ) -> R<()> {
        let member = self.member(vm, t, v, key, vk)?;
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let (ty, address) = match member {
            Member::Place(ty, address, _, false) => (ty, address),
            Member::Bits(ty, address, bits, false) => {
                self.store_bits(&types, ty, address, bits, val)?;
                self.needsnap = true;
                return Ok(());
            }
            _ => return nyi("store to what is no variable"),
        };
        if val.ty == Ty::Str {
            // Nothing would keep the string alive.
            return nyi("store of a string");
        }
        let (width, r) = self.to_c(vm, &types, ty, val, vval, Flags::default())?;
        self.emit(IrOp::XSTORE, IrT::of(width), address, r)?;
        self.needsnap = true;
        Ok(())
    }

    /// A metamethod of a metatype that is a function or a table, as a constant.
    pub(super) fn metatype_field(&mut self, vm: &Vm, ty: CTypeId, mm: Mm) -> R<Option<(Gc<Table>, Value)>> {
        let ffi = ffi_of(vm)?;
        let Some(mt) = ffi.metatype(&ffi.types.borrow(), ty) else { return Ok(None) };
        let name = Value::obj(vm.mm_names[mm as usize]);
        let v = mt.getv(&vm.heap, name);
        Ok((!v.is_nil()).then_some((mt, v)))
    }

    /// The type whose metatype answers for an operand: through references and one pointer.
    pub(super) fn operand_metatype(&mut self, vm: &Vm, t: TRef, v: Value) -> R<Option<CTypeId>> {
        if t.ty != Ty::Cdata {
            return Ok(None);
        }
        let own = self.ctype_guard(vm, t, v)?;
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let ty = types.deref(own);
        Ok(Some(match types.kind(ty) {
            Kind::Ptr { to, .. } if !matches!(types.kind(to), Kind::Func(_)) => to,
            _ => ty,
        }))
    }

    /// The constructor or call handler of a metatype that a call of C data goes to.
    pub(super) fn cdata_call_handler(&mut self, vm: &Vm, t: TRef, v: Value) -> R<Option<(TRef, Value)>> {
        let Some(cd) = as_cdata(v) else { return Ok(None) };
        let (ty, mm) = match type_object(vm, cd) {
            Some(ty) => {
                let k = self.konst(v)?;
                self.guard(IrOp::EQ, t.r, k.r)?;
                (ty, Mm::New)
            }
            None => (self.ctype_guard(vm, t, v)?, Mm::Call),
        };
        let ty = {
            let ffi = ffi_of(vm)?;
            let types = ffi.types.borrow();
            let ty = types.deref(ty);
            match types.kind(ty) {
                Kind::Ptr { to, .. } if !matches!(types.kind(to), Kind::Func(_)) => to,
                Kind::Ptr { .. } | Kind::Func(_) => return Ok(None),
                _ => ty,
            }
        };
        match self.metatype_field(vm, ty, mm)? {
            Some((mt, _)) => Ok(Some(self.metamethod(vm, mt, mm)?)),
            None => Ok(None),
        }
    }

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
    fn int64_operand(&mut self, vm: &Vm, t: TRef, v: Value) -> R<Ref> {
        if t.ty == Ty::Cdata {
            self.ctype_guard(vm, t, v)?;
            return self.payload(vm, t, v, Field::CdataInt64);
        }
        self.to_int64(t)
    }

    fn int64_now(vm: &Vm, v: Value, unsigned: bool) -> u64 {
        match (v.as_num(), as_cdata(v)) {
            (Some(n), _) if unsigned => convert::num_to_u64(n),
            (Some(n), _) => convert::num_to_i64(n) as u64,
            (_, Some(cd)) => access::load_uint(raw_place(vm, cd).addr, 8),
            _ => 0,
        }
    }

    /// Address of a pointer operand.
    fn address_operand(&mut self, vm: &Vm, types: &CTypeTable, t: TRef, v: Value) -> R<Ref> {
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
    fn int64_pair(&mut self, vm: &Vm, x: (TRef, Value), y: (TRef, Value)) -> R<Option<Pair>> {
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

    fn moved(
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
        let ty = self.ctype_guard(vm, t, v)?;
        let from = match ty {
            CTypeId::INT64 => Ty::I64,
            CTypeId::UINT64 => Ty::U64,
            _ => return nyi("number of this C type"),
        };
        let r = self.payload(vm, t, v, Field::CdataInt64)?;
        Ok(TRef::new(self.conv(Ty::Num, from, r)?, Ty::Num))
    }

    /// A new object of type `ty`, as `ffi.new` and a call of the type make it.
    pub(super) fn construct(&mut self, vm: &Vm, ty: CTypeId, args: &[(TRef, Value)]) -> R<TRef> {
        /// Largest object that is initialised on a trace, bytes.
        const INIT_BYTES_MAX: u32 = 128;
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let layout = types.layout(ty);
        if layout.align_log2 > ALIGN_LOG2_MAX {
            return nyi("C data with a large alignment");
        }
        if matches!(types.kind(ty), Kind::Record(_)) && self.metatype_field(vm, ty, Mm::Gc)?.is_some() {
            return nyi("C data with a finalizer");
        }
        self.gc_check();
        if types.is_variable(ty) {
            let [(n, vn)] = args else { return nyi("initialised [?] object") };
            let (Kind::Array { elem, .. }, true) = (types.kind(ty), n.ty.is_number()) else {
                return nyi("[?] object");
            };
            let (Some(size), Some(now)) = (types.size(elem), vn.as_num()) else { return nyi("[?] object") };
            if !(0.0..1e9).contains(&now) {
                return nyi("[?] object");
            }
            let count = self.to_index(*n)?;
            let zero = self.kint(0);
            self.guard(IrOp::GE, count.r, zero.r)?;
            let bytes = self.scaled(vm, count, *vn, size)?;
            let id = self.kint(ty.raw() as i32);
            let r = self.emit(IrOp::CNEW, IrT::guard(Ty::Cdata), id.r, bytes)?;
            return Ok(TRef::new(r, Ty::Cdata));
        }
        let Some(size) = layout.size else { return nyi("object of unknown size") };
        match types.kind(ty) {
            Kind::Int { bytes: 8, .. } | Kind::Ptr { bytes: 8, .. } if args.len() <= 1 => {
                let word = match args {
                    [] if matches!(types.kind(ty), Kind::Ptr { .. }) => self.trace.ir.kptr(0),
                    [] => self.trace.ir.kint64(Ty::I64, 0),
                    [(t, v), ..] if t.ty != Ty::Str => self.to_c(vm, &types, ty, *t, *v, Flags::default())?.1,
                    _ => return nyi("object made of a string"),
                };
                return self.boxed_word(ty, word);
            }
            _ => {}
        }
        if size > if args.is_empty() { 1 << 16 } else { INIT_BYTES_MAX } {
            return nyi("large object");
        }
        // What is stored where: decided before anything is made.
        let mut stores: Vec<(u32, Ty, Ref)> = Vec::new();
        let mut set = |rec: &mut Rec, offset: u32, ty: CTypeId, a: &(TRef, Value)| -> R<()> {
            if a.0.ty == Ty::Str {
                return nyi("object made of a string");
            }
            let (t, r) = rec.to_c(vm, &types, ty, a.0, a.1, Flags::default())?;
            stores.push((offset, t, r));
            Ok(())
        };
        match types.kind(ty) {
            _ if args.is_empty() => {}
            Kind::Record(_) => {
                let Some(record) = types.record(ty) else { return nyi("this struct") };
                let plain = args.len() > 1 || convert::is_value_initializer(vm, &types, ty, args[0].1);
                if record.is_union || !plain || record.fields.len() < args.len() {
                    return nyi("this initialiser");
                }
                for (field, a) in record.fields.iter().zip(args) {
                    if field.name.is_none() || field.bits.is_some() {
                        return nyi("bit field or nested struct");
                    }
                    set(self, field.offset, field.ty, a)?;
                }
            }
            Kind::Array { elem, .. } => {
                let Some(step) = types.size(elem) else { return nyi("this array") };
                let n = size / step.max(1);
                let fits = args.len() as u32 <= n && n <= 16;
                if !fits || args.iter().any(|a| !a.0.ty.is_number()) {
                    return nyi("this initialiser");
                }
                for i in 0..if args.len() == 1 { n } else { args.len() as u32 } {
                    set(self, i * step, elem, &args[(i as usize).min(args.len() - 1)])?;
                }
            }
            _ if args.len() == 1 => set(self, 0, ty, &args[0])?,
            _ => return nyi("this initialiser"),
        }
        let o = self.new_object(ty, size)?;
        let data = self.data_of(o)?;
        for (offset, t, r) in stores {
            let k = self.trace.ir.kint64(Ty::I64, u64::from(offset));
            let p = self.emit(IrOp::ADD, IrT::of(Ty::P64), data, k)?;
            self.emit(IrOp::XSTORE, IrT::of(t), p, r)?;
        }
        Ok(o)
    }

    /// The type that a constant argument names: a type object or a string met before.
    pub(super) fn type_arg(&mut self, vm: &Vm, a: &(TRef, Value)) -> R<CTypeId> {
        let ffi = ffi_of(vm)?;
        if let Some(s) = a.1.as_obj::<Str>() {
            let Some(id) = ffi.parsed(s.addr(), s.bytes(&vm.heap)) else { return nyi("new type string") };
            if !a.0.r.is_const() {
                return nyi("computed type string");
            }
            return Ok(id);
        }
        let Some(cd) = as_cdata(a.1) else { return nyi("value that is no C type") };
        match type_object(vm, cd) {
            Some(id) => {
                let k = self.konst(a.1)?;
                self.guard(IrOp::EQ, a.0.r, k.r)?;
                Ok(id)
            }
            None => self.ctype_guard(vm, a.0, a.1),
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
