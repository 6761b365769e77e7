//! A small reference evaluator: the oracle for fold rules and lowering. It knows numbers, integers and
//! stack slots; it has no heap. What it does not know it reports as [`Stop::Unknown`].

use super::buffer::IrBuf;
use super::ins::{Ins, conv, fpm, sload};
use super::ops::{IrOp, Opnd};
use super::refs::{Ref, SnapNo};
use super::ty::Ty;

/// Bits of a value in its unboxed form: a double's bits, an integer sign-extended to 64 bits, an address.
pub type Bits = u64;

/// Why evaluation ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// A guard failed at this instruction.
    Exit(Ref),
    /// The trace ended without a loop.
    End,
    /// The evaluator does not know the instruction.
    Unknown(Ref),
    /// More rounds than allowed.
    Fuel,
}

/// Lua's modulo.
pub fn lua_mod(a: f64, b: f64) -> f64 {
    a - (a / b).floor() * b
}

/// 32-bit view of a number as `bit.*` takes it.
pub fn tobit(n: f64) -> i32 {
    (n + 6755399441055744.0).to_bits() as i32
}

/// Evaluates number arithmetic; `None` for operations that are not.
pub fn num_arith(op: IrOp, a: f64, b: f64) -> Option<f64> {
    Some(match op {
        IrOp::ADD => a + b,
        IrOp::SUB => a - b,
        IrOp::MUL => a * b,
        IrOp::DIV => a / b,
        IrOp::MOD => lua_mod(a, b),
        IrOp::POW => a.powf(b),
        IrOp::NEG => -a,
        IrOp::ABS => a.abs(),
        IrOp::LDEXP => a * 2f64.powf(b),
        IrOp::MIN => {
            if a < b {
                a
            } else {
                b
            }
        }
        IrOp::MAX => {
            if a > b {
                a
            } else {
                b
            }
        }
        _ => return None,
    })
}

/// Evaluates `FPMATH`.
pub fn fpmath(a: f64, f: u16) -> f64 {
    match f {
        fpm::FLOOR => a.floor(),
        fpm::CEIL => a.ceil(),
        fpm::TRUNC => a.trunc(),
        fpm::SQRT => a.sqrt(),
        fpm::LOG => a.ln(),
        fpm::LOG2 => a.log2(),
        fpm::EXP => a.exp(),
        fpm::SIN => a.sin(),
        fpm::COS => a.cos(),
        fpm::TAN => a.tan(),
        fpm::LOG10 => a.log10(),
        fpm::ASIN => a.asin(),
        fpm::ACOS => a.acos(),
        fpm::ATAN => a.atan(),
        fpm::SINH => a.sinh(),
        fpm::COSH => a.cosh(),
        _ => a.tanh(),
    }
}

/// Evaluates 32-bit integer arithmetic; `None` for other operations or on overflow of a checked one.
pub fn int_arith(op: IrOp, a: i32, b: i32) -> Option<i32> {
    let sh = b as u32 & 31;
    Some(match op {
        IrOp::ADD => a.wrapping_add(b),
        IrOp::SUB => a.wrapping_sub(b),
        IrOp::MUL => a.wrapping_mul(b),
        IrOp::NEG => a.wrapping_neg(),
        IrOp::ADDOV => return a.checked_add(b),
        IrOp::SUBOV => return a.checked_sub(b),
        IrOp::MULOV => return a.checked_mul(b),
        IrOp::BNOT => !a,
        IrOp::BSWAP => a.swap_bytes(),
        IrOp::BAND => a & b,
        IrOp::BOR => a | b,
        IrOp::BXOR => a ^ b,
        IrOp::BSHL => a << sh,
        IrOp::BSHR => (a as u32 >> sh) as i32,
        IrOp::BSAR => a >> sh,
        IrOp::BROL => a.rotate_left(sh),
        IrOp::BROR => a.rotate_right(sh),
        IrOp::MIN => a.min(b),
        IrOp::MAX => a.max(b),
        IrOp::MOD if b != 0 => {
            (a as i64).rem_euclid((b as i64).abs()) as i32 + {
                let m = (a as i64).rem_euclid((b as i64).abs());
                if b < 0 && m != 0 { b } else { 0 }
            }
        }
        _ => return None,
    })
}

