//! Helper calls and allocations.

use super::helpers::{Arg, Helper};
use super::{Lower, machine_type};
use crate::abort::Abort;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, Type, Value, types};
use cranelift_codegen::isa::CallConv;

fn arg_type(a: Arg) -> Type {
    match a {
        Arg::Num => types::F64,
        Arg::Int => types::I32,
        Arg::Ptr | Arg::Heap | Arg::Scratch => types::I64,
    }
}

impl Lower<'_, '_> {
    /// Calls a helper with the arguments that the IR knows; the heap is added where the signature says so.
    pub(super) fn call_helper(&mut self, h: Helper, args: &[Value]) -> Option<Value> {
        let sig = match self.sigs.get(&(h as u16)) {
            Some(s) => *s,
            None => {
                let mut s = Signature::new(CallConv::SystemV);
                s.params.extend(h.args().iter().map(|a| AbiParam::new(arg_type(*a))));
                s.returns.extend(h.ret().map(|a| AbiParam::new(arg_type(a))));
                let s = self.b.import_signature(s);
                self.sigs.insert(h as u16, s);
                s
            }
        };
        let f = self.k64(h.address() as u64);
        let mut rest = args.iter().copied();
        let mut list = Vec::with_capacity(h.args().len());
        for a in h.args() {
            if *a == Arg::Heap {
                list.push(self.k64(self.env.heap));
            } else if *a == Arg::Scratch {
                list.push(self.k64(self.env.exit_buffer + crate::code::exit::ExitBuffer::SCRATCH as u64 * 8));
            } else if let Some(v) = rest.next() {
                list.push(v);
            }
        }
        let call = self.b.ins().call_indirect(sig, f, &list);
        self.b.inst_results(call).first().copied()
    }

    /// Leaves the trace when a helper has answered null.
    pub(super) fn guard_not_null(&mut self, v: Value) {
        let zero = self.k64(0);
        self.guard_icmp(IntCC::Equal, v, zero);
    }

    /// The argument list of a call, first argument first.
    pub(super) fn arguments(&self, last: Ref) -> Vec<Ref> {
        let mut out = Vec::new();
        let mut r = last;
        while r.is_ins() && self.t.ir.ins(r).op == IrOp::CARG {
            out.push(self.t.ir.ins(r).rb());
            r = self.t.ir.ins(r).ra();
        }
        if !r.is_none() {
            out.push(r);
        }
        out.reverse();
        out
    }

    pub(super) fn lower_call(&mut self, r: Ref, i: &Ins) -> Result<(), Abort> {
        let v = match i.op {
            IrOp::TNEW => {
                let (a, h) = (self.k32(i.a as u32), self.k32(i.b as u32));
                self.call_helper(Helper::TabNew, &[a, h])
            }
            IrOp::TDUP => {
                let t = self.get(i.ra());
                self.call_helper(Helper::TabDup, &[t])
            }
            IrOp::SNEW => {
                let (p, n) = (self.get(i.ra()), self.get(i.rb()));
                self.call_helper(Helper::StrNew, &[p, n])
            }
            IrOp::TOSTR => {
                let mut n = self.get(i.ra());
                if machine_type(self.t.ir.ty(i.ra())) == types::I32 {
                    n = self.b.ins().fcvt_from_sint(types::F64, n);
                }
                self.call_helper(Helper::NumToStr, &[n])
            }
            IrOp::NATIVE => {
                self.store_slots();
                let up = self.k64(u64::from(i.a) * 8);
                let args = self.b.ins().iadd(self.base, up);
                let counts = self.k32(u32::from(i.b));
                let n = self
                    .call_helper(Helper::CallNative, &[self.vm, args, counts])
                    .ok_or(Abort::CodeGeneration)?;
                let zero = self.k32(0);
                self.guard_icmp(IntCC::SignedLessThan, n, zero);
                Some(n)
            }
            IrOp::CALLA if i.b == Helper::StrJoin as u16 => Some(self.join(i)?),
            IrOp::CALLN | IrOp::CALLA | IrOp::CALLL | IrOp::CALLS => {
                let h = *Helper::ALL.get(i.b as usize).ok_or(Abort::CodeGeneration)?;
                let args: Vec<Value> = self
                    .arguments(i.ra())
                    .into_iter()
                    .zip(h.args().iter().filter(|a| !matches!(**a, Arg::Heap | Arg::Scratch)))
                    .map(|(a, want)| {
                        // A boxed word is asked for where the value is not a pointer already.
                        if *want == Arg::Ptr
                            && !self.t.ir.ty(a).is_gc()
                            && self.t.ir.ty(a) != crate::ir::ty::Ty::P64
                        {
                            self.boxed(a)
                        } else {
                            self.get(a)
                        }
                    })
                    .collect();
                let v = self.call_helper(h, &args);
                if i.is_guard() && h.ret() == Some(Arg::Ptr) {
                    if let Some(v) = v {
                        self.guard_not_null(v);
                    }
                }
                v
            }
            _ => return Err(Abort::CodeGeneration),
        };
        if let Some(v) = v {
            self.set(r, v);
        }
        Ok(())
    }

    /// Concatenation of any number of strings and numbers. They go through the exit buffer, which is free until the next exit.
    fn join(&mut self, i: &Ins) -> Result<Value, Abort> {
        let parts = self.arguments(i.ra());
        let buf = self.k64(self.env.exit_buffer);
        for (n, p) in parts.iter().enumerate() {
            self.store_boxed(*p, buf, n as i32 * 8);
        }
        let n = self.k32(parts.len() as u32);
        let s = self.call_helper(Helper::StrJoin, &[self.vm, buf, n]).ok_or(Abort::CodeGeneration)?;
        self.guard_not_null(s);
        Ok(s)
    }

    /// `HREF` and `NEWREF`.
    pub(super) fn lower_find(&mut self, r: Ref, i: &Ins) -> Result<(), Abort> {
        let t = self.get(i.ra());
        let key = self.boxed(i.rb());
        let h = if i.op == IrOp::HREF { Helper::TabFind } else { Helper::TabNewKey };
        let v = self.call_helper(h, &[t, key]).ok_or(Abort::CodeGeneration)?;
        if i.op == IrOp::NEWREF {
            self.guard_not_null(v);
        }
        self.set(r, v);
        Ok(())
    }
}
