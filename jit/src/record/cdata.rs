//! C data on traces: elements, members and metatypes. The recorder decides what is emitted; the ffi answers what types are and
//! what a key leads to.

use std::rc::Rc;

use super::cconv::Conversion;
use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::ins::{Field, Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use moonlit_ffi::cdata::{access, as_cdata, raw_place, type_object};
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
pub(super) const PAYLOAD: u64 = size_of::<Cdata>() as u64;

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
    pub(super) fn payload(&mut self, vm: &Vm, t: TRef, v: Value, f: Field) -> R<Ref> {
        let Some(cd) = as_cdata(v).filter(|_| t.r.is_const()) else { return Ok(self.field(t.r, f)?.r) };
        let word = access::load_uint(raw_place(vm, cd).addr, 8);
        Ok(if f == Field::CdataPtr { self.trace.ir.kptr(word) } else { self.trace.ir.kint64(Ty::I64, word) })
    }

    /// Address of an object's payload.
    pub(super) fn payload_address(&mut self, vm: &Vm, t: TRef, v: Value) -> R<Ref> {
        let fits = as_cdata(v).is_some_and(|cd| cd.get(&vm.heap).offset as u64 == PAYLOAD);
        if !fits {
            return nyi("C data with a large alignment");
        }
        let k = self.trace.ir.kint64(Ty::I64, PAYLOAD);
        self.emit(IrOp::ADD, IrT::of(Ty::P64), t.r, k)
    }

    /// Guards that an address which came from a pointer is none that the interpreter refuses.
    pub(super) fn not_null(&mut self, address: Ref) -> R<()> {
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

    /// What `key` leads to in C data.
    pub(super) fn member(&mut self, vm: &Vm, t: TRef, v: Value, key: TRef, vk: Value) -> R<Member> {
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let Some(cd) = as_cdata(v) else { return nyi("value that is no C data") };
        if vk.as_obj::<Str>().is_some() && !key.r.is_const() {
            return nyi("computed member name");
        }
        let own = self.ctype_guard(vm, t, v)?;
        if own == CTypeId::CTYPEID
            && let Some(named) = type_object(vm, cd)
        {
            // Constants and methods of a type: the object must name this one.
            self.type_guard(vm, (t, v), named)?;
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
    pub(super) fn bits_unit(bits: BitRange) -> R<(Ty, i32)> {
        match u32::from(bits.pos) + u32::from(bits.width) {
            0..=8 => Ok((Ty::U8, 8)),
            9..=16 => Ok((Ty::U16, 16)),
            // Three bytes would be read as four.
            25..=32 => Ok((Ty::U32, 32)),
            _ => nyi("bit field of this size"),
        }
    }

    /// The value of a bit field.
    pub(super) fn load_bits(
        &mut self,
        types: &CTypeTable,
        ty: CTypeId,
        address: Ref,
        bits: BitRange,
    ) -> R<TRef> {
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
    pub(super) fn store_bits(
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

    /// The Lua value of a C object that is a number or a boolean, and no 64-bit integer.
    pub(super) fn load_scalar(&mut self, kind: Kind, address: Ref, now: usize) -> R<TRef> {
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
            _ => return nyi("load of this C type"),
        })
    }

    /// The Lua value of the C object of type `ty` at `address` (now `now`).
    pub(super) fn load_c(&mut self, vm: &Vm, ty: CTypeId, address: Ref, now: usize) -> R<TRef> {
        let ffi = ffi_of(vm)?;
        let kind = ffi.types.borrow().kind(ty);
        let load = |rec: &mut Rec, t: IrT| rec.emit_raw(Ins::raw(IrOp::XLOAD, t, address.bits(), 0));
        Ok(match kind {
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
            _ => self.load_scalar(kind, address, now)?,
        })
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
        let (width, r) = self.to_c(Conversion::new(vm, &types), ty, (val, vval))?;
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
                self.type_guard(vm, (t, v), ty)?;
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
}