/// Evaluates a comparison of numbers.
pub fn num_cmp(op: IrOp, a: f64, b: f64) -> bool {
    match op {
        IrOp::LT => a < b,
        IrOp::GE => a >= b,
        IrOp::LE => a <= b,
        IrOp::GT => a > b,
        IrOp::ULT => !(a >= b),
        IrOp::UGE => !(a < b),
        IrOp::ULE => !(a > b),
        IrOp::UGT => !(a <= b),
        IrOp::EQ => a == b,
        _ => a != b,
    }
}

/// Evaluates a comparison of 32-bit integers.
pub fn int_cmp(op: IrOp, a: i32, b: i32) -> bool {
    match op {
        IrOp::LT => a < b,
        IrOp::GE => a >= b,
        IrOp::LE => a <= b,
        IrOp::GT => a > b,
        IrOp::ULT => (a as u32) < b as u32,
        IrOp::UGE => a as u32 >= b as u32,
        IrOp::ULE => a as u32 <= b as u32,
        IrOp::UGT => a as u32 > b as u32,
        IrOp::EQ => a == b,
        _ => a != b,
    }
}

/// Exact conversion of a number to an integer, minus zero included.
pub fn num_to_int_exact(n: f64) -> Option<i32> {
    let i = n as i32;
    (i as f64 == n).then_some(i)
}

/// As [`num_to_int_exact`], where minus zero is no integer: as text it is another number.
pub fn num_to_index(n: f64) -> Option<i32> {
    num_to_int_exact(n).filter(|_| n.to_bits() != (-0f64).to_bits())
}

/// Evaluates one instruction on known operand bits. `Err(true)`: a guard failed; `Err(false)`: unknown.
pub fn eval_ins(i: &Ins, ta: Ty, a: Bits, b: Bits) -> Result<Bits, bool> {
    let (fa, fb) = (f64::from_bits(a), f64::from_bits(b));
    let guard = |ok: bool| if ok { Ok(0) } else { Err(true) };
    let int = |n: i32| n as i64 as u64;
    match i.op {
        op if op.is_comparison() => {
            if ta == Ty::Num {
                guard(num_cmp(op, fa, fb))
            } else if ta.is_int32() {
                guard(int_cmp(op, a as i32, b as i32))
            } else {
                match op {
                    IrOp::EQ => guard(a == b),
                    IrOp::NE => guard(a != b),
                    _ => Err(false),
                }
            }
        }
        IrOp::ABC => guard((b as u32) < a as u32),
        IrOp::CONV => {
            let src = conv::src(i.b);
            match (i.ty(), src) {
                (Ty::Num, Ty::U32) => Ok((a as u32 as f64).to_bits()),
                (Ty::Num, s) if s.is_int32() => Ok((a as i32 as f64).to_bits()),
                (Ty::Num, Ty::I64) => Ok((a as i64 as f64).to_bits()),
                (Ty::Int, Ty::Num) if i.b & (conv::CHECK | conv::INDEX) != 0 => {
                    num_to_int_exact(fa).map(int).ok_or(true)
                }
                (Ty::Int, Ty::Num) => Ok(int(fa as i32)),
                (Ty::I64, Ty::Int) if i.b & conv::SEXT != 0 => Ok(a),
                (Ty::I64 | Ty::U64, s) if s.is_int32() => Ok(a as u32 as u64),
                _ => Err(false),
            }
        }
        IrOp::TOBIT
            if i.is_guard() && (fa != fa.trunc() || fa.is_nan() || fa.abs() >= conv::WHOLE_MAX as f64) =>
        {
            Err(true)
        }
        IrOp::TOBIT => Ok(int(tobit(fa))),
        IrOp::FPMATH => Ok(fpmath(fa, i.b).to_bits()),
        op if i.ty() == Ty::Num => num_arith(op, fa, fb).map(f64::to_bits).ok_or(false),
        op @ (IrOp::ADDOV | IrOp::SUBOV | IrOp::MULOV) => {
            int_arith(op, a as i32, b as i32).map(int).ok_or(true)
        }
        op if i.ty().is_int32() => int_arith(op, a as i32, b as i32).map(int).ok_or(false),
        _ => Err(false),
    }
}

