//! New C data on traces.

use super::cconv::Conversion;
use super::cdata::{PAYLOAD, ffi_of, nyi};
use super::slots::TRef;
use super::{R, Rec};
use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use moonlit_ffi::cdata::{as_cdata, type_object};
use moonlit_ffi::convert;
use moonlit_ffi::ctype::{CTypeId, Kind};
use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::value::Value;

/// Largest alignment that objects on traces have, as log2.
const ALIGN_LOG2_MAX: u8 = 4;

impl Rec {
    /// A new object with eight bytes of payload.
    pub(super) fn boxed_word(&mut self, ty: CTypeId, word: Ref) -> R<TRef> {
        let id = self.kint(ty.raw() as i32);
        self.emit_t(IrOp::CNEWI, Ty::Cdata, id.r, word)
    }

    /// A zero-filled object.
    pub(super) fn new_object(&mut self, ty: CTypeId, size: u32) -> R<TRef> {
        let id = self.kint(ty.raw() as i32);
        let size = self.trace.ir.kint64(Ty::I64, u64::from(size));
        self.emit_t(IrOp::CNEW, Ty::Cdata, id.r, size)
    }

    /// Address of the payload of an object made on this trace.
    pub(super) fn data_of(&mut self, o: TRef) -> R<Ref> {
        let k = self.trace.ir.kint64(Ty::I64, PAYLOAD);
        self.emit(IrOp::ADD, IrT::of(Ty::P64), o.r, k)
    }

    /// A new object of type `ty`, as `ffi.new` and a call of the type make it.
    pub(super) fn construct(&mut self, vm: &Vm, ty: CTypeId, args: &[(TRef, Value)]) -> R<TRef> {
        let kind = ffi_of(vm)?.types.borrow().kind(ty);
        let gc = match kind {
            Kind::Record(_) => self.metatype_field(vm, ty, Mm::Gc)?,
            _ => None,
        };
        let o = self.construct_plain(vm, ty, args)?;
        if let Some((_, f)) = gc {
            let f = self.konst(f)?;
            self.set_finalizer(vm, o, f)?;
        }
        Ok(o)
    }

    fn construct_plain(&mut self, vm: &Vm, ty: CTypeId, args: &[(TRef, Value)]) -> R<TRef> {
        /// Largest object that is initialised on a trace, bytes.
        const INIT_BYTES_MAX: u32 = 128;
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let layout = types.layout(ty);
        if layout.align_log2 > ALIGN_LOG2_MAX {
            return nyi("C data with a large alignment");
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
                    [(t, v), ..] if t.ty != Ty::Str => {
                        self.to_c(Conversion::new(vm, &types), ty, (*t, *v))?.1
                    }
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
            let (t, r) = rec.to_c(Conversion::new(vm, &types), ty, *a)?;
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
                self.type_guard(vm, *a, id)?;
                Ok(id)
            }
            None => self.ctype_guard(vm, a.0, a.1),
        }
    }

    /// Guards that a type object names type `id`.
    pub(super) fn type_guard(&mut self, vm: &Vm, (t, v): (TRef, Value), id: CTypeId) -> R<()> {
        if t.r.is_const() {
            return Ok(());
        }
        self.ctype_guard(vm, t, v)?;
        let p = self.payload_address(vm, t, v)?;
        let named = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::Int), p.bits(), 0))?;
        let k = self.kint(id.raw() as i32);
        self.guard(IrOp::EQ, named, k.r)
    }
}
