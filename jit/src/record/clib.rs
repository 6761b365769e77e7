//! The functions of the ffi library on traces.

use super::cconv::Conversion;
use super::cdata::{ffi_of, nyi};
use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use crate::trace::snapshot::box_bits;
use crate::trace::{CCall, Target};
use moonlit_ffi::cdata::{as_cdata, raw_place, type_object};
use moonlit_ffi::ctype::{CTypeId, Kind};
use moonlit_ffi::from_trace;
use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::cdata::Cdata;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::value::Value;

impl Rec {
    /// A call of a function of the ffi itself, which neither raises nor calls back.
    fn call_ffi(&mut self, vm: &Vm, entry: u64, args: &[(Ty, Ref)], ret: Option<Ty>) -> R<Ref> {
        let ffi = ffi_of(vm)?;
        let own = [&raw const *ffi as u64, &raw const *vm as u64].map(|a| (Ty::P64, self.trace.ir.kptr(a)));
        let all: Vec<(Ty, Ref)> = own.into_iter().chain(args.iter().copied()).collect();
        let mut list = Ref::NONE;
        for (i, (_, r)) in all.iter().enumerate() {
            list = if i == 0 { *r } else { self.emit(IrOp::CARG, IrT::of(Ty::Nil), list, *r)? };
        }
        let n = self.trace.ccalls.len() as u16;
        self.trace.ccalls.push(CCall {
            target: Target::Function(entry),
            args: all.iter().map(|a| a.0).collect(),
            ret,
            ..Rec::errno_of(&ffi)
        });
        let t = IrT::of(ret.unwrap_or(Ty::Nil));
        let r = self.emit_raw(Ins::raw(IrOp::CALLXS, t, list.bits(), n))?;
        self.needsnap = true;
        Ok(r)
    }

    /// Gives an object a finalizer, or takes it away (`nil`).
    pub(super) fn set_finalizer(&mut self, vm: &Vm, object: TRef, f: TRef) -> R<()> {
        let tag = self.trace.ir.kint64(Ty::I64, box_bits(f.ty, 0));
        let address = if f.ty == Ty::Nil { self.trace.ir.kint64(Ty::I64, 0) } else { f.r };
        let args = [(Ty::Cdata, object.r), (Ty::I64, tag), (Ty::I64, address)];
        self.call_ffi(vm, from_trace::set_finalizer as *const () as u64, &args, None)?;
        Ok(())
    }

    /// `tostring(cd)` without a metamethod.
    pub(super) fn cdata_to_string(&mut self, vm: &Vm, (t, v): (TRef, Value)) -> R<TRef> {
        let Some(ty) = self.operand_metatype(vm, t, v)? else { return nyi("text of this value") };
        if self.metatype_field(vm, ty, Mm::Tostring)?.is_some() {
            return nyi("text by a metamethod");
        }
        self.gc_check();
        let r =
            self.call_ffi(vm, from_trace::to_text as *const () as u64, &[(Ty::Cdata, t.r)], Some(Ty::Str))?;
        Ok(TRef::new(r, Ty::Str))
    }

