//! C data: objects and calls of C functions.

use super::helpers::Helper;
use super::{Lower, machine_type};
use crate::abort::Abort;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::trace::{CFrame, Target};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::isa::CallConv;
use moonlit_vm::layout;
use moonlit_vm::state::hooks::EXIT_CALLED_BACK;

impl Lower<'_, '_> {
    pub(super) fn lower_cdata(&mut self, r: Ref, i: &Ins) -> Result<(), Abort> {
        let v = match i.op {
            IrOp::CNEWI => {
                let (id, word) = (self.get(i.ra()), self.get(i.rb()));
                self.call_helper(Helper::CdataNew8, &[id, word])
            }
            IrOp::CNEW => {
                let (id, size) = (self.get(i.ra()), self.get(i.rb()));
                let v = self.call_helper(Helper::CdataNew, &[id, size]);
                if let Some(v) = v.filter(|_| i.is_guard()) {
                    self.guard_not_null(v);
                }
                v
            }
            _ => self.c_call(i)?,
        };
        if let Some(v) = v {
            self.set(r, v);
        }
        Ok(())
    }

    /// A call of a C function, with `errno` as the program sees it around it.
    fn c_call(&mut self, i: &Ins) -> Result<Option<Value>, Abort> {
        let t = self.t;
        let c = t.ccalls.get(i.b as usize).ok_or(Abort::CodeGeneration)?;
        let mut args: Vec<Value> = self.arguments(i.ra()).into_iter().map(|r| self.get(r)).collect();
        let mut sig = Signature::new(CallConv::SystemV);
        sig.params.extend(c.args.iter().map(|t| AbiParam::new(machine_type(*t))));
        sig.returns.extend(c.ret.map(|t| AbiParam::new(machine_type(t))));
        let before = c.frame.map(|f| self.write_back(&f));
        let target = match c.target {
            Target::Function(address) => address,
            Target::Ffi { entry, ffi, object } => {
                let Some((f, b)) = c.frame.zip(before) else { return Err(Abort::CodeGeneration) };
                let (ffi, object, count) = (self.k64(ffi), self.k64(object), self.k64(u64::from(f.count)));
                args = vec![ffi, self.vm, object, b.first, count];
                sig.params.extend((0..5).map(|_| AbiParam::new(types::I64)));
                entry
            }
        };
        if args.len() != sig.params.len() {
            return Err(Abort::CodeGeneration);
        }
        let sig = self.b.import_signature(sig);
        let f = MemFlagsData::trusted();
        let general = matches!(c.target, Target::Ffi { .. });
        if !general {
            let (saved, errno) = (self.k64(c.errno_saved), self.k64(c.errno));
            let v = self.b.ins().load(types::I32, f, saved, 0);
            self.b.ins().store(f, v, errno, 0);
        }
        let target = self.k64(target);
        let call = self.b.ins().call_indirect(sig, target, &args);
        let result = self.b.inst_results(call).first().copied();
        if !general {
            let (saved, errno) = (self.k64(c.errno_saved), self.k64(c.errno));
            let v = self.b.ins().load(types::I32, f, errno, 0);
            self.b.ins().store(f, v, saved, 0);
        }
        let result = result.map(|v| self.c_result(c.ret, v));
        if let (Some(frame), Some(before)) = (c.frame, before) {
            self.after_write_back(&frame, &before, (!general).then_some((c.ret, result)));
        }
        Ok(result)
    }

    /// The result of a C function as a value of its type.
    fn c_result(&mut self, ret: Option<Ty>, v: Value) -> Value {
        match ret {
            // The upper bits of the register are not part of the result.
            Some(t @ (Ty::I8 | Ty::U8 | Ty::I16 | Ty::U16)) => {
                let narrow = if matches!(t, Ty::I8 | Ty::U8) { types::I8 } else { types::I16 };
                let n = self.b.ins().ireduce(narrow, v);
                if matches!(t, Ty::I8 | Ty::I16) {
                    self.b.ins().sextend(types::I32, n)
                } else {
                    self.b.ins().uextend(types::I32, n)
                }
            }
            // A NaN with other bits than the canonical ones must not get into a slot.
            Some(Ty::Num) => {
                let is_nan = self.b.ins().fcmp(FloatCC::Unordered, v, v);
                let nan = self.b.ins().f64const(f64::NAN);
                self.b.ins().select(is_nan, nan, v)
            }
            Some(Ty::Float) => {
                let is_nan = self.b.ins().fcmp(FloatCC::Unordered, v, v);
                let nan = self.b.ins().f32const(f32::NAN);
                self.b.ins().select(is_nan, nan, v)
            }
            _ => v,
        }
    }