/// Evaluates a whole trace over stack slots. `slots[n]` is slot `n` as boxed bits (numbers as they are).
/// Returns why it stopped and the value of each instruction at that moment.
pub fn run(ir: &IrBuf, slots: &[u64], rounds_max: u32) -> (Stop, Vec<Bits>) {
    let mut val = vec![0u64; ir.len()];
    let mut rounds = 0;
    let mut at = Ref::FIRST;
    let lp = ir.loop_ref();
    loop {
        if at.ins_index() >= ir.len() || ir.ins(at).op == IrOp::PHI {
            let Some(lp) = lp else { return (Stop::End, val) };
            rounds += 1;
            if rounds > rounds_max {
                return (Stop::Fuel, val);
            }
            let moves: Vec<(Ref, u64)> = ir
                .refs()
                .filter(|&r| ir.ins(r).op == IrOp::PHI)
                .map(|r| (ir.ins(r).ra(), get(ir, &val, ir.ins(r).rb())))
                .collect();
            for (l, v) in moves {
                val[l.ins_index()] = v;
            }
            at = lp.next();
            continue;
        }
        let i = *ir.ins(at);
        match i.op {
            IrOp::NOP | IrOp::LOOP | IrOp::BASE | IrOp::STACK | IrOp::POLL | IrOp::GCSTEP | IrOp::USE => {}
            IrOp::SLOAD => {
                let v = slots[i.a as usize];
                let is_num = v < 0xfff9_0000_0000_0000;
                val[at.ins_index()] = match i.ty() {
                    Ty::Num if is_num => v,
                    Ty::Int if is_num => match num_to_int_exact(f64::from_bits(v)) {
                        Some(n) => n as i64 as u64,
                        None if i.b & sload::TYPECHECK != 0 => return (Stop::Exit(at), val),
                        None => return (Stop::Unknown(at), val),
                    },
                    Ty::Num | Ty::Int => return (Stop::Exit(at), val),
                    t if (!v >> 47) as u32 == t.tag_index() => v & ((1 << 47) - 1),
                    _ => return (Stop::Exit(at), val),
                };
            }
            _ => {
                let (ma, mb) = i.op.operands();
                let a = if ma == Opnd::Ref { get(ir, &val, i.ra()) } else { 0 };
                let b = if mb == Opnd::Ref { get(ir, &val, i.rb()) } else { 0 };
                let ta = if ma == Opnd::Ref { ir.ty(i.ra()) } else { Ty::Nil };
                match eval_ins(&i, ta, a, b) {
                    Ok(v) => val[at.ins_index()] = v,
                    Err(true) => return (Stop::Exit(at), val),
                    Err(false) => return (Stop::Unknown(at), val),
                }
            }
        }
        at = at.next();
    }
}

/// Bits of an operand.
pub fn get(ir: &IrBuf, val: &[Bits], r: Ref) -> Bits {
    if r.is_none() {
        0
    } else if r.is_const() {
        ir.k(r).bits
    } else {
        val[r.ins_index()]
    }
}

/// The snapshot a guard at `r` leaves through: the last one whose position is at or before it.
pub fn snap_of(positions: &[Ref], r: Ref) -> SnapNo {
    SnapNo::new(positions.iter().rposition(|&p| p <= r).unwrap_or(0))
}
