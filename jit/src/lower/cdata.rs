//! C data: objects and calls of C functions.

use super::helpers::Helper;
use super::{Lower, machine_type};
use crate::abort::Abort;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Signature, Value, types};
use cranelift_codegen::isa::CallConv;

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
        let mut sig = Signature::new(CallConv::SystemV);
        sig.params.extend(c.args.iter().map(|t| AbiParam::new(machine_type(*t))));
        sig.returns.extend(c.ret.map(|t| AbiParam::new(machine_type(t))));
        let sig = self.b.import_signature(sig);
        let args: Vec<Value> = self.arguments(i.ra()).into_iter().map(|r| self.get(r)).collect();
        if args.len() != c.args.len() {
            return Err(Abort::CodeGeneration);
        }
        let f = MemFlagsData::trusted();
        let (saved, errno) = (self.k64(c.errno_saved), self.k64(c.errno));
        let v = self.b.ins().load(types::I32, f, saved, 0);
        self.b.ins().store(f, v, errno, 0);
        let target = self.k64(c.address);
        let call = self.b.ins().call_indirect(sig, target, &args);
        let result = self.b.inst_results(call).first().copied();
        let (saved, errno) = (self.k64(c.errno_saved), self.k64(c.errno));
        let v = self.b.ins().load(types::I32, f, errno, 0);
        self.b.ins().store(f, v, saved, 0);
        let Some(v) = result else { return Ok(None) };
        Ok(Some(match c.ret {
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
        }))
    }
}
