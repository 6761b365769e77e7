//! Conversions.

use super::Lower;
use crate::abort::Abort;
use crate::ir::ins::{Ins, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// 2^52 + 2^51: adding it leaves a number's integer part in the low bits.
const MAGIC: f64 = 6755399441055744.0;

/// What minus zero is as an integer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MinusZero {
    /// Zero.
    Zero,
    /// None: as text it is another number. With the number's bits.
    NoInteger(Value),
}

impl Lower<'_, '_> {
    /// The low 32 bits of a number, modulo 2^32.
    fn tobit(&mut self, x: Value) -> Value {
        let m = self.b.ins().f64const(MAGIC);
        let s = self.b.ins().fadd(x, m);
        let bits = self.b.ins().bitcast(types::I64, MemFlagsData::new(), s);
        self.b.ins().ireduce(types::I32, bits)
    }

    /// The low 32 bits of a whole number of small magnitude; leaves the trace if it is another one. `high` is its upper
    /// half, if that is in a register already.
    fn tobit_checked(&mut self, x: Value, high: Option<Value>) -> Value {
        // The upper half tells the magnitude; twice of it does without the sign. No NaN passes.
        let high = match high {
            Some(h) => h,
            None => {
                let bits = self.b.ins().bitcast(types::I64, MemFlagsData::new(), x);
                let k = self.k64(32);
                let high = self.b.ins().ushr(bits, k);
                self.b.ins().ireduce(types::I32, high)
            }
        };
        let twice = self.b.ins().iadd(high, high);
        let end = self.k32(((conv::WHOLE_MAX as f64).to_bits() >> 31) as u32);
        self.guard_icmp(IntCC::UnsignedGreaterThanOrEqual, twice, end);
        let m = self.b.ins().f64const(MAGIC);
        let s = self.b.ins().fadd(x, m);
        let back = self.b.ins().fsub(s, m);
        let f = self.b.ins().fcmp(FloatCC::OrderedNotEqual, back, x);
        self.guard(f);
        let bits = self.b.ins().bitcast(types::I64, MemFlagsData::new(), s);
        self.b.ins().ireduce(types::I32, bits)
    }

    /// The integer that a number is; leaves the trace if it is none. `zero` says what minus zero is.
    pub(super) fn num_to_int(&mut self, x: Value, zero: MinusZero) -> Value {
        let n = self.tobit(x);
        let back = self.b.ins().fcvt_from_sint(types::F64, n);
        match zero {
            MinusZero::Zero => {
                let f = self.b.ins().fcmp(FloatCC::NotEqual, back, x);
                self.guard(f);
            }
            MinusZero::NoInteger(bits) => {
                let back = self.b.ins().bitcast(types::I64, MemFlagsData::new(), back);
                self.guard_icmp(IntCC::NotEqual, back, bits);
            }
        }
        n
    }

    pub(super) fn lower_conv(&mut self, r: Ref, i: &Ins) -> Result<(), Abort> {
        let x = self.get(i.ra());
        if i.op == IrOp::TOBIT && i.is_guard() {
            let v = self.tobit_checked(x, self.high[i.ra().ins_index()]);
            self.set(r, v);
            return Ok(());
        }
        if i.op == IrOp::TOBIT {
            let v = self.tobit(x);
            self.set(r, v);
            return Ok(());
        }
        let v = match (i.ty(), conv::src(i.b)) {
            (Ty::Num, Ty::U32) => {
                let w = self.b.ins().uextend(types::I64, x);
                self.b.ins().fcvt_from_sint(types::F64, w)
            }
            (Ty::Num, s) if s.is_int32() => self.b.ins().fcvt_from_sint(types::F64, x),
            (Ty::Num, Ty::I64) => self.b.ins().fcvt_from_sint(types::F64, x),
            (Ty::Num, Ty::U64) => self.b.ins().fcvt_from_uint(types::F64, x),
            (Ty::Num, Ty::Float) => self.b.ins().fpromote(types::F64, x),
            (Ty::Float, Ty::Num) => self.b.ins().fdemote(types::F32, x),
            (Ty::Int, Ty::Num) if i.is_guard() => self.num_to_int(x, MinusZero::Zero),
            (Ty::Int, Ty::Num) => self.b.ins().fcvt_to_sint_sat(types::I32, x),
            (Ty::I64, Ty::Num) if i.is_guard() => {
                // Outside of the range the interpreter's answer is not what saturation gives.
                let magnitude = self.b.ins().fabs(x);
                let limit = self.b.ins().f64const(9223372036854775808.0);
                let f = self.b.ins().fcmp(FloatCC::UnorderedOrGreaterThanOrEqual, magnitude, limit);
                self.guard(f);
                self.b.ins().fcvt_to_sint_sat(types::I64, x)
            }
            (Ty::I64, Ty::Num) => {
                // The low 32 bits are the interpreter's for every number: what is too large becomes the smallest integer.
                let n = self.b.ins().fcvt_to_sint_sat(types::I64, x);
                let max = self.k64(i64::MAX as u64);
                let over = self.b.ins().icmp(IntCC::Equal, n, max);
                let over = self.b.ins().uextend(types::I64, over);
                self.b.ins().iadd(n, over)
            }
            (t, s) if t.is_int64() && s.is_int32() => {
                if i.b & conv::SEXT != 0 {
                    self.b.ins().sextend(types::I64, x)
                } else {
                    self.b.ins().uextend(types::I64, x)
                }
            }
            (t, s) if t.is_int32() && s.is_int64() => self.b.ins().ireduce(types::I32, x),
            (t, s) if super::machine_type(t) == super::machine_type(s) => x,
            _ => return Err(Abort::CodeGeneration),
        };
        self.set(r, v);
        Ok(())
    }
}