    fn slots_up(&mut self, from: Value, slots: i64) -> Value {
        let d = self.k64((slots * 8) as u64);
        self.b.ins().iadd(from, d)
    }

    /// Writes the frames of the current snapshot to the stack, so that a callback finds what the interpreter would leave it.
    fn write_back(&mut self, c: &CFrame) -> WrittenBack {
        let snap = self.t.snaps[self.snap.index()];
        self.store_slots();
        let f = MemFlagsData::trusted();
        let base = if snap.base == 0 { self.base } else { self.moved_base(i32::from(snap.base)) };
        let first = self.slots_up(base, i64::from(c.first));
        let top = self.slots_up(base, i64::from(c.first + c.count));
        let th = self.b.ins().load(types::I64, f, self.vm, layout::VM_CUR);
        self.b.ins().store(f, top, th, layout::THREAD_TOP);
        let pc = self.k64(snap.pc + 4);
        self.b.ins().store(f, pc, self.vm, layout::VM_PC);
        let at = self.k64(c.calling_vm);
        let outer = self.b.ins().load(types::I64, f, at, 0);
        self.b.ins().store(f, self.vm, at, 0);
        let at = self.k64(c.callbacks_run);
        let callbacks = self.b.ins().load(types::I64, f, at, 0);
        WrittenBack { first, outer, callbacks, moved: snap.base != 0 }
    }

    /// Goes on after a C call if no callback ran; else leaves with the result for the interpreter.
    fn after_write_back(
        &mut self,
        c: &CFrame,
        before: &WrittenBack,
        result: Option<(Option<Ty>, Option<Value>)>,
    ) {
        let f = MemFlagsData::trusted();
        let at = self.k64(c.calling_vm);
        self.b.ins().store(f, before.outer, at, 0);
        let at = self.k64(c.callbacks_run);
        let now = self.b.ins().load(types::I64, f, at, 0);
        let ran = self.b.ins().icmp(IntCC::NotEqual, now, before.callbacks);
        let (leave, go_on) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(leave);
        self.b.ins().brif(ran, leave, &[], go_on, &[]);
        self.b.switch_to_block(leave);
        if let Some((ty, v)) = result {
            // The stack may lie elsewhere now.
            let th = self.b.ins().load(types::I64, f, self.vm, layout::VM_CUR);
            let top = self.b.ins().load(types::I64, f, th, layout::THREAD_TOP);
            let first = self.slots_up(top, -i64::from(c.count));
            let made = self.k64(c.made);
            self.b.ins().store(f, first, made, 0);
            if let (Some(ty), Some(v)) = (ty, v) {
                let word = match machine_type(ty) {
                    types::F64 => self.b.ins().bitcast(types::I64, MemFlagsData::new(), v),
                    types::F32 => {
                        let n = self.b.ins().bitcast(types::I32, MemFlagsData::new(), v);
                        self.b.ins().uextend(types::I64, n)
                    }
                    types::I32 if ty == Ty::U32 => self.b.ins().uextend(types::I64, v),
                    types::I32 => self.b.ins().sextend(types::I64, v),
                    _ => v,
                };
                self.b.ins().store(f, word, made, 8);
            }
        }
        let code = self.k64((self.env.trace_no as u64) << 32 | u64::from(EXIT_CALLED_BACK));
        self.b.ins().return_(&[code]);
        self.b.switch_to_block(go_on);
        if before.moved {
            let th = self.b.ins().load(types::I64, f, self.vm, layout::VM_CUR);
            self.b.ins().store(f, self.base, th, layout::THREAD_BASE);
        }
    }
}

/// What is to be put back after a C call with the frames written back.
#[derive(Clone, Copy)]
struct WrittenBack {
    /// Address of the first argument on the stack.
    first: Value,
    /// The VM of the C call that this one is inside of, if any.
    outer: Value,
    /// Callbacks that had run.
    callbacks: Value,
    /// The thread's base is that of an inner frame.
    moved: bool,
}
