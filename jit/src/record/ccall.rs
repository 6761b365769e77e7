//! Calls of C data on traces: C functions, types; and the functions of the ffi library.

use super::cdata::{ffi_of, nyi};
use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::ins::{Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use crate::trace::CCall;
use moonlit_ffi::cdata::{access, as_cdata, raw_place, type_object};
use moonlit_ffi::convert::Flags;
use moonlit_ffi::ctype::{CTypeId, CTypeTable, Kind};
use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::value::Value;

/// Most arguments of a C function: what registers hold.
const INT_ARGS_MAX: usize = 6;
const FLOAT_ARGS_MAX: usize = 8;

/// The type of a scalar as it is passed and returned; `None` for what is not.
fn passed_as(types: &CTypeTable, ty: CTypeId) -> Option<Ty> {
    Some(match types.kind(ty) {
        Kind::Int { bytes, unsigned } => match (bytes, unsigned) {
            (1, false) => Ty::I8,
            (1, true) => Ty::U8,
            (2, false) => Ty::I16,
            (2, true) => Ty::U16,
            (4, false) => Ty::Int,
            (4, true) => Ty::U32,
            (8, _) => Ty::I64,
            _ => return None,
        },
        Kind::Float { bytes: 4 } => Ty::Float,
        Kind::Float { bytes: 8 } => Ty::Num,
        Kind::Ptr { bytes: 8, .. } => Ty::P64,
        _ => return None,
    })
}

impl Rec {
    /// A call of C data with `args`: its results.
    pub(super) fn rec_call_cdata(
        &mut self,
        vm: &Vm,
        f: (TRef, Value),
        args: &[(TRef, Value)],
    ) -> R<Vec<TRef>> {
        let Some(cd) = as_cdata(f.1) else { return Err(Abort::BadCall) };
        let k = self.konst(f.1)?;
        self.guard(IrOp::EQ, f.0.r, k.r)?;
        if let Some(ty) = type_object(vm, cd) {
            if self.metatype_field(vm, ty, Mm::New)?.is_some() {
                return nyi("constructor of a metatype");
            }
            return Ok(vec![self.construct(vm, ty, args)?]);
        }
        self.c_call(vm, (raw_place(vm, cd).ty, access::load_pointer(raw_place(vm, cd).addr, 8)), args)
    }

    fn c_call(&mut self, vm: &Vm, (own, address): (CTypeId, usize), args: &[(TRef, Value)]) -> R<Vec<TRef>> {
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let ty = match types.kind(own) {
            Kind::Func(_) => own,
            Kind::Ptr { to, bytes: 8 } if matches!(types.kind(to), Kind::Func(_)) => to,
            _ => return nyi("call of C data that is no function"),
        };
        let Some(func) = types.signature(ty).cloned() else {
            return nyi("call of C data that is no function");
        };
        if func.variadic || func.params.len() != args.len() || address == 0 {
            return nyi("call of this C function");
        }
        // A callback would need the frames that are only in registers; and the output of Lua comes first.
        if ffi.has_callbacks.get() != 0 || ffi.shares_stdout.get() {
            return nyi("C call where callbacks or output may happen");
        }
        let ret = match types.kind(func.ret) {
            Kind::Void => None,
            _ => match passed_as(&types, func.ret) {
                Some(t) => Some(t),
                None => return nyi("result of this C type"),
            },
        };
        let (mut ints, mut floats) = (0, 0);
        let mut values = Vec::new();
        let mut passed = Vec::new();
        if matches!(ret, Some(Ty::I64 | Ty::P64)) {
            self.gc_check();
        }
        for (p, (t, v)) in func.params.iter().zip(args) {
            let Some(as_) = passed_as(&types, *p) else { return nyi("argument of this C type") };
            let (_, mut r) = self.to_c(vm, &types, *p, *t, *v, Flags::default())?;
            let as_ = match as_ {
                Ty::Num | Ty::Float => {
                    floats += 1;
                    as_
                }
                Ty::I64 | Ty::P64 => {
                    ints += 1;
                    as_
                }
                narrow => {
                    ints += 1;
                    r = self.extended(narrow, r)?;
                    Ty::Int
                }
            };
            values.push(r);
            passed.push(as_);
        }
        if ints > INT_ARGS_MAX || floats > FLOAT_ARGS_MAX {
            return nyi("C function with many arguments");
        }
        // No callback can be made while this trace runs: once at its entry is enough.
        let word = self.trace.ir.kptr(ffi.has_callbacks.as_ptr() as u64);
        let made = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::Int), word.bits(), 1))?;
        let zero = self.kint(0);
        self.guard(IrOp::EQ, made, zero.r)?;
        let n = self.trace.ccalls.len();
        self.trace.ccalls.push(CCall {
            address: address as u64,
            args: passed,
            ret,
            errno_saved: ffi.errno.as_ptr() as u64,
            errno: moonlit_ffi::call::errno_address() as u64,
        });
        let mut list = Ref::NONE;
        for (i, r) in values.iter().enumerate() {
            list = if i == 0 { *r } else { self.emit(IrOp::CARG, IrT::of(Ty::Nil), list, *r)? };
        }
        let of = match ret {
            None => Ty::Nil,
            Some(t) => t,
        };
        let r = self.emit_raw(Ins::raw(IrOp::CALLXS, IrT::of(of), list.bits(), n as u16))?;
        self.needsnap = true;
        let ret_ty = func.ret;
        drop(types);
        Ok(match ret {
            None => vec![],
            Some(Ty::Num) => vec![TRef::new(r, Ty::Num)],
            Some(t @ (Ty::U32 | Ty::Float)) => {
                let i = Ins::raw(IrOp::CONV, IrT::of(Ty::Num), r.bits(), conv::from(t));
                vec![TRef::new(self.emit_raw(i)?, Ty::Num)]
            }
            Some(Ty::I64 | Ty::P64) => vec![self.boxed_word(ret_ty, r)?],
            Some(_) => vec![TRef::new(r, Ty::Int)],
        })
    }

    /// The low bits of an argument of a narrow type, extended as the caller has to.
    fn extended(&mut self, ty: Ty, r: Ref) -> R<Ref> {
        let t = IrT::of(Ty::Int);
        match ty {
            Ty::U8 | Ty::U16 => {
                let mask = self.kint(if ty == Ty::U8 { 0xff } else { 0xffff });
                self.emit(IrOp::BAND, t, r, mask.r)
            }
            Ty::I8 | Ty::I16 => {
                let n = self.kint(if ty == Ty::I8 { 24 } else { 16 });
                let up = self.emit(IrOp::BSHL, t, r, n.r)?;
                self.emit(IrOp::BSAR, t, up, n.r)
            }
            _ => Ok(r),
        }
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
                let flags = Flags { cast: true, ..Flags::default() };
                let (_, r) = self.to_c(vm, &types, ty, value.0, value.1, flags)?;
                Ok(vec![self.boxed_word(ty, r)?])
            }
            ("ffi.sizeof", [_]) => {
                let ty = self.type_arg(vm, first)?;
                let types = ffi.types.borrow();
                let ty = types.deref(ty);
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
            ("ffi.typeof", [(t, v)]) if as_cdata(*v).is_some_and(|cd| type_object(vm, cd).is_some()) => {
                // A new object each time, of which only what it names counts.
                let _ = t;
                nyi("new type object")
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
                let p = self.pointer_to(vm, &types, to, *t, *v, Flags::default())?;
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
                let dst = self.pointer_to(vm, &types, CTypeId::P_VOID, to.0, to.1, Flags::default())?;
                let src = self.pointer_to(vm, &types, CTypeId::P_CVOID, from.0, from.1, Flags::default())?;
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
                let dst = self.pointer_to(vm, &types, CTypeId::P_VOID, to.0, to.1, Flags::default())?;
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
