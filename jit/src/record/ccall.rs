//! Calls of C data on traces: C functions and types.

use std::rc::Rc;

use super::cconv::Conversion;
use super::cdata::{ffi_of, nyi};
use super::slots::TRef;
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::ins::{Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::trace::snapshot::box_bits;
use crate::trace::{CCall, CFrame, Target};
use crate::view::At;
use moonlit_ffi::cdata::{access, as_cdata, raw_place, type_object};
use moonlit_ffi::ctype::{CTypeId, CTypeTable, FuncType, Kind};
use moonlit_ffi::from_trace;
use moonlit_ffi::ops::call;
use moonlit_ffi::state::Ffi;
use moonlit_vm::bytecode::ops::{Mm, Op};
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

/// A C function about to be called.
struct Callee {
    /// Its signature.
    func: Rc<FuncType>,
    address: usize,
    /// The called object.
    object: Value,
    /// Register of the call.
    a: u32,
}

/// The type of a scalar as it is passed and returned; `None` for what is not.
fn passed_as(types: &CTypeTable, ty: CTypeId) -> Option<Ty> {
    let ty = types.enumeration(ty).map_or(ty, |e| e.base);
    Some(match types.kind(ty) {
        Kind::Bool => Ty::U8,
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
    /// A call of C data by the instruction at `at`, in its register `a`, with `args`: its results.
    pub(super) fn rec_call_cdata(
        &mut self,
        vm: &Vm,
        (at, a): (At, u32),
        f: (TRef, Value),
        args: &[(TRef, Value)],
    ) -> R<Vec<TRef>> {
        let Some(cd) = as_cdata(f.1) else { return Err(Abort::BadCall) };
        if let Some(ty) = type_object(vm, cd) {
            if self.metatype_field(vm, ty, Mm::New)?.is_some() {
                return nyi("constructor of a metatype");
            }
            self.type_guard(vm, f, ty)?;
            return Ok(vec![self.construct(vm, ty, args)?]);
        }
        let k = self.konst(f.1)?;
        self.guard(IrOp::EQ, f.0.r, k.r)?;
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        let own = raw_place(vm, cd).ty;
        let ty = match types.kind(own) {
            Kind::Func(_) => own,
            Kind::Ptr { to, bytes: 8 } if matches!(types.kind(to), Kind::Func(_)) => to,
            _ => return nyi("call of C data that is no function"),
        };
        let Some(func) = types.signature(ty).cloned() else {
            return nyi("call of C data that is no function");
        };
        drop(types);
        let address = access::load_pointer(raw_place(vm, cd).addr, 8);
        let count = args.len() == func.params.len() || (func.variadic && args.len() > func.params.len());
        if !count || address == 0 || args.len() > from_trace::ARGS_MAX {
            return nyi("call of this C function");
        }
        // The arguments must be in the registers that the interpreter reads them from.
        for (i, (t, _)) in args.iter().enumerate() {
            self.set(a + 2 + i as u32, *t);
        }
        let callee = Callee { func, address, object: f.1, a };
        // The interpreter may need a frame for such a call.
        self.in_native = true;
        match self.direct_call(vm, at, &callee, args) {
            Err(Abort::NyiTypes(_)) => self.general_call(vm, at, &callee, args),
            other => other,
        }
    }

    /// Where a call with the frames written back finds what it needs.
    fn frame_of(ffi: &Ffi, c: &Callee, args: usize) -> CFrame {
        CFrame {
            first: c.a + 2,
            count: args as u32,
            calling_vm: ffi.calling_vm.as_ptr() as u64,
            callbacks_run: ffi.callbacks_run.as_ptr() as u64,
            made: ffi.made.at.as_ptr() as u64,
        }
    }

    /// A call with the arguments in registers.
    fn direct_call(&mut self, vm: &Vm, at: At, c: &Callee, args: &[(TRef, Value)]) -> R<Vec<TRef>> {
        let ffi = ffi_of(vm)?;
        let types = ffi.types.borrow();
        // The output of Lua comes first.
        if ffi.shares_stdout.get() {
            return nyi("C call where output may happen");
        }
        let ret = match types.kind(c.func.ret) {
            Kind::Void => None,
            _ => match passed_as(&types, c.func.ret) {
                Some(t) => Some(t),
                None => return nyi("result of this C type"),
            },
        };
        drop(types);
        let mut params = Vec::with_capacity(args.len());
        for (i, (_, v)) in args.iter().enumerate() {
            params.push(match c.func.params.get(i) {
                Some(p) => *p,
                None => call::vararg_type(vm, &ffi, *v),
            });
        }
        let types = ffi.types.borrow();
        let mut passed = Vec::with_capacity(args.len());
        for p in &params {
            let Some(t) = passed_as(&types, *p) else { return nyi("argument of this C type") };
            // Such a call would have to announce the registers in use.
            if c.func.variadic && t.is_fp() {
                return nyi("number as an extra argument");
            }
            passed.push(t);
        }
        if matches!(ret, Some(Ty::I64 | Ty::P64)) || types.enumeration(c.func.ret).is_some() {
            self.gc_check();
        }
        let mut values = Vec::with_capacity(args.len());
        for (i, p) in params.iter().enumerate() {
            let (_, r) = self.to_c(Conversion::new(vm, &types), *p, args[i])?;
            values.push(match passed[i] {
                Ty::Num | Ty::Float | Ty::I64 | Ty::P64 => r,
                narrow => {
                    passed[i] = Ty::Int;
                    self.extended(narrow, r)?
                }
            });
        }
        drop(types);
        let frame = if ffi.has_callbacks.get() != 0 {
            Some(Rec::frame_of(&ffi, c, args.len()))
        } else {
            // No callback can be made while this trace runs: once at its entry is enough.
            let word = self.trace.ir.kptr(ffi.has_callbacks.as_ptr() as u64);
            let made = self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::Int), word.bits(), 1))?;
            let zero = self.kint(0);
            self.guard(IrOp::EQ, made, zero.r)?;
            None
        };
        let mut list = Ref::NONE;
        for (i, r) in values.iter().enumerate() {
            list = if i == 0 { *r } else { self.emit(IrOp::CARG, IrT::of(Ty::Nil), list, *r)? };
        }
        let target = Target::Function(c.address as u64);
        let r =
            self.emit_call(vm, at, CCall { target, args: passed, ret, frame, ..Rec::errno_of(&ffi) }, list)?;
        self.call_result(vm, c.func.ret, ret, r)
    }

    /// A call that the ffi makes with the arguments on the stack.
    fn general_call(&mut self, vm: &Vm, at: At, c: &Callee, args: &[(TRef, Value)]) -> R<Vec<TRef>> {
        let ffi = ffi_of(vm)?;
        let ret = {
            let types = ffi.types.borrow();
            match types.kind(c.func.ret) {
                Kind::Void => None,
                Kind::Record(_) | Kind::Complex { .. } => Some(Ty::Cdata),
                // A call answers with a number what fits into one.
                Kind::Float { bytes: 4 } => Some(Ty::Num),
                _ => match passed_as(&types, c.func.ret) {
                    Some(t) => Some(t),
                    None => return nyi("result of this C type"),
                },
            }
        };
        self.gc_check();
        self.keep.push(c.object);
        let entry = if ret == Some(Ty::Num) {
            from_trace::call_double as *const () as u64
        } else {
            from_trace::call_word as *const () as u64
        };
        let target = Target::Ffi { entry, ffi: &raw const *ffi as u64, object: c.object.0 };
        let frame = Some(Rec::frame_of(&ffi, c, args.len()));
        let call = CCall { target, args: Vec::new(), ret, frame, ..Rec::errno_of(&ffi) };
        let r = self.emit_call(vm, at, call, Ref::NONE)?;
        self.call_result(vm, c.func.ret, ret, r)
    }

    /// A call of nothing, with the places of `errno`.
    pub(super) fn errno_of(ffi: &Ffi) -> CCall {
        CCall {
            target: Target::Function(0),
            args: Vec::new(),
            ret: None,
            errno_saved: ffi.errno.as_ptr() as u64,
            errno: moonlit_ffi::call::errno_address() as u64,
            frame: None,
        }
    }

    fn emit_call(&mut self, vm: &Vm, at: At, call: CCall, list: Ref) -> R<Ref> {
        let of = call.ret.unwrap_or(Ty::Nil);
        let t = if call.frame.is_some() {
            if !matches!(at.ins(0).op(), Op::CALL | Op::CALLT) {
                return nyi("C call with a variable number of arguments where callbacks may happen");
            }
            // What a callback finds on the stack.
            self.snapshot(vm, at)?;
            IrT::guard(of)
        } else {
            IrT::of(of)
        };
        let n = self.trace.ccalls.len() as u16;
        self.trace.ccalls.push(call);
        let r = self.emit_raw(Ins::raw(IrOp::CALLXS, t, list.bits(), n))?;
        if t.is_guard() {
            self.written_back = r;
        }
        self.needsnap = true;
        Ok(r)
    }

    /// The Lua value of a C function's result.
    fn call_result(&mut self, vm: &Vm, ty: CTypeId, ret: Option<Ty>, r: Ref) -> R<Vec<TRef>> {
        let Some(t) = ret else { return Ok(vec![]) };
        let ffi = ffi_of(vm)?;
        let kind = ffi.types.borrow().kind(ty);
        Ok(vec![match (kind, t) {
            (Kind::Bool, _) => self.undecided(r)?,
            (Kind::Enum(_), _) => {
                let o = self.new_object(ty, 4)?;
                let p = self.data_of(o)?;
                self.emit(IrOp::XSTORE, IrT::of(Ty::Int), p, r)?;
                o
            }
            (_, Ty::U32 | Ty::Float) => {
                let i = Ins::raw(IrOp::CONV, IrT::of(Ty::Num), r.bits(), conv::from(t));
                TRef::new(self.emit_raw(i)?, Ty::Num)
            }
            (_, Ty::I64 | Ty::P64) => self.boxed_word(ty, r)?,
            (_, Ty::Num | Ty::Cdata) => TRef::new(r, t),
            _ => TRef::new(r, Ty::Int),
        }])
    }

    /// A boolean that a C function has given, of which only the next instruction knows what it is: snapshots hold the boxed
    /// value.
    fn undecided(&mut self, r: Ref) -> R<TRef> {
        let t = IrT::of(Ty::I64);
        let wide = self.conv(Ty::I64, Ty::U32, r)?;
        // One if it is not zero.
        let negative = self.emit(IrOp::NEG, t, wide, Ref::NONE)?;
        let k = self.kint(63);
        let bit = self.emit(IrOp::BSHR, t, negative, k.r)?;
        // The tags of `false` and `true` are neighbours.
        let k = self.kint(47);
        let bit = self.emit(IrOp::BSHL, t, bit, k.r)?;
        let no = self.trace.ir.kint64(Ty::I64, box_bits(Ty::False, 0));
        let word = self.emit(IrOp::SUB, t, no, bit)?;
        self.undecided = Some((word, r));
        Ok(TRef::new(word, Ty::I64))
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
}