    /// A function of the ffi library.
    pub(super) fn rec_ffi(&mut self, vm: &Vm, name: &str, args: &[(TRef, Value)]) -> R<Vec<TRef>> {
        let ffi = ffi_of(vm)?;
        if name == "ffi.errno" {
            let at = self.trace.ir.kptr(ffi.errno.as_ptr() as u64);
            let old = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::Int), at.bits(), 0))?;
            if let Some(n) = args.first() {
                let n = self.to_index(n.0)?;
                self.emit(IrOp::XSTORE, IrT::of(Ty::Int), at, n.r)?;
                self.needsnap = true;
            }
            return Ok(vec![TRef::new(old, Ty::Int)]);
        }
        let first = args.first().ok_or(Abort::NyiTypes("missing argument"))?;
        match (name, args) {
            ("ffi.new", [_, init @ ..]) => {
                let ty = self.type_arg(vm, first)?;
                Ok(vec![self.construct(vm, ty, init)?])
            }
            ("ffi.cast", [_, value]) => {
                let ty = self.type_arg(vm, first)?;
                let types = ffi.types.borrow();
                if as_cdata(value.1).is_some_and(|cd| raw_place(vm, cd).ty == ty) {
                    self.ctype_guard(vm, value.0, value.1)?;
                    return Ok(vec![value.0]);
                }
                let scalar =
                    matches!(types.kind(ty), Kind::Int { bytes: 8, .. } | Kind::Ptr { bytes: 8, .. });
                if !scalar || value.0.ty == Ty::Str {
                    return nyi("cast to this C type");
                }
                self.gc_check();
                let (_, r) = self.to_c(Conversion::cast(vm, &types), ty, *value)?;
                Ok(vec![self.boxed_word(ty, r)?])
            }
            ("ffi.sizeof", [_]) => {
                let ty = self.type_arg(vm, first)?;
                let types = ffi.types.borrow();
                let own = ty;
                let ty = types.deref(ty);
                if own == ty
                    && types.is_variable(ty)
                    && first.0.ty == Ty::Cdata
                    && type_object(vm, as_cdata(first.1).ok_or(Abort::BadCall)?).is_none()
                {
                    let k = self.trace.ir.kint64(Ty::I64, std::mem::offset_of!(Cdata, len) as u64);
                    let p = self.emit(IrOp::ADD, IrT::of(Ty::P64), first.0.r, k)?;
                    let n = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::Int), p.bits(), 0))?;
                    return Ok(vec![TRef::new(n, Ty::Int)]);
                }
                match types.size(ty).filter(|_| !types.is_variable(ty)) {
                    Some(n) => Ok(vec![self.knum(f64::from(n))]),
                    None => nyi("size of this C type"),
                }
            }
            ("ffi.alignof", [_]) => {
                let ty = self.type_arg(vm, first)?;
                let types = ffi.types.borrow();
                Ok(vec![self.knum(f64::from(1u32 << types.layout(types.deref(ty)).align_log2))])
            }
            ("ffi.typeof", [_]) => {
                // A new object each time, of which only what it names counts.
                let ty = self.type_arg(vm, first)?;
                self.gc_check();
                let o = self.new_object(CTypeId::CTYPEID, 4)?;
                let p = self.data_of(o)?;
                let id = self.kint(ty.raw() as i32);
                self.emit(IrOp::XSTORE, IrT::of(Ty::Int), p, id.r)?;
                Ok(vec![o])
            }
            ("ffi.gc", [_, f]) if f.0.ty.is_gc() || f.0.ty == Ty::Nil => {
                let Some(cd) = as_cdata(first.1) else { return nyi("finalizer of what is no C data") };
                let own = self.ctype_guard(vm, first.0, first.1)?;
                let fit = matches!(
                    ffi.types.borrow().kind(own),
                    Kind::Ptr { .. } | Kind::Ref { .. } | Kind::Record(_) | Kind::Array { .. }
                );
                if !fit || type_object(vm, cd).is_some() {
                    return nyi("finalizer of this C type");
                }
                self.set_finalizer(vm, first.0, f.0)?;
                Ok(vec![first.0])
            }
            ("ffi.istype", [_, (t, v)]) => {
                let want = self.type_arg(vm, first)?;
                if as_cdata(*v).is_none() {
                    return Ok(vec![TRef::bool(false)]);
                }
                let own = self.ctype_guard(vm, *t, *v)?;
                let types = ffi.types.borrow();
                let (a, b) = (types.deref(want), types.deref(own));
                match (types.kind(a), types.kind(b)) {
                    _ if a == b => Ok(vec![TRef::bool(true)]),
                    (Kind::Record(x), Kind::Ptr { to, .. }) => {
                        Ok(vec![TRef::bool(types.kind(to) == Kind::Record(x))])
                    }
                    (Kind::Ptr { .. } | Kind::Array { .. }, _) => nyi("ffi.istype of this C type"),
                    (x, y) => Ok(vec![TRef::bool(x == y)]),
                }
            }
            ("ffi.string", [(t, v), rest @ ..]) if t.ty == Ty::Cdata && rest.len() <= 1 => {
                let types = ffi.types.borrow();
                let counted = rest.first().filter(|r| r.0.ty != Ty::Nil);
                let to = if counted.is_some() { CTypeId::P_CVOID } else { CTypeId::P_CCHAR };
                self.gc_check();
                let p = self.pointer_to(Conversion::new(vm, &types), to, (*t, *v))?;
                let n = match counted {
                    Some(n) => self.size_arg(n)?,
                    None => {
                        let null = self.trace.ir.kptr(0);
                        self.guard(IrOp::NE, p, null)?;
                        // The memory may change between two such calls, so none is left out.
                        self.call(IrOp::CALLS, IrT::of(Ty::I64), Helper::StrLen, &[p])?
                    }
                };
                // Made anew each time, for the same reason.
                let r = self.call(IrOp::CALLS, IrT::guard(Ty::Str), Helper::StrOfMem, &[p, n])?;
                Ok(vec![TRef::new(r, Ty::Str)])
            }
            ("ffi.copy", [to, from, rest @ ..]) if rest.len() <= 1 => {
                let types = ffi.types.borrow();
                let dst = self.pointer_to(Conversion::new(vm, &types), CTypeId::P_VOID, *to)?;
                let src = self.pointer_to(Conversion::new(vm, &types), CTypeId::P_CVOID, *from)?;
                let n = match (rest.first(), from.1.as_obj::<Str>()) {
                    (Some(n), _) => self.size_arg(n)?,
                    (None, Some(_)) => {
                        let len = self.field(from.0.r, crate::ir::ins::Field::StrLen)?;
                        let one = self.kint(1);
                        let n = self.emit_t(IrOp::ADD, Ty::Int, len.r, one.r)?;
                        self.to_int64(n)?
                    }
                    _ => return nyi("copy without a length"),
                };
                self.call(IrOp::CALLS, IrT::of(Ty::Nil), Helper::MemCopy, &[dst, src, n])?;
                self.needsnap = true;
                Ok(vec![])
            }
            ("ffi.fill", [to, n, rest @ ..]) if rest.len() <= 1 => {
                let types = ffi.types.borrow();
                let dst = self.pointer_to(Conversion::new(vm, &types), CTypeId::P_VOID, *to)?;
                let n = self.size_arg(n)?;
                let byte = match rest.first() {
                    Some(b) => self.to_index(b.0)?.r,
                    None => self.kint(0).r,
                };
                self.call(IrOp::CALLS, IrT::of(Ty::Nil), Helper::MemFill, &[dst, n, byte])?;
                self.needsnap = true;
                Ok(vec![])
            }
            _ => nyi("this function of the ffi library"),
        }
    }
}
